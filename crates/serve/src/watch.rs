//! How all sources are, asked by one for everybody: while somebody wants to know, and never more often than it is worth.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use staging::overview::{self, LedgerFile};
use status::{Asked, Facts, Lags, Report, Setup};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How often the database is asked at most...
const EVERY: Duration = Duration::from_secs(2);
/// ... unless it takes long: the pause is so many times as long.
const PAUSE: u32 = 4;
/// A database that takes longer has other worries.
const ASK_WITHIN: Duration = Duration::from_mins(1);
/// Whoever waits for an answer has an older one after this time, if there is one.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// What is older than this says nothing of now.
pub(crate) const STALE_AFTER: Duration = Duration::from_mins(1);

/// How everything was at one moment.
pub(crate) struct Snapshot {
    asked_at: Instant,
    pub(crate) as_of: DateTime<Utc>,
    pub(crate) report: Report,
    pub(crate) facts: Facts,
    /// The latest files of CSV sources.
    pub(crate) files: Vec<LedgerFile>,
}

/// Keeps the latest snapshot.
pub(crate) struct Watch {
    database: PgConnectOptions,
    pub(crate) setup: Setup,
    latest: watch::Sender<Option<Arc<Snapshot>>>,
    wanted: Notify,
}

impl Watch {
    pub(crate) fn new(database: PgConnectOptions, setup: Setup) -> Self {
        Self { database, setup, latest: watch::Sender::new(None), wanted: Notify::new() }
    }

    /// Asks whenever somebody wants to know, until `cancel`.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        let mut kept = None;
        while cancel.run_until_cancelled(self.wanted.notified()).await.is_some() {
            let since = Instant::now();
            match cancel.run_until_cancelled(timeout(ASK_WITHIN, self.ask(&mut kept))).await {
                Some(Ok(Ok(snapshot))) => drop(self.latest.send_replace(Some(Arc::new(snapshot)))),
                Some(Ok(Err(error))) => {
                    tracing::debug!(%error, "asking how all sources are");
                    self.ask_again();
                }
                Some(Err(_)) => self.ask_again(),
                None => return,
            }
            cancel.run_until_cancelled(tokio::time::sleep(EVERY.max(since.elapsed() * PAUSE))).await;
        }
    }

    /// Whoever waits does so for the next answer, and has said so once.
    fn ask_again(&self) {
        if self.latest.receiver_count() > 0 {
            self.wanted.notify_one();
        }
    }

    /// On a connection that is kept only if it worked to the end.
    async fn ask(&self, kept: &mut Option<PgConnection>) -> Result<Snapshot, consolidate::Error> {
        let (asked_at, as_of) = (Instant::now(), Utc::now());
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => staging::connect(&self.database).await?,
        };
        let (report, facts, files) = match status::ask(&mut connection, &self.setup).await? {
            Asked::Facts(facts) => {
                // Nobody opens connections to brokers because somebody looks at a page.
                let report = Report::new(&self.setup, &facts, &Lags::new(), as_of);
                (report, *facts, overview::recent_files(&mut connection).await?)
            }
            Asked::NotMigrated => (Report::not_migrated(&self.setup), Facts::default(), Vec::new()),
        };
        *kept = Some(connection);
        Ok(Snapshot { asked_at, as_of, report, facts, files })
    }

    /// How everything is at this moment or later; where that takes long, what is known before. `None` if nothing is.
    pub(crate) async fn since(&self, at: Instant) -> Option<Arc<Snapshot>> {
        let mut latest = self.subscribe();
        let is_new = |known: &Option<Arc<Snapshot>>| known.as_ref().is_some_and(|known| known.asked_at >= at);
        if !is_new(&latest.borrow()) {
            self.want();
            let _ = timeout(ANSWER_WITHIN, latest.wait_for(is_new)).await;
        }
        latest.borrow().clone()
    }

    /// How everything is now, to about as often as it is asked.
    pub(crate) async fn now(&self) -> Option<Arc<Snapshot>> {
        let now = Instant::now();
        self.since(now.checked_sub(EVERY).unwrap_or(now)).await
    }

    /// What is known, for whoever does not wait; the next one may know more.
    pub(crate) fn glance(&self) -> Option<Arc<Snapshot>> {
        self.want();
        self.latest.borrow().clone().filter(|known| known.asked_at.elapsed() < STALE_AFTER)
    }

    /// Has the next snapshot made.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// The snapshots from now on, for whoever says each time that the next one is wanted.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.latest.subscribe()
    }
}
