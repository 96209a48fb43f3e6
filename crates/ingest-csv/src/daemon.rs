//! The daemon: looks at the directory again and again, and takes what nobody writes to any more.
//!
//! The system's notifications only make it look sooner: they get lost on network drives and when too many come at once.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use staging::health::Speaker;
use staging::{Lander, Patience};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::importer::{Importer, Request};
use crate::scan::{self, Candidate, Found, Watchlist, logged};
use crate::{Error, FileReport, ImportOptions, Outcome, Settings, metrics};

/// After a notification, how long to wait for those that come with it.
const GATHER: Duration = Duration::from_millis(100);

/// Imports files as they are dropped, until `cancel` says stop. Waits for a directory that is not there and for a database
/// that does not answer; returns an error only for what will not pass by itself.
pub async fn run(
    settings: Settings,
    database: PgConnectOptions,
    lander: Lander,
    cancel: CancellationToken,
) -> Result<(), Error> {
    metrics::begin(&settings.source);
    let watchlist = Watchlist::new(settings.settle);
    let importer = Importer::new(settings, database, lander, cancel.clone())?;
    let mut daemon = Daemon {
        importer,
        watchlist,
        hint: Arc::new(Notify::new()),
        watcher: None,
        said_odd: HashSet::new(),
        said_unreadable: HashSet::new(),
        patience: None,
        trouble: None,
        last_file: None,
        reported: None,
        cancel,
    };
    match daemon.watch().await {
        Err(error) if error.is_cancelled() => Ok(()),
        outcome => outcome,
    }
}

struct Daemon {
    importer: Importer,
    watchlist: Watchlist,
    hint: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    /// Files that are no regular files or cannot be read; each is said once.
    said_odd: HashSet<PathBuf>,
    said_unreadable: HashSet<PathBuf>,
    /// Why the directory cannot be read, said once.
    trouble: Option<String>,
    last_file: Option<Value>,
    /// Set while the database does not do what it should.
    patience: Option<Patience<'static>>,
    /// What was reported last, and when.
    reported: Option<(Value, Instant)>,
    cancel: CancellationToken,
}

impl Daemon {
    async fn watch(&mut self) -> Result<(), Error> {
        loop {
            self.look().await;
            self.look_up_unmarked().await?;
            self.take_ready().await?;
            self.report().await;
            self.rest().await?;
        }
    }

