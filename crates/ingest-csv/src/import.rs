//! `c360 import` and `run --once`: these files, or what the directory holds now, and then the end.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sqlx::postgres::PgConnectOptions;
use staging::Lander;
use tokio_util::sync::CancellationToken;

use crate::importer::{Importer, Request};
use crate::scan::{self, Candidate, Found, Watchlist, logged};
use crate::{Error, FileReport, ImportOptions, Outcome, Progress, Settings};

/// Imports files, the oldest night first: those that are named, wherever they are, or else what the directory holds. A file
/// that is refused, cannot be read, or is not finished by its writer does not stop the others: the reports say so.
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
    let (files, unfinished) = if is_named {
        (in_order(&importer, files)?, Vec::new())
    } else {
        let watchlist = settled(&importer, &cancel).await?;
        (paths(watchlist.ready(Instant::now())), unfinished(&mut importer, &watchlist, options).await?)
    };
    let mut reports = Vec::new();
    for path in files {
        let request = Request { path: &path, is_named, is_daemon: false, options };
        reports.extend(importer.take(&request, on_progress).await?);
    }
    reports.extend(unfinished);
    Ok(reports)
}

fn paths(candidates: Vec<Candidate>) -> Vec<PathBuf> {
    candidates.into_iter().map(|candidate| candidate.path).collect()
}

/// The named files, the oldest night first.
fn in_order(importer: &Importer, files: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for path in files {
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NoSuchFile(path.clone()),
            _ => Error::io(path)(error),
        })?;
        found.push(Candidate::new(path.clone(), &metadata, &importer.names));
    }
    found.sort();
    Ok(paths(found))
}

/// What the directory holds, looked at long enough to know what stays the same.
async fn settled(importer: &Importer, cancel: &CancellationToken) -> Result<Watchlist, Error> {
    let settle = importer.settings.settle;
    let mut watchlist = Watchlist::new(settle);
    let found = look(importer)?;
    for path in &found.odd {
        tracing::warn!(source = importer.settings.source, file = logged(path), "not a regular file; left alone");
    }
    let is_fresh = scan::any_fresh(&found, settle);
    let looked = Instant::now();
    watchlist.look(found, looked);
    if !is_fresh {
        // What was last written to long ago needs no waiting.
        watchlist.look(look(importer)?, looked + settle);
        return Ok(watchlist);
    }
    tokio::select! {
        () = tokio::time::sleep(settle) => {}
        () = cancel.cancelled() => return Err(Error::Cancelled),
    }
    watchlist.look(look(importer)?, Instant::now());
    Ok(watchlist)
}

fn look(importer: &Importer) -> Result<Found, Error> {
    let directory = &importer.settings.directory;
    // Whoever reads the error may be in another directory than the program.
    let absolute = || std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
    scan::scan(directory, &importer.names).map_err(|error| Error::io(absolute())(error))
}

/// Reports of files that are left to the next import: nobody is to think that there was nothing.
async fn unfinished(
    importer: &mut Importer,
    watchlist: &Watchlist,
    options: &ImportOptions,
) -> Result<Vec<FileReport>, Error> {
    let report = |path: &Path, why: String| FileReport {
        state: Outcome::Changing,
        reason: Some(why),
        ..FileReport::new(path.to_owned(), options.dry_run)
    };
    let written = "somebody still writes to it, or to a file of an older night".to_owned();
    let unready = watchlist.unready(Instant::now());
    let mut reports: Vec<FileReport> =
        unready.into_iter().map(|candidate| report(&candidate.path, written.clone())).collect();
    for (candidate, why) in watchlist.unmarked() {
        // Those that are finished with may have lost their marker.
        if !importer.knows(&candidate.path).await? {
            reports.push(report(&candidate.path, why));
        }
    }
    Ok(reports)
}
