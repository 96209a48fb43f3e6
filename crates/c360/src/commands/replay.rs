//! `c360 replay`

use std::io::{self, IsTerminal, Write};

use consolidate::{Foreseen, Of, Preview};
use ingest_kafka::{CaughtUp, Counts, Error, Part, Place, Replay, Request};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{foreseen, progress};
use crate::cli;
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::sources::{Ingester, ingester};
use crate::stop;

/// Chunks of records between reading and looking what they would change.
const ROOM: usize = 2;
const BAR: &str = "[{bar:30}] {human_pos}/{human_len} messages, {per_sec}, {eta} left";

/// Lands messages again: a progress bar on a terminal, one JSON line otherwise.
pub(super) async fn run(args: cli::Replay, config: Config) -> anyhow::Result<Exit> {
    let source = config.source(&args.source)?.clone();
    let cancel = stop::on_signal()?;
    let installation = Installation::open(config).await?;
    let Ingester::Kafka(settings) = ingester(&args.source, &source, &installation.key)? else {
        let instead = match source.kind.name() {
            "csv" => format!("c360 import {} --again FILE", args.source),
            _ => format!("c360 refresh {}", args.source),
        };
        let problem = anyhow::anyhow!("source {} is not of Kafka; what does it for that kind: {instead}", args.source);
        return Err(Exit::Usage.because(problem));
    };
    installation.prepare_soon(&cancel).await?;
    let request = request(&args);
    let replay = Replay::plan(settings, &installation.database, request.clone()).await.map_err(with_exit)?;
    if args.dry_run {
        return dry_run(&installation, &args.source, &replay, &cancel).await;
    }

    if std::io::stderr().is_terminal() {
        describe(&replay);
    }
    let bar = progress::bar(replay.messages(), BAR);
    let landed = replay.run(installation.lander(), &mut |messages| bar.set_position(messages), &cancel).await;
    bar.finish_and_clear();
    let landed = landed.map_err(with_exit)?;
    let drained =
        consolidate::catch_up(&installation.rules()?, &installation.seal(), &installation.database, &cancel).await?;
    let finished = !cancel.is_cancelled() && landed.stopped.is_empty();
    let printed = if io::stdout().is_terminal() {
        print_landed(&landed, drained.profiles)
    } else {
        let document = json!({
            "source": args.source, "request": request.to_string(), "finished": finished, "parts": replay.parts(),
            "records": landed.records, "dead_letters": landed.dead_letters, "skipped": landed.skipped,
            "profiles": drained.profiles, "stopped": stopped(&landed),
        });
        writeln!(io::stdout(), "{document}")
    };
    if cancel.is_cancelled() {
        eprintln!("c360: stopped; the same command goes on from here");
        return Exit::Unexpected.after(printed);
    }
    let exit = if landed.stopped.is_empty() { Exit::Done } else { Exit::OutOfReach };
    exit.after(printed)
}

fn request(args: &cli::Replay) -> Request {
    let place = |offset: Option<i64>, time: Option<_>| offset.map(Place::Offset).or(time.map(Place::Time));
    Request {
        topic: args.topic.clone(),
        partition: args.partition,
        from: place(args.from_offset, args.from),
        to: place(args.to_offset, args.to),
        new_epoch: args.new_epoch,
    }
}

/// Says what would be landed, and which profiles that would change.
async fn dry_run(
    installation: &Installation,
    source: &str,
    replay: &Replay,
    cancel: &CancellationToken,
) -> anyhow::Result<Exit> {
    let rules = installation.rules()?;
    let bar = progress::bar(replay.messages(), BAR);
    let (sender, mut records) = mpsc::channel::<Vec<model::Record>>(ROOM);
    let looking = async {
        let mut preview = Preview::begin(&installation.database, &rules, source, Of::Replay).await?;
        while let Some(chunk) = records.recv().await {
            bar.inc(chunk.len() as u64);
            preview.add(chunk).await?;
        }
        preview.finish().await
    };
    let (counts, foreseen) = tokio::join!(replay.read(sender, cancel), looking);
    bar.finish_and_clear();
    let (counts, foreseen) = (counts.map_err(with_exit)?, foreseen?);
    if cancel.is_cancelled() {
        return Ok(Exit::Unexpected);
    }
    if io::stdout().is_terminal() {
        describe(replay);
        print_foreseen(&counts, &foreseen)?;
    } else {
        let mut document = json!({
            "source": source, "dry_run": true, "parts": replay.parts(),
            "records": counts.records, "dead_letters": counts.dead_letters, "skipped": counts.skipped,
        });
        if let (Some(document), serde_json::Value::Object(more)) =
            (document.as_object_mut(), foreseen::document(&foreseen))
        {
            document.extend(more);
        }
        writeln!(io::stdout(), "{document}")?;
    }
    Ok(Exit::Done)
}

fn describe(replay: &Replay) {
    if replay.parts().is_empty() {
        eprintln!("There is nothing to land again.");
    }
    for Part { topic, partition, next_offset, end_offset, rewinds, stored, .. } in replay.parts() {
        let how = match (rewinds, stored) {
            (false, _) => "beside the daemon".to_owned(),
            (true, Some(stored)) => format!("the source goes on from here; its progress was {stored}"),
            (true, None) => "the source begins here".to_owned(),
        };
        eprintln!("{topic}/{partition}: offsets {next_offset} to before {end_offset}, {how}");
    }
}

fn print_foreseen(counts: &Counts, foreseen: &Foreseen) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(
        stdout,
        "{} records, {} dead letters, {} skipped; {} customer records are news",
        counts.records, counts.dead_letters, counts.skipped, foreseen.news
    )?;
    foreseen::print(&mut stdout, foreseen)
}

fn print_landed(landed: &CaughtUp, profiles: usize) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(
        stdout,
        "{} records landed again, {} dead letters, {} skipped; {profiles} profiles written",
        landed.records, landed.dead_letters, landed.skipped
    )?;
    for stopped in &landed.stopped {
        writeln!(stdout, "{}/{} is stopped: {}", stopped.topic, stopped.partition, stopped.reason)?;
    }
    Ok(())
}

fn stopped(landed: &CaughtUp) -> Vec<serde_json::Value> {
    landed
        .stopped
        .iter()
        .map(|stopped| json!({"topic": stopped.topic, "partition": stopped.partition, "reason": stopped.reason}))
        .collect()
}

fn with_exit(error: Error) -> anyhow::Error {
    let exit = match &error {
        Error::Configuration { .. } => Exit::Configuration,
        Error::UnknownTopic { .. } | Error::NotItsTopic { .. } => Exit::NotFound,
        Error::Replay { .. } => Exit::Usage,
        Error::Moved { .. } | Error::Taken { .. } => Exit::Locked,
        Error::Unreachable { .. } | Error::Registry { .. } => Exit::OutOfReach,
        Error::Staging(error) => error.into(),
        Error::Client { .. } | Error::Fenced { .. } | Error::Thread { .. } => Exit::Unexpected,
    };
    exit.because(error)
}
