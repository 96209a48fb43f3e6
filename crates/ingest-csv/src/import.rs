//! `c360 import` and `run --once`: these files, or what the directory holds now, and then the end.

use std::path::PathBuf;

use sqlx::postgres::PgConnectOptions;
use staging::Lander;
use tokio_util::sync::CancellationToken;

use crate::importer::{Importer, Request};
use crate::scan::{self, Watchlist};
use crate::{Error, FileReport, ImportOptions, Progress, Settings};

/// Imports files, the oldest night first: those that are named, wherever they are, or else what the directory holds and
/// nobody is writing to. A file that is refused or cannot be read does not stop the others: the reports say so.
pub async fn import(
    settings: Settings,
    database: PgConnectOptions,
    lander: Lander,
    files: &[PathBuf],
    options: &ImportOptions,
    on_progress: &mut (dyn FnMut(&Progress) + Send),
    cancel: CancellationToken,
) -> Result<Vec<FileReport>, Error> {
    let mut importer = Importer::new(settings, database, lander, cancel.clone())?;
    let is_named = !files.is_empty();
    let files = if is_named { in_order(&importer, files)? } else { settled(&importer, &cancel).await? };
    let mut reports = Vec::new();
    for path in files {
        let request = Request { path: &path, follow: is_named, is_daemon: false, options };
        reports.extend(importer.take(&request, on_progress).await?);
    }
    Ok(reports)
}

/// The named files, the oldest night first.
fn in_order(importer: &Importer, files: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for path in files {
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NoSuchFile(path.clone()),
            _ => Error::io(path)(error),
        })?;
        found.push(scan::Candidate::new(path.clone(), &metadata, &importer.names));
    }
    found.sort();
    Ok(found.into_iter().map(|candidate| candidate.path).collect())
}

/// What the directory holds, once it has stayed the same; a file that goes on changing is left to the next import.
async fn settled(importer: &Importer, cancel: &CancellationToken) -> Result<Vec<PathBuf>, Error> {
    let settings = &importer.settings;
    let mut watchlist = Watchlist::new(settings.settle);
    let found = scan::scan(&settings.directory, &importer.names).map_err(Error::io(&settings.directory))?;
    let is_fresh = scan::any_fresh(&found, settings.settle);
    watchlist.look(found, std::time::Instant::now());
    if is_fresh {
        tokio::select! {
            () = tokio::time::sleep(settings.settle) => {}
            () = cancel.cancelled() => return Err(Error::Cancelled),
        }
        let found = scan::scan(&settings.directory, &importer.names).map_err(Error::io(&settings.directory))?;
        watchlist.look(found, std::time::Instant::now());
        return Ok(watchlist.ready(std::time::Instant::now()).into_iter().map(|candidate| candidate.path).collect());
    }
    Ok(watchlist.all().into_iter().map(|candidate| candidate.path).collect())
}
