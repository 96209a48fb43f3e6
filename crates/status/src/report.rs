//! The document of `status --json`. Its keys are frozen, because scripts read them; keys that do not apply are left out.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use consolidate::overview::LogRestart;
use serde::Serialize;
use serde_json::Value;
use staging::overview::LedgerFile;

use super::facts::Facts;
use super::looks::{self, Look};
use super::words::records_and_profiles;
use crate::{Kind, Setup};

/// By Kafka source that nobody reads at the moment: messages that are not landed, or why nobody knows. Only brokers say so.
pub type Lags = BTreeMap<String, Result<i64, String>>;

/// How things are.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Every source that is configured or that the database knows.
    pub sources: BTreeMap<String, Source>,
    /// What is landed and not consolidated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
    /// Living cross-references that belong to nobody, by reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<BTreeMap<String, i64>>,
    /// Where expiry stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
    /// What schema staging takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staging: Option<Staging>,
    /// What each table takes on the database's disk, indexes included, in bytes, by its name with the schema.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage: BTreeMap<String, i64>,
    /// Orders whose total is not that of their lines, by system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orders_total_differs: Option<BTreeMap<String, i64>>,
    /// Whether c360 can be stopped now, and what that does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safe_to_stop: Option<SafeToStop>,
    /// Whether somebody works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Daemon>,
    /// What needs somebody, the worst first.
    pub looks: Vec<Look>,
    /// Whether the database is there and migrated, as `/readyz` says, and also nothing is stopped.
    pub ready: bool,
}

/// One source.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Source {
    /// `kafka`, `csv` or `rest`; left out for a source that is not configured any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Kafka: messages that are not landed; left out when nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Kafka: how long ago the last landed message was written, while there is lag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<i64>,
    /// Why nobody knows the lag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_unknown: Option<String>,
    /// How long the oldest thing waits that is there and not landed: a message, a file, a poll that is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_unlanded_seconds: Option<i64>,
    /// Parked dead letters, by reason.
    pub dead_letters: BTreeMap<String, i64>,
    /// What waits for an operator: partitions of Kafka, refused credentials, a directory that cannot be read.
    pub stopped: Vec<Value>,
    /// Kafka: topics of the configuration that are not there, by the last word of its ingester; they are waited for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent_topics: Vec<String>,
    /// What keeps its ingester from going on at the moment, by its last word; it tries again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// REST: `closed`, `open` or `half_open`, by the last word of the poller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// CSV: the file taken up last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_file: Option<LastFile>,
    /// REST: customers to ask about now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub polls_due: Option<i64>,
    /// REST: what of edits it has yet to take; left out for a source that was never written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edits: Option<Edits>,
    /// REST: how far its lists are read, by what they are of.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, List>,
    /// Kafka: partitions on which the source's log has begun again, until it has a new epoch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_restarts: Vec<LogRestart>,
    /// Up to when what the source said is retired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired_before: Option<DateTime<Utc>>,
    /// What is landed of this source and not consolidated.
    pub backlog: Backlog,
    /// How long ago the source's ingester spoke; a minute or more means that none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_seconds_ago: Option<i64>,
    /// Whether its ingester runs, by its last word.
    pub running: bool,
}

/// In what state a source is; the worst of what can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The database knows it, and the configuration does not.
    NotConfigured,
    /// Something of it waits for an operator.
    Stopped,
    /// Something keeps it from going on, and it tries again by itself.
    InTrouble,
    /// It keeps failing, and rests before it is tried again.
    BreakerOpen,
    /// It failed, and is being tried again.
    BreakerHalfOpen,
    /// Its ingester runs.
    Running,
    /// Nobody runs its ingester.
    Silent,
}

impl State {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not configured",
            Self::Stopped => "stopped",
            Self::InTrouble => "in trouble",
            Self::BreakerOpen => "breaker open",
            Self::BreakerHalfOpen => "breaker half open",
            Self::Running => "running",
            Self::Silent => "not running",
        }
    }
}

