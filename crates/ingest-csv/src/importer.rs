//! Taking one file: what it is, landing it, publishing it as a whole.

mod landing;
mod passing;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use model::Position;
use sqlx::postgres::PgConnectOptions;
use staging::Lander;
use staging::imports::{self, File, Import, State};
use tokio_util::sync::CancellationToken;

use crate::marker;
use crate::name::Names;
use crate::parse::{Counts, Origin};
use crate::reading::{self, End, Event, Opened};
use crate::scan::logged;
use crate::session::Session;
use crate::verdict::{self, Ledger, Verdict};
use crate::{Error, FileReport, ImportOptions, Outcome, Progress, Settings, Sighting, metrics};
use landing::Landed;
use passing::Judged;

/// No file is of a time that is further ahead than this: some hosts are behind, and some days begin earlier than ours.
const MAX_AHEAD: TimeDelta = TimeDelta::days(1);
/// How often a file starts again because it changes or somebody takes it over.
const MAX_ATTEMPTS: usize = 5;

/// Who wants the file, and how.
pub(crate) struct Request<'a> {
    pub(crate) path: &'a Path,
    /// Whether an operator named it: it may be a symlink then, and is imported whatever is known of it.
    pub(crate) is_named: bool,
    /// Whether a file that was finished with before is passed over in silence.
    pub(crate) is_daemon: bool,
    pub(crate) options: &'a ImportOptions,
}

pub(crate) struct Importer {
    pub(crate) settings: Arc<Settings>,
    pub(crate) names: Arc<Names>,
    pub(crate) session: Session,
    lander: Lander,
    cancel: CancellationToken,
}

/// One try.
enum Tried {
    Done(Box<FileReport>),
    /// Known before, and nobody asked for it.
    Known,
    Changed(Box<FileReport>),
    TakenOver,
}

pub(crate) type OnProgress<'a> = &'a mut (dyn FnMut(&Progress) + Send);

impl Importer {
    pub(crate) fn new(
        settings: Settings,
        database: PgConnectOptions,
        lander: Lander,
        cancel: CancellationToken,
    ) -> Result<Self, Error> {
        let names = Arc::new(Names::new(&settings)?);
        Ok(Self { settings: Arc::new(settings), names, session: Session::new(database), lander, cancel })
    }

