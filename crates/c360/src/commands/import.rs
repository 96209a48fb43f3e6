//! `c360 import`

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use ingest_csv::{Error, FileReport, ImportOptions, Outcome, Progress};

use crate::cli;
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::sources::{Ingester, ingester};
use crate::stop;

/// Imports files now: a progress bar on a terminal, one JSON line otherwise.
pub(super) async fn run(args: cli::Import, config: Config) -> anyhow::Result<Exit> {
    let Some(source) = config.sources.get(&args.source) else {
        return Err(Exit::NotFound.because(anyhow::anyhow!("no source is called {}", args.source)));
    };
    let source = source.clone();
    let cancel = stop::on_signal()?;
    let installation = Installation::open(config).await?;
    let Ingester::Csv(settings) = ingester(&args.source, &source, &installation.key)? else {
        let kind = source.kind.name();
        return Err(Exit::Usage.because(anyhow::anyhow!("source {} is of kind {kind}: it has no files", args.source)));
    };
    installation.prepare_soon().await?;
    let options =
        ImportOptions { dry_run: args.dry_run, accept: args.accept, again: args.again, ..ImportOptions::default() };
    let bar = std::io::stderr().is_terminal().then(progress_bar);
    let mut show = |progress: &Progress| {
        if let Some(bar) = &bar {
            bar.set_length(progress.bytes);
            bar.set_position(progress.bytes_landed);
            bar.set_message(format!("{}: {} rows", progress.file, progress.rows));
        }
    };
    let (database, lander) = (installation.database.clone(), installation.lander());
    let imported =
        ingest_csv::import(settings, database, lander, &args.files, &options, &mut show, cancel.clone()).await;
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let files = imported.map_err(with_exit)?;
    if !args.dry_run {
        consolidate::catch_up(&installation.rules()?, &installation.seal(), &installation.database, &cancel).await?;
    }
    print(&files)?;
    Ok(exit(&files))
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn with_exit(error: Error) -> anyhow::Error {
    let exit = match &error {
        Error::NoSuchFile(_) => Exit::NotFound,
        Error::Locked(_) | Error::TakenOver(_) => Exit::Locked,
        Error::Pattern { .. } => Exit::Configuration,
        Error::Staging(error) if error.is_transient() => Exit::OutOfReach,
        Error::Io { .. } => Exit::OutOfReach,
        Error::Staging(_) | Error::Cancelled | Error::Parser(_) => Exit::Unexpected,
    };
    exit.because(error)
}

/// For people on a terminal, one JSON line for scripts.
fn print(files: &[FileReport]) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() {
        println!("{}", serde_json::to_string(&serde_json::json!({ "files": files }))?);
        return Ok(());
    }
    if files.is_empty() {
        println!("There is no file to import.");
    }
    for file in files {
        let state = serde_json::to_value(file.state)?;
        let state = state.as_str().unwrap_or_default();
        let reason = file.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        println!(
            "{}: {state}{reason} ({} rows, {} dead letters, {} skipped, {:.1} s)",
            file.file.display(),
            file.rows,
            file.dead_letters,
            file.skipped,
            file.seconds
        );
    }
    Ok(())
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