impl Source {
    /// In what state it is.
    pub fn state(&self) -> State {
        match self.breaker.as_deref() {
            _ if self.kind.is_none() => State::NotConfigured,
            _ if !self.stopped.is_empty() => State::Stopped,
            _ if self.trouble.is_some() || !self.absent_topics.is_empty() => State::InTrouble,
            Some("open") => State::BreakerOpen,
            Some("half_open") => State::BreakerHalfOpen,
            _ if self.running => State::Running,
            _ => State::Silent,
        }
    }
}

/// What is landed and not consolidated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Batches.
    pub batches: i64,
    /// Their records.
    pub records: i64,
    /// Of all sources together: profiles that have yet to follow what is consolidated; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<i64>,
    /// For how long the oldest of all this has waited; 0 when there is none.
    pub oldest_seconds: i64,
}

/// A file of the ledger; see `staging.csv_imports`.
#[derive(Debug, Clone, Serialize)]
pub struct LastFile {
    /// Its name.
    pub file: String,
    /// The time that its content is of.
    pub as_of: DateTime<Utc>,
    /// `importing`, `imported`, `copy`, `superseded` or `refused`.
    pub state: staging::imports::State,
    /// Its rows: landed, dead letters and skips.
    pub rows: i64,
    /// Rows that became dead letters.
    pub dead_letters: i64,
    /// Rows that were nothing to land.
    pub skipped: i64,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
}

/// How far a list of a REST source is read; see `staging.lists`.
#[derive(Debug, Clone, Serialize)]
pub struct List {
    /// Everything that had changed by then is landed, by the source's clock; left out until a round has come to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete_until: Option<DateTime<Utc>>,
    /// When the last round came to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// For how long a round has been due that is under way, fails, or has not begun; 0 when none is.
    pub due_seconds: i64,
    /// Pages landed in the round under way.
    pub pages: i32,
    /// Records in these pages.
    pub records: i64,
    /// How many times in a row it could not be read.
    pub failures: i32,
}

/// Edits of attributes and customers made by hand that are written through to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Edits {
    /// They wait to be sent.
    pub waiting: i64,
    /// For how long the oldest has waited; 0 when none does.
    pub oldest_seconds: i64,
    /// The source does not take them.
    pub refused: i64,
}

/// Where expiry stands.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Expiry {
    /// For how long a partition whose time is over has had to stay because of a batch that is not consolidated; 0 when
    /// there is none.
    pub held_back_seconds: i64,
    /// For how long a partition whose time is over has stayed, whatever for; 0 when there is none.
    pub overdue_seconds: i64,
    /// Partitions of records.
    pub partitions: usize,
    /// In how long the time of the first batch is over that waits to be consolidated: it stays until it is. 0 if that time
    /// is over; left out when nothing waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unconsolidated_expires_in_seconds: Option<i64>,
}

/// Whether c360 can be stopped now.
#[derive(Debug, Clone, Serialize)]
pub struct SafeToStop {
    /// It can, always: progress is stored together with the data.
    pub safe: bool,
    /// What becomes of what it is doing.
    pub reason: String,
}

/// What schema staging takes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Staging {
    /// On the database's disk, indexes included.
    pub bytes: i64,
}

/// Whether somebody works.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Daemon {
    /// Whether an ingester has spoken within a minute, or somebody consolidates.
    pub running: bool,
    /// Whether somebody consolidates.
    pub consolidating: bool,
    /// How long ago any ingester spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_seconds_ago: Option<i64>,
}

