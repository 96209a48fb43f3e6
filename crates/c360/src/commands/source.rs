//! `c360 source`

use std::io::{self, IsTerminal, Write};

use anyhow::anyhow;
use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use consolidate::retire::{self, Foreseen, Progress};
use serde_json::json;

use crate::cli::{self, SourceCommand};
use crate::commands::ask::says_yes;
use crate::commands::progress;
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::stop;
use status::words::{count, printable};

/// How many cross-references are named.
const SAMPLES: i64 = 10;
/// A source's clock may be ahead of ours by this; its records' times are cut to ours beyond it.
const MAX_AHEAD: TimeDelta = TimeDelta::minutes(5);

pub(super) async fn run(command: SourceCommand, config: Config) -> anyhow::Result<Exit> {
    match command {
        SourceCommand::Retire(args) => retire(&args, config).await,
    }
}

/// Retires: a progress bar on a terminal.
async fn retire(args: &cli::Retire, config: Config) -> anyhow::Result<Exit> {
    let now = Utc::now().trunc_subsecs(6);
    let before = args.before.unwrap_or(now);
    if before > now + MAX_AHEAD {
        let problem = anyhow!("--before {} is in the future: what comes until then would be dead", written(before));
        return Err(Exit::Usage.because(problem));
    }
    let cancel = stop::on_signal()?;
    let is_configured = config.sources.contains_key(&args.name);
    let installation = Installation::open(config).await?;
    installation.prepare_soon(&cancel).await?;
    let mut connection = staging::connect(&installation.database).await?;
    if !is_configured && !retire::is_known(&mut connection, &args.name).await? {
        let problem = anyhow!("no source is called {}, and nothing is known of one", args.name);
        return Err(Exit::NotFound.because(problem));
    }
    let foreseen = retire::foresee(&mut connection, &args.name, before, SAMPLES).await?;
    if args.dry_run {
        return Exit::Done.after(print(args, before, &foreseen, None));
    }
    if !args.yes && !confirmed(args, before, &foreseen)? {
        eprintln!("c360: nothing is retired");
        return Ok(Exit::Unexpected);
    }

    let id = retire::record(&mut connection, &args.name, before, Utc::now()).await?;
    let length = foreseen.cross_references.unsigned_abs();
    let bar = progress::bar(length, "{msg} [{bar:30}] {human_pos}/{human_len}, {eta} left");
    bar.set_message("waiting for the consolidator");
    let mut tell = |progress: &Progress| {
        bar.set_position(progress.tombstoned.unsigned_abs());
        bar.set_message(if progress.finished { "profiles follow" } else { "cross-references" });
    };
    let (rules, seal, database) = (installation.rules()?, installation.seal(), &installation.database);
    let progress = retire::carry_out(&rules, &seal, database, id, &mut tell, &cancel).await;
    bar.finish_and_clear();
    let progress = progress?;
    let printed = print(args, before, &foreseen, Some(progress));
    if !is_done(progress) {
        eprintln!("c360: stopped; the retirement holds, and whoever consolidates next goes on with it");
        return Exit::Unexpected.after(printed);
    }
    Exit::Done.after(printed)
}

fn is_done(progress: Progress) -> bool {
    progress.finished && progress.folded
}

/// Asks whoever sits there.
fn confirmed(args: &cli::Retire, before: DateTime<Utc>, foreseen: &Foreseen) -> anyhow::Result<bool> {
    let what = format!("what {} said before {}", printable(&args.name), written(before));
    if !io::stdin().is_terminal() {
        let problem = anyhow!("{what} would be retired, {}: say --yes", tombstoned(foreseen.cross_references));
        return Err(Exit::Usage.because(problem));
    }
    let question = format!(
        "Retire {what}? {} would be tombstoned, {} would vanish, {} would lose something.",
        tombstoned(foreseen.cross_references),
        count(foreseen.profiles_vanishing, "profile"),
        count(foreseen.profiles_losing, "profile"),
    );
    says_yes(&question)
}

/// What would be done, or with `progress` what is.
fn print(args: &cli::Retire, before: DateTime<Utc>, foreseen: &Foreseen, progress: Option<Progress>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let cross_references = progress.map_or(foreseen.cross_references, |progress| progress.tombstoned);
    let (losing, vanishing) = (foreseen.profiles_losing, foreseen.profiles_vanishing);
    if args.json {
        let mut document = json!({
            "source": args.name, "before": written(before), "dry_run": args.dry_run,
            "cross_references": cross_references, "trimmed": foreseen.trimmed,
            "profiles": {"vanish": vanishing, "change": losing}, "samples": foreseen.samples,
        });
        if let Some(progress) = progress {
            document["finished"] = json!(is_done(progress));
        }
        return writeln!(stdout, "{document}");
    }
    let (would, had) = if progress.is_none() { ("would be ", "would ") } else { ("", "") };
    writeln!(
        stdout,
        "{} before {}: {} {would}tombstoned; of profiles {} {had}vanish, {} {had}lose something",
        printable(&args.name),
        written(before),
        tombstoned(cross_references),
        vanishing,
        losing,
    )?;
    if foreseen.trimmed > 0 {
        let trimmed = tombstoned(foreseen.trimmed);
        writeln!(stdout, "{trimmed} {had}stay, without some values from before that time")?;
    }
    if args.dry_run {
        for sample in &foreseen.samples {
            let whose = match sample.customer_id {
                Some(id) => format!("customer {id}, who {}", if sample.vanishes { "vanishes" } else { "stays" }),
                None => "of no customer".to_owned(),
            };
            writeln!(stdout, "  {}: {whose}", printable(&sample.external_id))?;
        }
        let more = cross_references - i64::try_from(foreseen.samples.len()).unwrap_or_default();
        if more > 0 {
            writeln!(stdout, "  ... and {more} more")?;
        }
    }
    Ok(())
}

fn tombstoned(number: i64) -> String {
    count(number, "cross-reference")
}

fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
