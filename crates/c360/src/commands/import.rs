//! `c360 import`

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use consolidate::{Foreseen, Of, Preview};
use ingest_csv::{Error, FileReport, ImportOptions, Outcome, Progress, Settings, Sighting};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{foreseen, progress};
use crate::cli;
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::sources::{Ingester, ingester};
use crate::stop;

/// Parts of files between reading and looking what they would change.
const ROOM: usize = 2;

/// Imports files now: a progress bar on a terminal, one JSON line otherwise.
pub(super) async fn run(args: cli::Import, config: Config) -> anyhow::Result<Exit> {
    let source = config.source(&args.source)?.clone();
    let cancel = stop::on_signal()?;
    let installation = Installation::open(config).await?;
    let Ingester::Csv(settings) = ingester(&args.source, &source, &installation.key)? else {
        let kind = source.kind.name();
        return Err(Exit::Usage.because(anyhow::anyhow!("source {} is of kind {kind}: it has no files", args.source)));
    };
    installation.prepare_soon(&cancel).await?;
    let (files, foreseen) = if args.dry_run {
        dry_run(&args, settings, &installation, &cancel).await?
    } else {
        let options = ImportOptions { accept: args.accept, again: args.again, ..ImportOptions::default() };
        let files = import(&args, settings, &installation, &options, &cancel).await?;
        consolidate::catch_up(&installation.rules()?, &installation.seal(), &installation.database, &cancel).await?;
        (files, BTreeMap::new())
    };
    exit(&files).after(print(&files, &foreseen))
}

async fn import(
    args: &cli::Import,
    settings: Settings,
    installation: &Installation,
    options: &ImportOptions,
    cancel: &CancellationToken,
) -> anyhow::Result<Vec<FileReport>> {
    let bar = progress::bar(0, "{msg} [{bar:30}] {bytes}/{total_bytes}, {eta} left");
    let mut show = |progress: &Progress| {
        bar.set_length(progress.bytes);
        bar.set_position(progress.bytes_landed);
        bar.set_message(format!("{}: {} rows", progress.file, progress.rows));
    };
    let (database, lander) = (installation.database.clone(), installation.lander());
    let imported =
        ingest_csv::import(settings, database, lander, &args.files, options, &mut show, cancel.clone()).await;
    bar.finish_and_clear();
    imported.map_err(with_exit)
}

/// Reads everything, lands nothing, and looks what each file that would be published would change, by itself.
async fn dry_run(
    args: &cli::Import,
    settings: Settings,
    installation: &Installation,
    cancel: &CancellationToken,
) -> anyhow::Result<(Vec<FileReport>, BTreeMap<PathBuf, Foreseen>)> {
    let of = Of::File { full_export: settings.full_export, again: args.again };
    let (sender, sightings) = mpsc::channel(ROOM);
    let options = ImportOptions {
        dry_run: true,
        sightings: Some(sender),
        accept: args.accept,
        again: args.again,
        ..ImportOptions::default()
    };
    let reading = async move {
        // The options go with it: their end of the channel is what ends looking.
        import(args, settings, installation, &options, cancel).await
    };
    let (files, foreseen) = tokio::join!(reading, look(&args.source, of, installation, sightings));
    Ok((files?, foreseen?))
}

async fn look(
    source: &str,
    of: Of,
    installation: &Installation,
    mut sightings: mpsc::Receiver<Sighting>,
) -> anyhow::Result<BTreeMap<PathBuf, Foreseen>> {
    let rules = installation.rules()?;
    let database = &installation.database;
    let is_full_export = matches!(of, Of::File { full_export: true, .. });
    let mut foreseen = BTreeMap::new();
    let mut under_way = None;
    while let Some(sighting) = sightings.recv().await {
        match sighting {
            Sighting::Begins(path) => {
                under_way = Some((path, Preview::begin(database, &rules, source, of).await?));
            }
            Sighting::Rows(rows) => {
                if let Some((_, preview)) = &mut under_way {
                    preview.add(rows.records).await?;
                    if is_full_export {
                        preview.note_members(&rows.bad_ids).await?;
                    }
                }
            }
            Sighting::Ends { is_published, position, as_of } => {
                if let Some((path, mut preview)) = under_way.take().filter(|_| is_published) {
                    if is_full_export {
                        preview.end_export(position, as_of).await?;
                    }
                    foreseen.insert(path, preview.finish().await?);
                }
            }
        }
    }
    Ok(foreseen)
}

