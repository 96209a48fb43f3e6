//! What the database says, at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use consolidate::overview::{LogRestart, Unfolded};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use staging::health::Health;
use staging::overview::{self, LedgerFile, PollsDue};
use staging::{lists, outbox};

use crate::{Expected, Kind, Setup};

/// A word older than this is from a process that is gone: ingesters speak every ten seconds at least, CSV sources
/// whenever they look at their directory.
pub(crate) const FRESH: Duration = Duration::from_mins(1);
/// Dead letters that came within this time need a look; older ones are shown, and somebody has left them there.
pub(crate) const RECENT: TimeDelta = TimeDelta::days(1);
/// Somebody waits for the answer.
const STATEMENT_TIMEOUT: &str = "set statement_timeout = '30s'";
/// All answers are of one moment.
const SNAPSHOT: &str = "begin isolation level repeatable read read only";

/// What came back.
pub enum Asked {
    /// All of it.
    Facts(Box<Facts>),
    /// The database has not been used by c360, or by an older version only.
    NotMigrated,
}

/// Everything that the database knows of how things are.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What ingesters said last, by source.
    pub health: BTreeMap<String, Health>,
    /// What is landed and not consolidated, by source.
    pub backlog: BTreeMap<String, overview::Backlog>,
    /// Profiles that have yet to follow what is consolidated.
    pub unfolded: Unfolded,
    /// Parked dead letters.
    pub dead_letters: Vec<overview::DeadLetters>,
    /// The file that each CSV source took up last.
    pub last_files: BTreeMap<String, LedgerFile>,
    /// Files that were refused, by source, the latest first.
    pub refused_files: BTreeMap<String, Vec<LedgerFile>>,
    /// The newest time that each CSV source has given files of.
    pub newest_nights: BTreeMap<String, DateTime<Utc>>,
    /// Polls that are due, by source that is configured.
    pub polls_due: BTreeMap<String, PollsDue>,
    /// Edits that wait to be sent to REST sources, and refused ones.
    pub edits: BTreeMap<String, outbox::Waiting>,
    /// How far the lists of REST sources are read.
    pub lists: BTreeMap<String, Vec<lists::Overview>>,
    /// When each Kafka source landed anything.
    pub kafka_progress: BTreeMap<String, DateTime<Utc>>,
    /// Where expiry stands.
    pub expiry: overview::Expiry,
    /// What schema staging takes on the database's disk.
    pub staging_bytes: i64,
    /// What each table takes on the database's disk, by its name with the schema.
    pub storage: BTreeMap<String, i64>,
    /// Orders whose total is not that of their lines, by system.
    pub orders_total_differs: BTreeMap<String, i64>,
    /// Living cross-references that belong to nobody, by reason.
    pub unmatched: BTreeMap<String, i64>,
    /// What is stored of each source.
    pub stored: BTreeMap<String, overview::Stored>,
    /// Logs that have begun again, by source.
    pub log_restarts: BTreeMap<String, Vec<LogRestart>>,
    /// Up to when sources are retired.
    pub retired: BTreeMap<String, DateTime<Utc>>,
    /// Sources whose retirement is not carried out yet, and since when.
    pub retiring: BTreeMap<String, DateTime<Utc>>,
    /// Whether profiles were made under other rules than those of the configuration.
    pub rebuild_is_due: bool,
    /// Whether whoever consolidates, or did so last, does so under other rules than those of the configuration.
    pub other_rules_are_at_work: bool,
    /// Since when somebody consolidates.
    pub consolidator_since: Option<DateTime<Utc>>,
}

