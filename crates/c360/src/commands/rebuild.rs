//! `c360 rebuild`

use std::io::{self, IsTerminal};

use chrono::Utc;
use consolidate::rebuild::{self, Changed, Foreseen, Progress};
use consolidate::{Change, ProfileChange};
use serde_json::json;

use super::{print, progress};
use crate::cli;
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::stop;

/// How many profiles of each kind a dry run names.
const SAMPLES: usize = 10;

/// Rebuilds: a progress bar on a terminal, one JSON line otherwise.
pub(super) async fn run(args: cli::Rebuild, config: Config) -> anyhow::Result<Exit> {
    let cancel = stop::on_signal()?;
    let installation = Installation::open(config).await?;
    installation.prepare_soon(&cancel).await?;
    let rules = installation.rules()?;
    if args.dry_run {
        let foreseen = rebuild::foresee(&installation.database, &rules, SAMPLES, &cancel).await?;
        let mut connection = staging::connect(&installation.database).await?;
        let is_refused = rebuild::is_refused(&mut connection, &rules).await?;
        let printed = print_foreseen(&args, &foreseen);
        if is_refused {
            eprintln!("c360: {}", consolidate::Error::OtherRules);
        }
        let exit = match (foreseen.is_cut_off, is_refused) {
            (true, _) => Exit::Unexpected,
            (false, true) => Exit::Locked,
            (false, false) => Exit::Done,
        };
        return exit.after(printed);
    }
    let mut connection = staging::connect(&installation.database).await?;
    let recorded = rebuild::record(&mut connection, &rules, Utc::now()).await?;
    if recorded.goes_on && std::io::stderr().is_terminal() {
        eprintln!("c360: goes on with a rebuild that was stopped");
    }
    let bar = progress::bar(0, "rebuilding [{bar:30}] {human_pos}/{human_len}, {eta} left");
    let mut tell = |progress: &Progress| {
        bar.set_length(progress.total.unsigned_abs());
        bar.set_position(progress.done.unsigned_abs());
    };
    let (seal, database, id) = (installation.seal(), &installation.database, recorded.rebuild_id);
    let progress = rebuild::carry_out(&rules, &seal, database, id, &mut tell, &cancel).await;
    bar.finish_and_clear();
    let progress = progress?;
    let changed = rebuild::changed(&mut connection, id).await?;
    let printed = print_changed(&args, progress, changed);
    if !progress.finished {
        eprintln!("c360: stopped; the same command, or whoever consolidates next, goes on with it");
        return Exit::Unexpected.after(printed);
    }
    Exit::Done.after(printed)
}

fn print_foreseen(args: &cli::Rebuild, foreseen: &Foreseen) -> io::Result<()> {
    let Foreseen { appear, vanish, change, samples, is_cut_off } = foreseen;
    let document = json!({
        "dry_run": true, "finished": !is_cut_off,
        "profiles": {"appear": appear, "vanish": vanish, "change": change}, "samples": samples,
    });
    let line = |sample: &ProfileChange| {
        let what = match sample.change {
            Change::Appears => "appears".to_owned(),
            Change::Vanishes => "vanishes".to_owned(),
            Change::Changes => format!("changes: {}", sample.attributes.join(", ")),
        };
        format!("  {} {what}\n", sample.customer_id)
    };
    print(args.json || !io::stdout().is_terminal(), &document, || {
        let lines: String = samples.iter().map(line).collect();
        let end = if *is_cut_off { "stopped before everything was looked at\n" } else { "" };
        format!("profiles: {appear} would appear, {vanish} vanish, {change} change\n{lines}{end}")
    })
}

fn print_changed(args: &cli::Rebuild, progress: Progress, changed: Changed) -> io::Result<()> {
    let Changed { appeared, vanished, changed } = changed;
    let document = json!({
        "dry_run": false, "finished": progress.finished, "done": progress.done, "total": progress.total,
        "profiles": {"appear": appeared, "vanish": vanished, "change": changed},
    });
    print(args.json || !io::stdout().is_terminal(), &document, || {
        format!("profiles: {appeared} appeared, {vanished} vanished, {changed} changed\n")
    })
}