impl Report {
    /// By what the database and brokers say.
    pub fn new(setup: &Setup, facts: &Facts, lags: &Lags, now: DateTime<Utc>) -> Self {
        let known = facts.health.keys().chain(facts.backlog.keys()).chain(facts.last_files.keys());
        let known = known
            .chain(facts.dead_letters.iter().map(|letters| &letters.source))
            .chain(facts.log_restarts.keys())
            .chain(facts.edits.keys());
        let names: BTreeSet<&String> = setup.sources.keys().chain(known).collect();
        let sources: BTreeMap<String, Source> =
            names.into_iter().map(|name| (name.clone(), source(name, setup, facts, lags, now))).collect();
        let daemon = Daemon {
            running: facts.consolidator_since.is_some() || sources.values().any(|source| source.running),
            consolidating: facts.consolidator_since.is_some(),
            reported_seconds_ago: sources.values().filter_map(|source| source.reported_seconds_ago).min(),
        };
        let seconds = |since: Option<DateTime<Utc>>| since.map_or(0, |since| seconds_since(since, now));
        Self {
            backlog: Some(Backlog {
                batches: sources.values().map(|source| source.backlog.batches).sum(),
                records: sources.values().map(|source| source.backlog.records).sum(),
                profiles: Some(facts.unfolded.profiles).filter(|profiles| *profiles > 0),
                oldest_seconds: sources
                    .values()
                    .map(|source| source.backlog.oldest_seconds)
                    .chain([seconds(facts.unfolded.oldest)])
                    .max()
                    .unwrap_or(0),
            }),
            unmatched: Some(facts.unmatched.clone()),
            expiry: Some(Expiry {
                held_back_seconds: seconds(facts.expiry.held_back_since),
                overdue_seconds: seconds(facts.expiry.overdue_since),
                partitions: facts.expiry.partitions,
                unconsolidated_expires_in_seconds: facts
                    .expiry
                    .first_unconsolidated_expires_at
                    .map(|expires_at| seconds_since(now, expires_at)),
            }),
            staging: Some(Staging { bytes: facts.staging_bytes }),
            storage: facts.storage.clone(),
            orders_total_differs: Some(facts.orders_total_differs.clone()),
            safe_to_stop: Some(safe_to_stop(&sources, facts)),
            daemon: Some(daemon),
            looks: looks::looks(setup, facts, &sources, daemon, now),
            ready: sources.values().all(|source| source.stopped.is_empty()),
            sources,
        }
    }

    /// Of a database that c360 has not used yet.
    pub fn not_migrated(setup: &Setup) -> Self {
        Self::unread(setup, looks::not_migrated())
    }

    /// Of a database that does not answer.
    pub fn out_of_reach(setup: &Setup) -> Self {
        Self::unread(setup, looks::out_of_reach())
    }

    fn unread(setup: &Setup, look: Look) -> Self {
        let source = |kind: &Kind| Source { kind: Some(kind.name()), ..Source::default() };
        Self {
            sources: setup.sources.iter().map(|(name, known)| (name.clone(), source(&known.kind))).collect(),
            backlog: None,
            unmatched: None,
            expiry: None,
            staging: None,
            storage: BTreeMap::new(),
            orders_total_differs: None,
            safe_to_stop: None,
            daemon: None,
            looks: vec![look],
            ready: false,
        }
    }
}

/// Stopping is safe at any time; what it does to what is under way is said.
fn safe_to_stop(sources: &BTreeMap<String, Source>, facts: &Facts) -> SafeToStop {
    let mut reasons =
        vec!["progress is stored with the data; open batches are finished or rolled back, and read again".to_owned()];
    for (name, source) in sources {
        if let Some(file) = source.last_file.as_ref().filter(|file| file.state == staging::imports::State::Importing) {
            reasons.push(format!("{name} starts the file {} again", file.file));
        }
    }
    let records: i64 = sources.values().map(|source| source.backlog.records).sum();
    if records + facts.unfolded.profiles > 0 {
        let waits = records_and_profiles(records, facts.unfolded.profiles);
        reasons.push(format!("{waits} wait to be consolidated until it runs again"));
    }
    SafeToStop { safe: true, reason: reasons.join("; ") }
}

