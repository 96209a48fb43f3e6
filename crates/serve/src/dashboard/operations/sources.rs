//! The parts of the page about single sources: all of them in one table, and how REST sources are polled. And what readers of other
//! pages are told of one.

use askama::Template;
use staging::imports;
use status::words::age;
use status::{Source, State};

use super::parts::{ATTENTION, FAILED, IDLE, OK, letters_of, nothing};
use crate::dashboard::Dashboard;
use crate::dashboard::locale::Locale;
use crate::dashboard::systems::{Badge, counted};
use crate::watch::Snapshot;

#[derive(Template)]
#[template(path = "operations/sources.html")]
pub(super) struct Sources {
    backlog: String,
    rows: Vec<SourceRow>,
}

struct SourceRow {
    badge: Badge,
    kind: &'static str,
    mark: &'static str,
    state: String,
    to_land: String,
    oldest: String,
    to_consolidate: String,
    dead_letters: String,
    /// The source's dead letters, if it has some.
    link: Option<String>,
}

#[derive(Template)]
#[template(path = "operations/polls.html")]
pub(super) struct Polls {
    rows: Vec<PollRow>,
}

struct PollRow {
    badge: Badge,
    mark: &'static str,
    breaker: &'static str,
    due: String,
    oldest: String,
    lists: Vec<String>,
}

pub(super) fn sources(dashboard: &Dashboard, locale: &Locale, snapshot: &Snapshot) -> Sources {
    let report = &snapshot.report;
    let backlog = report.backlog.unwrap_or_default();
    let waits = match (backlog.records, backlog.profiles.unwrap_or_default()) {
        (0, 0) => "Nothing waits to be consolidated".to_owned(),
        (0, profiles) => {
            let profiles = counted(locale, profiles, "profile has", "profiles have");
            format!("{profiles} yet to follow, the oldest for {}", age(backlog.oldest_seconds))
        }
        (records, _) => {
            let records = counted(locale, records, "record waits", "records wait");
            format!("{records} to be consolidated, the oldest for {}", age(backlog.oldest_seconds))
        }
    };
    let row = |(name, source): (&String, &Source)| {
        let letters: i64 = source.dead_letters.values().sum();
        SourceRow {
            badge: dashboard.systems.badge(name),
            kind: kind(source),
            mark: mark(source.state()),
            state: state(source),
            to_land: to_land(locale, source),
            oldest: source.oldest_unlanded_seconds.filter(|seconds| *seconds > 0).map_or_else(nothing, age),
            to_consolidate: locale.count(source.backlog.records),
            dead_letters: locale.count(letters),
            link: (letters > 0).then(|| letters_of(name)),
        }
    };
    Sources { backlog: waits, rows: report.sources.iter().map(row).collect() }
}

fn kind(source: &Source) -> &'static str {
    match source.kind {
        Some("kafka") => "Kafka",
        Some("csv") => "CSV",
        Some("rest") => "REST",
        _ => "–",
    }
}

fn mark(state: State) -> &'static str {
    match state {
        State::Running => OK,
        State::Stopped | State::BreakerOpen | State::InTrouble => FAILED,
        State::BreakerHalfOpen => ATTENTION,
        State::Silent | State::NotConfigured => IDLE,
    }
}

/// With how many things are stopped, or for how long nobody runs it.
fn state(source: &Source) -> String {
    let mut words = source.state().as_str().to_owned();
    words[..1].make_ascii_uppercase();
    match (source.state(), source.reported_seconds_ago) {
        (State::Stopped, _) if source.kind == Some("kafka") => match source.stopped.len() {
            1 => format!("{words}: 1 partition"),
            several => format!("{words}: {several} partitions"),
        },
        (State::Silent, Some(seconds)) => format!("{words}, heard {} ago", age(seconds)),
        _ => words,
    }
}

/// What waits for a minute is behind.
const BEHIND_SECONDS: i64 = 60;

/// How fresh it is what a source says, for whoever reads about a customer.
pub(in crate::dashboard) struct Freshness {
    pub(in crate::dashboard) mark: &'static str,
    pub(in crate::dashboard) words: String,
}

impl Freshness {
    pub(in crate::dashboard) fn of(locale: &Locale, source: &Source) -> Self {
        let now = source.state();
        let (mark, words) = match (now, &source.last_file) {
            (State::Running | State::Silent, Some(file)) => {
                let of = format!("File of {}", locale.day(file.as_of).text);
                let is_refused = file.state == imports::State::Refused;
                if is_refused { (FAILED, format!("{of} refused")) } else { (mark(now), of) }
            }
            (State::Running, None) => (OK, "Live".to_owned()),
            (State::BreakerOpen | State::BreakerHalfOpen, _) => (mark(now), "Not answering".to_owned()),
            _ => (mark(now), state(source)),
        };
        match source.oldest_unlanded_seconds.filter(|seconds| *seconds >= BEHIND_SECONDS) {
            Some(seconds) => Self { mark, words: format!("{words}, {} behind", age(seconds)) },
            None => Self { mark, words },
        }
    }
}

fn to_land(locale: &Locale, source: &Source) -> String {
    match (source.kind, source.lag, source.polls_due) {
        (Some("kafka"), None, _) => "unknown".to_owned(),
        (_, Some(lag), _) => counted(locale, lag, "message", "messages"),
        (_, _, Some(polls)) => counted(locale, polls, "poll", "polls"),
        _ => nothing(),
    }
}

pub(super) fn polls(dashboard: &Dashboard, locale: &Locale, snapshot: &Snapshot) -> Polls {
    let row = |(name, source): (&String, &Source)| {
        let (mark, breaker) = match source.breaker.as_deref() {
            Some("open") => (FAILED, "Open"),
            Some("half_open") => (ATTENTION, "Half open"),
            Some(_) => (OK, "Closed"),
            None => (IDLE, "Never heard of"),
        };
        let list = |(entity, list): (&String, &status::List)| match (list.due_seconds, list.pages) {
            (0, _) => format!("{entity}s: read to the end"),
            (due, 0) => format!("{entity}s: due for {}", age(due)),
            (_, pages) => format!("{entity}s: page {} is next", locale.count(i64::from(pages) + 1)),
        };
        PollRow {
            badge: dashboard.systems.badge(name),
            mark,
            breaker,
            due: locale.count(source.polls_due.unwrap_or_default()),
            oldest: source.oldest_unlanded_seconds.filter(|seconds| *seconds > 0).map_or_else(nothing, age),
            lists: source.lists.iter().map(list).collect(),
        }
    };
    let polled = snapshot.report.sources.iter().filter(|(_, source)| source.kind == Some("rest"));
    Polls { rows: polled.map(row).collect() }
}