/// Asks the database, which is left as it was, what matters to an installation of this setup.
pub async fn ask(connection: &mut PgConnection, setup: &Setup) -> Result<Asked, consolidate::Error> {
    let database = staging::Error::database;
    sqlx::query(STATEMENT_TIMEOUT).execute(&mut *connection).await.map_err(database("limiting statements"))?;
    if staging::missing_migrations(connection).await? + consolidate::missing_migrations(connection).await? > 0 {
        return Ok(Asked::NotMigrated);
    }
    let mut snapshot = connection.begin_with(SNAPSHOT).await.map_err(database("reading the status"))?;
    let now = Utc::now();
    let sources: Vec<&str> = setup.sources.keys().map(String::as_str).collect();
    let storage = storage(&mut snapshot).await?;
    Ok(Asked::Facts(Box::new(Facts {
        health: by_source(staging::health::all(&mut *snapshot).await?, |health| &health.source),
        backlog: by_source(overview::backlog(&mut *snapshot).await?, |backlog| &backlog.source),
        unfolded: consolidate::overview::unfolded(&mut *snapshot).await?,
        dead_letters: overview::dead_letters(&mut *snapshot, now - RECENT).await?,
        last_files: by_source(overview::last_files(&mut *snapshot).await?, |file| &file.source),
        refused_files: all_by_source(overview::refused_files(&mut *snapshot).await?),
        newest_nights: overview::newest_nights(&mut *snapshot).await?,
        polls_due: by_source(overview::polls_due(&mut *snapshot, &sources, now).await?, |polls| &polls.source),
        edits: by_source(outbox::waiting(&mut *snapshot).await?, |edits| &edits.source),
        lists: lists::overview(&mut *snapshot, now).await?,
        kafka_progress: overview::kafka_progress(&mut *snapshot).await?,
        expiry: overview::expiry(&mut snapshot, now).await?,
        staging_bytes: in_staging(&storage),
        storage,
        orders_total_differs: consolidate::overview::orders_total_differs(&mut *snapshot).await?,
        unmatched: consolidate::overview::unmatched(&mut *snapshot).await?,
        stored: overview::stored(&mut *snapshot).await?,
        log_restarts: consolidate::overview::log_restarts(&mut snapshot).await?,
        retired: consolidate::retire::in_force(&mut *snapshot).await?,
        retiring: consolidate::retire::open(&mut *snapshot).await?,
        rebuild_is_due: consolidate::rebuild_is_due(&mut *snapshot, &setup.rules).await?,
        other_rules_are_at_work: consolidate::other_rules_are_at_work(&mut *snapshot, &setup.rules).await?,
        consolidator_since: consolidate::overview::consolidator_since(&mut *snapshot).await?,
    })))
}

/// What each table of both schemas takes on the database's disk, by its name with the schema.
pub async fn storage(connection: &mut PgConnection) -> Result<BTreeMap<String, i64>, staging::Error> {
    let mut storage = BTreeMap::new();
    for schema in ["staging", "customer360"] {
        let tables = overview::bytes_by_table(&mut *connection, schema).await?;
        storage.extend(tables.into_iter().map(|(table, bytes)| (format!("{schema}.{table}"), bytes)));
    }
    Ok(storage)
}

/// What schema staging takes of it.
pub fn in_staging(storage: &BTreeMap<String, i64>) -> i64 {
    storage.iter().filter(|(table, _)| table.starts_with("staging.")).map(|(_, bytes)| bytes).sum()
}

fn by_source<T>(rows: Vec<T>, source: impl Fn(&T) -> &String) -> BTreeMap<String, T> {
    rows.into_iter().map(|row| (source(&row).clone(), row)).collect()
}

fn all_by_source(files: Vec<LedgerFile>) -> BTreeMap<String, Vec<LedgerFile>> {
    let mut by_source: BTreeMap<String, Vec<LedgerFile>> = BTreeMap::new();
    for file in files {
        by_source.entry(file.source.clone()).or_default().push(file);
    }
    by_source
}

impl Facts {
    /// How long ago a source's ingester spoke.
    pub(crate) fn heard(&self, name: &str, now: DateTime<Utc>) -> Option<TimeDelta> {
        let said_at = self.health.get(name)?.said_at?;
        Some((now - said_at).max(TimeDelta::zero()))
    }

    /// A key with a list of what a source's ingester said last.
    pub(crate) fn list(&self, name: &str, key: &str) -> &[Value] {
        self.health.get(name).map_or(&[], |health| health.list(key))
    }

    /// Whether a source's ingester has spoken lately.
    pub fn is_heard(&self, name: &str, expected: Option<&Expected>, now: DateTime<Utc>) -> bool {
        let limit = match expected.map(|expected| &expected.kind) {
            Some(Kind::Csv { scan_every, .. }) => FRESH.max(*scan_every * 2),
            _ => FRESH,
        };
        let within = TimeDelta::from_std(limit).unwrap_or(TimeDelta::MAX);
        self.health.get(name).is_some_and(|health| health.is_fresh(now, within))
    }

    /// Whether that was one that goes on: a command has ended, or soon will.
    pub(crate) fn is_running(&self, name: &str, expected: Option<&Expected>, now: DateTime<Utc>) -> bool {
        let is_daemon = self.health.get(name).and_then(|health| health.health.get("daemon")?.as_bool());
        is_daemon != Some(false) && self.is_heard(name, expected, now)
    }
}