    /// Takes a file to its end, whatever that is; `None` if it was finished with before and the request does not care.
    pub(crate) async fn take(
        &mut self,
        request: &Request<'_>,
        on_progress: OnProgress<'_>,
    ) -> Result<Option<FileReport>, Error> {
        let started = Instant::now();
        let mut last = None;
        for _ in 0..MAX_ATTEMPTS {
            let tried = self.attempt(request, on_progress).await;
            let tried = self.leave(tried, request).await?;
            match tried {
                Tried::Done(mut report) => {
                    report.seconds = started.elapsed().as_secs_f64();
                    return Ok(Some(*report));
                }
                Tried::Known => return Ok(None),
                Tried::Changed(report) => last = Some(report),
                Tried::TakenOver => last = None,
            }
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        let Some(mut report) = last else { return Err(Error::TakenOver(self.settings.source.clone())) };
        report.state = Outcome::Changing;
        report.reason = Some("the file is being written to".to_owned());
        report.seconds = started.elapsed().as_secs_f64();
        Ok(Some(*report))
    }

    /// Whether a file was finished with before; not, as far as anybody knows, if it cannot be read.
    pub(crate) async fn knows(&mut self, path: &Path) -> Result<bool, Error> {
        match self.open(path, false).await? {
            Ok(opened) => {
                let file = self.describe(path, &opened);
                Ok(self.look_up(&file).await?.knows(&file))
            }
            Err(_) => Ok(false),
        }
    }

    /// Gives the lock back; after an error the next importer cleans up.
    async fn leave(&mut self, tried: Result<Tried, Error>, request: &Request<'_>) -> Result<Tried, Error> {
        match tried {
            Ok(tried) => {
                if !request.options.dry_run {
                    self.session.unlock(&self.settings.source).await?;
                }
                Ok(tried)
            }
            Err(error) => {
                self.session = self.session.renewed();
                Err(error)
            }
        }
    }

    async fn attempt(&mut self, request: &Request<'_>, on_progress: OnProgress<'_>) -> Result<Tried, Error> {
        let started = Instant::now();
        let mut report = FileReport::new(request.path.to_owned(), request.options.dry_run);
        let opened = match self.open(request.path, request.is_named).await? {
            Ok(opened) => opened,
            Err(end) => return Self::not_read(end, report),
        };
        let mut file = self.describe(request.path, &opened);
        report.as_of = Some(file.as_of);
        report.sha256 = Some(file.sha256.clone());
        let source = self.settings.source.clone();
        let wait = (!request.is_daemon).then_some(request.options.wait);
        self.session.lock(&source, wait, &self.cancel).await?;
        if request.options.dry_run {
            // It only had to be seen that nobody else imports.
            self.session.unlock(&source).await?;
        } else {
            let leftovers = self.abandon_leftovers().await?;
            if leftovers > 0 {
                tracing::info!(source, "an import was interrupted; what it had landed is abandoned");
            }
        }
        let ledger = self.look_up(&file).await?;
        if request.is_daemon && ledger.knows(&file) {
            return Ok(Tried::Known);
        }
        let state = match ledger.judge(&file, request.options.again) {
            // One of several of its night, which lies there for years.
            Verdict::Import if ledger.was_imported(&file) && !request.is_named && !request.options.again => {
                return Ok(Tried::Known);
            }
            Verdict::Import => {
                step_past(&mut file, ledger.newest.as_ref());
                let before = self.rows_before(ledger.newest.as_ref()).await?;
                let opened = if ledger.was_refused(&file) && !request.options.accept && !report.dry_run {
                    match self.judge_again(request, &mut report, &file, opened, before).await? {
                        Judged::Import(opened) => opened,
                        Judged::Refused => return Ok(Tried::Done(Box::new(report))),
                        Judged::Not(end) => return Self::not_read(end, report),
                    }
                } else {
                    opened
                };
                let tried = self.import(request, report, &file, opened, before, on_progress).await?;
                if let Tried::Done(report) = &tried
                    && !report.dry_run
                {
                    let state = if report.state == Outcome::Imported { State::Imported } else { State::Refused };
                    metrics::finished(&source, state, started.elapsed());
                }
                return Ok(tried);
            }
            Verdict::Copy => {
                report.rows = ledger.rival.as_ref().map_or(0, |rival| rival.row_count.unsigned_abs());
                State::Copy
            }
            Verdict::Superseded => {
                if let Some(noted) = ledger.noted(&file, State::Superseded) {
                    report.rows = noted.row_count.unsigned_abs();
                } else {
                    match self.read_through(&mut report, &file, opened).await? {
                        End::Whole(_) | End::Refused(_) => {}
                        end => return Self::not_read(end, report),
                    }
                }
                State::Superseded
            }
        };
        let is_noted = ledger.noted(&file, state).is_some();
        self.pass_over(report, &file, state, is_noted).await
    }

    /// Opens and hashes a file, on a thread that stops when nobody waits for it any more.
    async fn open(&self, path: &Path, follow: bool) -> Result<Result<Opened, End>, Error> {
        let stop = self.cancel.child_token();
        let _stop_hashing_when_dropped = stop.clone().drop_guard();
        reading::open(path.to_owned(), follow, stop).await
    }

    fn describe(&self, path: &Path, opened: &Opened) -> File {
        let file_name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let mtime = opened.identity.mtime();
        let as_of = self.names.as_of(&file_name);
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        File {
            source: self.settings.source.clone(),
            directory: path.parent().unwrap_or(&path).to_string_lossy().into_owned(),
            file_name,
            as_of: as_of.unwrap_or(mtime),
            mtime,
            dated: as_of.is_some(),
            full_export: self.settings.full_export,
            sha256: opened.sha256.clone(),
        }
    }

    async fn look_up(&mut self, file: &File) -> Result<Ledger, Error> {
        let holder = self.session.take().await?;
        let looking = async {
            let mut connection = holder.connection().await;
            let newest = imports::newest(&mut *connection, &file.source, None).await?;
            let rival = if file.dated {
                imports::newest(&mut *connection, &file.source, Some(file.as_of)).await?
            } else {
                newest.clone()
            };
            let same_content = imports::finished_with(&mut *connection, &file.source, &file.sha256).await?;
            Ok::<_, staging::Error>(Ledger { rival, newest, same_content })
        };
        let ledger = holder.unless_lost(looking).await?;
        self.session.keep(holder);
        Ok(ledger)
    }

    /// How many rows a full export is compared with: those of the last one. The first one after deltas has the largest of them,
    /// which is where such a source began.
    async fn rows_before(&mut self, last: Option<&Import>) -> Result<u64, Error> {
        match last {
            Some(last) if self.settings.full_export && !last.full_export => {
                let holder = self.session.take().await?;
                let asking = async { imports::most_rows(&mut *holder.connection().await, &self.settings.source).await };
                let most_rows = holder.unless_lost(asking).await?;
                self.session.keep(holder);
                Ok(most_rows)
            }
            last => Ok(last.map_or(0, |last| (last.row_count - last.skipped_count).unsigned_abs())),
        }
    }

    async fn import(
        &mut self,
        request: &Request<'_>,
        mut report: FileReport,
        file: &File,
        opened: Opened,
        before: u64,
        on_progress: OnProgress<'_>,
    ) -> Result<Tried, Error> {
        let expected = marker::rows(request.path, &self.names);
        let mut landed = Landed { size: opened.identity.size(), ..Landed::default() };
        if !report.dry_run {
            let holder = self.session.take().await?;
            let beginning = async { imports::begin(&mut *holder.connection().await, file, now()).await };
            landed.import_id = Some(holder.unless_lost(beginning).await?);
            self.session.keep(holder);
        }
        let origin = origin_of(file, request.options);
        see(request, || Sighting::Begins(request.path.to_owned())).await;
        let (mut events, parsing) = reading::parse(opened, Arc::clone(&self.settings), origin);
        while let Some(event) = events.recv().await {
            match event {
                Event::Dialect { delimiter, encoding } => {
                    (report.delimiter, report.encoding) = (Some(delimiter), Some(encoding));
                }
                Event::Part { mut part, bytes } => {
                    if request.options.again {
                        part.origin["again"] = true.into();
                    }
                    let rows = std::mem::take(&mut part.seen);
                    see(request, || Sighting::Rows(rows)).await;
                    if !self.land(&mut landed, *part).await? {
                        return Ok(Tried::TakenOver);
                    }
                    on_progress(&Progress {
                        file: file.file_name.clone(),
                        bytes: landed.size,
                        bytes_landed: bytes,
                        rows: landed.rows.unsigned_abs(),
                    });
                }
            }
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        let (counts, refusal) = match parsing.await.map_err(|_| Error::Parser(file.file_name.clone()))? {
            End::Whole(counts) => {
                let refusal = verdict::refusal(&self.settings, &counts, before, expected);
                let counts = match landed.import_id {
                    Some(_) => Counts { dead: landed.dead_letters, skipped: landed.skipped, ..counts },
                    None => counts,
                };
                (counts, refusal.filter(|_| !request.options.accept))
            }
            End::Refused(refusal) => (Counts::default(), Some(refusal)),
            end => {
                if !report.dry_run {
                    self.abandon_leftovers().await?;
                }
                return Self::not_read(end, report);
            }
        };
        (report.rows, report.dead_letters, report.skipped) = (counts.rows, counts.dead, counts.skipped);
        report.state = if refusal.is_some() { Outcome::Refused } else { Outcome::Imported };
        report.reason = refusal.as_ref().map(|refusal| refusal.reason.clone());
        let is_published = report.state == Outcome::Imported;
        let (position, as_of) = (Position::csv_file(file.as_of, file.mtime), file.as_of);
        see(request, || Sighting::Ends { is_published, position, as_of }).await;
        if let Some(import_id) = landed.import_id
            && !self.settle(import_id, landed.rows, refusal.as_ref()).await?
        {
            return Ok(Tried::TakenOver);
        }
        log(&report, file);
        Ok(Tried::Done(Box::new(report)))
    }

    fn not_read(end: End, mut report: FileReport) -> Result<Tried, Error> {
        match end {
            End::Changed => Ok(Tried::Changed(Box::new(report))),
            End::Unreadable(why) => {
                report.reason = Some(why);
                Ok(Tried::Done(Box::new(report)))
            }
            End::Whole(_) | End::Refused(_) | End::Stopped => Err(Error::Cancelled),
        }
    }
}

/// Shows a dry run what would be landed; whoever does not look any more does not stop it.
async fn see(request: &Request<'_>, sighting: impl FnOnce() -> Sighting) {
    if let Some(sightings) = request.options.sightings.as_ref().filter(|_| request.options.dry_run) {
        let _ = sightings.send(sighting()).await;
    }
}

fn origin_of(file: &File, options: &ImportOptions) -> Origin {
    Origin {
        file_name: file.file_name.clone(),
        as_of: file.as_of,
        mtime: file.mtime,
        observed_at: model::observed_at(file.as_of, now()),
        is_accepted: options.accept,
        // Until somebody has looked into it.
        is_assumed_utf8: false,
        mark: 0,
        is_seen: options.dry_run && options.sightings.is_some(),
    }
}

/// Two versions of one night with one mtime would have equal positions, and the second would change nothing.
fn step_past(file: &mut File, newest: Option<&Import>) {
    let is_tie =
        |newest: &Import| (newest.as_of, newest.mtime) == (file.as_of, file.mtime) && newest.sha256 != file.sha256;
    if newest.is_some_and(is_tie) {
        file.mtime += TimeDelta::microseconds(1);
    }
}

fn log(report: &FileReport, file: &File) {
    let (rows, dead_letters, skipped) = (report.rows, report.dead_letters, report.skipped);
    // Both are absent where the file was refused before they were found out.
    let (delimiter, encoding) = (report.delimiter.map(String::from), report.encoding);
    let (source, file, as_of) = (&file.source, logged(Path::new(&file.file_name)), file.as_of);
    if let Some(reason) = &report.reason {
        tracing::error!(source, file, rows, dead_letters, delimiter, encoding, reason, "file refused");
        return;
    }
    tracing::info!(source, file, rows, dead_letters, skipped, delimiter, encoding, "file imported");
    if as_of > now() + MAX_AHEAD {
        tracing::warn!(
            source, file, %as_of,
            "the file is of a day far ahead: every other one counts as older until then. Is its name, or its time, right?"
        );
    }
}

/// The wall clock, at the rim.
fn now() -> DateTime<Utc> {
    Utc::now()
}