fn source(name: &str, setup: &Setup, facts: &Facts, lags: &Lags, now: DateTime<Utc>) -> Source {
    let configured = setup.sources.get(name);
    let is_heard = facts.is_heard(name, configured, now);
    let said = |key: &str| facts.health.get(name).and_then(|health| health.health.get(key));
    // Counts and ages are good for as long as somebody keeps saying them; what is stopped stays so until somebody looks.
    let fresh = |key: &str| said(key).filter(|_| is_heard).and_then(number);
    let letters = facts.dead_letters.iter().filter(|letters| letters.source == name);
    let absent_topics = facts.list(name, "absent_topics").iter().filter_map(Value::as_str);
    let mut source = Source {
        kind: configured.map(|source| source.kind.name()),
        dead_letters: letters.map(|letters| (letters.reason.clone(), letters.parked)).collect(),
        stopped: facts.list(name, "stopped").to_vec(),
        oldest_unlanded_seconds: fresh("oldest_unlanded_seconds"),
        backlog: facts.backlog.get(name).map_or_else(Backlog::default, |backlog| Backlog {
            batches: backlog.batches,
            records: backlog.records,
            profiles: None,
            oldest_seconds: seconds_since(backlog.oldest, now),
        }),
        reported_seconds_ago: facts.heard(name, now).map(|ago| ago.num_seconds()),
        log_restarts: facts.log_restarts.get(name).cloned().unwrap_or_default(),
        retired_before: facts.retired.get(name).copied(),
        absent_topics: absent_topics.filter(|_| is_heard).map(str::to_owned).collect(),
        trouble: said("trouble").filter(|_| is_heard).and_then(Value::as_str).map(str::to_owned),
        running: facts.is_running(name, configured, now),
        ..Source::default()
    };
    match configured.map(|source| &source.kind) {
        Some(Kind::Kafka) => {
            // Where no broker answers, the last numbers are of before.
            let current = |key: &str| fresh(key).filter(|_| source.trouble.is_none());
            (source.lag, source.lag_seconds) = (current("lag"), current("lag_seconds"));
            match lags.get(name) {
                Some(Ok(lag)) => {
                    source.lag = Some(*lag);
                    // Where nothing waits nothing is old; otherwise only a reader sees the messages' times.
                    source.lag_seconds = (*lag == 0).then_some(0);
                    source.oldest_unlanded_seconds = (*lag == 0).then_some(0);
                }
                Some(Err(reason)) => source.lag_unknown = Some(reason.clone()),
                None => {}
            }
        }
        Some(Kind::Rest) => {
            let due = facts.polls_due.get(name);
            source.breaker = said("breaker").and_then(Value::as_str).map(str::to_owned);
            source.polls_due = Some(due.map_or(0, |due| due.due));
            source.lists = lists(facts.lists.get(name).map_or(&[], Vec::as_slice), now);
            let oldest_list = source.lists.values().map(|list| list.due_seconds).max().unwrap_or(0);
            source.oldest_unlanded_seconds = Some(due.map_or(0, |due| seconds_since(due.oldest, now)).max(oldest_list));
        }
        Some(Kind::Csv { .. }) | None => {}
    }
    source.edits = facts.edits.get(name).map(|edits| Edits {
        waiting: edits.waiting,
        oldest_seconds: edits.oldest.map_or(0, |oldest| seconds_since(oldest, now)),
        refused: edits.refused,
    });
    source.last_file = facts.last_files.get(name).map(last_file);
    source
}

fn lists(lists: &[staging::lists::Overview], now: DateTime<Utc>) -> BTreeMap<String, List> {
    let list = |list: &staging::lists::Overview| List {
        complete_until: list.complete_until,
        finished_at: list.finished_at,
        due_seconds: list.due_since.map_or(0, |since| seconds_since(since, now)),
        pages: list.pages,
        records: list.records,
        failures: list.failures,
    };
    lists.iter().map(|known| (known.entity.clone(), list(known))).collect()
}

fn last_file(file: &LedgerFile) -> LastFile {
    LastFile {
        file: file.file_name.clone(),
        as_of: file.as_of,
        state: file.state,
        rows: file.rows,
        dead_letters: file.dead_letters,
        skipped: file.skipped,
        reason: file.reason.clone(),
        finished_at: file.finished_at,
    }
}

pub(crate) fn seconds_since(since: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    (now - since).num_seconds().max(0)
}

/// Ingesters say seconds with and without a fraction.
fn number(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "seconds and messages")]
    value.as_i64().or_else(|| value.as_f64().map(|number| number.round() as i64))
}