    /// Looks at the directory off the async threads: it may lie on a drive that hangs.
    async fn look(&mut self) {
        self.listen();
        let (settings, names) = (Arc::clone(&self.importer.settings), Arc::clone(&self.importer.names));
        let looking = tokio::task::spawn_blocking(move || scan::scan(&settings.directory, &names));
        let found = match looking.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return self.say_trouble(&error.to_string()),
            Err(_) => return,
        };
        if self.trouble.take().is_some() {
            tracing::info!(source = self.importer.settings.source, "the directory can be read again");
        }
        self.say_odd(&found);
        self.watchlist.look(found, Instant::now());
    }

    fn say_trouble(&mut self, trouble: &str) {
        // A directory that is made anew is another one: the old watch sees nothing of it.
        self.watcher = None;
        if self.trouble.as_deref() != Some(trouble) {
            let settings = &self.importer.settings;
            tracing::warn!(
                source = settings.source,
                directory = %settings.directory.display(),
                trouble,
                "the directory cannot be read; waiting for it"
            );
            self.trouble = Some(trouble.to_owned());
        }
    }

    fn say_odd(&mut self, found: &Found) {
        for path in &found.odd {
            if self.said_odd.insert(path.clone()) {
                tracing::warn!(
                    source = self.importer.settings.source,
                    file = logged(path),
                    "not a regular file; left alone"
                );
            }
        }
        self.said_odd.retain(|path| found.odd.contains(path));
    }

    /// Asks the system for notifications, if it does not give them already.
    fn listen(&mut self) {
        if self.watcher.is_some() {
            return;
        }
        let hint = Arc::clone(&self.hint);
        let on_event = move |event: notify::Result<notify::Event>| {
            // Our own reading is no news.
            if !event.is_ok_and(|event| event.kind.is_access() && !is_close_after_write(event.kind)) {
                hint.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            watcher.watch(&self.importer.settings.directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                tracing::debug!(source = self.importer.settings.source, %error, "no notifications; looking from time to time");
            }
        }
    }

    /// Files that wait for their marker, unless they are finished with and have lost it.
    async fn look_up_unmarked(&mut self) -> Result<(), Error> {
        for (candidate, why) in self.watchlist.not_looked_up() {
            match self.importer.knows(&candidate.path).await {
                Ok(true) => self.watchlist.done(&candidate),
                Ok(false) => {
                    let source = &self.importer.settings.source;
                    tracing::warn!(source, file = logged(&candidate.path), why, "file is not taken yet");
                }
                // It only waits longer than it need be said to.
                Err(Error::Staging(error)) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn take_ready(&mut self) -> Result<(), Error> {
        let options = ImportOptions::default();
        for candidate in self.watchlist.ready(Instant::now()) {
            self.report().await;
            let request = Request { path: &candidate.path, is_named: false, is_daemon: true, options: &options };
            match self.importer.take(&request, &mut |_| {}).await {
                Ok(report) => {
                    if let Some(patience) = self.patience.take() {
                        patience.worked();
                    }
                    self.finish(&candidate, report);
                }
                Err(Error::Staging(error)) => {
                    let patience = self.patience.get_or_insert_with(|| Patience::new("importing files"));
                    patience.wait(&self.cancel, error).await?;
                    return Ok(());
                }
                Err(Error::TakenOver(source)) => {
                    tracing::warn!(source, "another process keeps taking over the import; trying again");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn finish(&mut self, candidate: &Candidate, report: Option<FileReport>) {
        let settings = &self.importer.settings;
        if let Some(report) = report {
            if matches!(report.state, Outcome::Changing | Outcome::Unreadable) {
                let why = report.reason.unwrap_or_default();
                if self.said_unreadable.insert(candidate.path.clone()) {
                    tracing::warn!(
                        source = settings.source,
                        file = logged(&candidate.path),
                        why,
                        "file cannot be read; trying again"
                    );
                }
                self.watchlist.postpone(candidate, Instant::now() + settings.scan_every);
                return;
            }
            self.last_file = Some(last_file(&report));
        }
        self.said_unreadable.remove(&candidate.path);
        self.watchlist.done(candidate);
    }

    /// Waits for the next look.
    async fn rest(&self) -> Result<(), Error> {
        let settings = &self.importer.settings;
        let pause = if self.watchlist.has_unsettled() {
            settings.settle.min(settings.scan_every)
        } else if !self.watchlist.ready(Instant::now()).is_empty() {
            Duration::ZERO
        } else {
            settings.scan_every
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.hint.notified() => {
                tokio::time::sleep(GATHER).await;
                Ok(())
            }
            () = self.cancel.cancelled() => Err(Error::Cancelled),
        }
    }

    /// Says what only the ingester knows, on change and from time to time; a database that does not answer is no reason to
    /// stop.
    async fn report(&mut self) {
        let settings = Arc::clone(&self.importer.settings);
        let now = Utc::now();
        let age = self.watchlist.longest_wait(Instant::now()).unwrap_or_default();
        metrics::oldest_unlanded(&settings.source, age);
        let mut health =
            json!({ "oldest_unlanded_seconds": age.as_secs(), "stopped": stopped(self.trouble.as_deref()) });
        if let Some(last_file) = &self.last_file {
            health["last_file"] = last_file.clone();
        }
        // What is not said again stays said.
        let waiting = self.watchlist.unmarked().into_iter().next();
        health["waiting"] = waiting
            .map_or(Value::Null, |(candidate, why)| json!({ "file": file_name(&candidate.path), "reason": why }));
        let is_news = self.reported.as_ref().is_none_or(|(said, at)| {
            let age = at.elapsed();
            (*said != health && age >= Duration::from_secs(1))
                || age >= settings.scan_every
                || said["last_file"] != health["last_file"]
        });
        if is_news {
            let said = staging_report(&mut self.importer, &settings.source, &health, now).await;
            if said.is_ok() {
                self.reported = Some((health, Instant::now()));
            }
        }
    }
}

async fn staging_report(
    importer: &mut Importer,
    source: &str,
    health: &Value,
    now: DateTime<Utc>,
) -> Result<(), staging::Error> {
    let holder = importer.session.take().await?;
    let reporting = async {
        let connection = &mut *holder.connection().await;
        staging::health::report(connection, source, Speaker::Daemon, health, now).await
    };
    holder.unless_lost(reporting).await?;
    importer.session.keep(holder);
    Ok(())
}

fn stopped(trouble: Option<&str>) -> Vec<String> {
    trouble.map(|trouble| format!("the directory cannot be read: {trouble}")).into_iter().collect()
}

fn last_file(report: &FileReport) -> Value {
    json!({
        "file": file_name(&report.file),
        "as_of": report.as_of,
        "state": report.state,
        "rows": report.rows,
        "dead_letters": report.dead_letters,
        "skipped": report.skipped,
        "reason": report.reason,
    })
}

fn file_name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

fn is_close_after_write(kind: notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    kind == notify::EventKind::Access(AccessKind::Close(AccessMode::Write))
}