fn with_exit(error: Error) -> anyhow::Error {
    let exit = match &error {
        Error::NoSuchFile(_) => Exit::NotFound,
        Error::Locked(_) | Error::TakenOver(_) => Exit::Locked,
        Error::Pattern { .. } => Exit::Configuration,
        Error::Staging(error) => error.into(),
        Error::Io { .. } => Exit::OutOfReach,
        Error::Cancelled | Error::Parser(_) => Exit::Unexpected,
    };
    exit.because(error)
}

/// For people on a terminal, one JSON line for scripts.
fn print(files: &[FileReport], foreseen: &BTreeMap<PathBuf, Foreseen>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    if !stdout.is_terminal() {
        let document = |file: &FileReport| -> serde_json::Result<serde_json::Value> {
            let mut document = serde_json::to_value(file)?;
            if file.dry_run {
                document["would_be"] = document["state"].clone();
            }
            if let Some(foreseen) = foreseen.get(&file.file) {
                document["foreseen"] = foreseen::document(foreseen);
            }
            Ok(document)
        };
        let files = files.iter().map(document).collect::<Result<Vec<_>, _>>()?;
        writeln!(stdout, "{}", serde_json::json!({ "files": files }))?;
        return Ok(());
    }
    if files.is_empty() {
        writeln!(stdout, "There is no file to import.")?;
    }
    for file in files {
        writeln!(stdout, "{}", line(file))?;
        if let Some(foreseen) = foreseen.get(&file.file) {
            foreseen::print(&mut stdout, foreseen)?;
        }
    }
    Ok(())
}

/// What became of a file, or would.
fn line(file: &FileReport) -> String {
    let state = match (file.state, file.dry_run) {
        (Outcome::Imported, false) => "imported",
        (Outcome::Imported, true) => "would be imported",
        (Outcome::Copy, false) => "skipped, it is a copy",
        (Outcome::Copy, true) => "would be skipped, it is a copy",
        (Outcome::Superseded, false) => "skipped, it is superseded",
        (Outcome::Superseded, true) => "would be skipped, it is superseded",
        (Outcome::Refused, false) => "refused",
        (Outcome::Refused, true) => "would be refused",
        (Outcome::Changing, _) => "not finished by its writer, left to the next import",
        (Outcome::Unreadable, _) => "cannot be read",
    };
    let reason = file.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let as_of = file.as_of.map(|as_of| format!("as of {}, ", as_of.format("%F %T"))).unwrap_or_default();
    let dialect = match (file.encoding, file.delimiter) {
        (Some(encoding), Some(delimiter)) => format!("{encoding}, delimiter {delimiter:?}, "),
        _ => String::new(),
    };
    format!(
        "{}: {state}{reason} ({as_of}{dialect}{} rows, {} dead letters, {} skipped, {:.1} s)",
        file.file.display(),
        file.rows,
        file.dead_letters,
        file.skipped,
        file.seconds
    )
}

fn exit(files: &[FileReport]) -> Exit {
    let of = |file: &FileReport| match file.state {
        Outcome::Refused | Outcome::Unreadable => Exit::Refused,
        Outcome::Changing => Exit::Locked,
        Outcome::Imported if file.dead_letters > 0 => Exit::DoneWithDeadLetters,
        Outcome::Imported | Outcome::Copy | Outcome::Superseded => Exit::Done,
    };
    files.iter().map(of).fold(Exit::Done, Exit::and)
}
