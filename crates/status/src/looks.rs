//! What needs somebody: each a sentence, its effect, and the command to type. `status --check` fails when there is any.
//!
//! Decided here: what a source has waits for longer than its `late_after`, or its next file does not come for so long; other
//! work that waits for [`LATE`] is late, and so is anything while no daemon runs; dead letters need a look for a day after
//! they came (then somebody has left them there, and they only show in the table); a refused file until one of its night or
//! of a newer one is imported; a source that is stopped, open or refused until its ingester says otherwise, even if that was
//! long ago; a log that has begun again until the source has a new epoch; an emptied table for a day, or until it is
//! retired. That no daemon runs needs a look only where something waits for it: installations that run from cron have none.
//!
//! Here is what is about the whole; what is about one source is in `sources`, and in `files` where it is about its files.

mod files;
mod sources;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::facts::Facts;
use super::report::{Daemon, Source, seconds_since};
use super::words::{age, count, records_and_profiles};
use crate::Setup;

/// Nothing waits this long where everything works.
const LATE: TimeDelta = TimeDelta::minutes(5);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something does not happen that should.
    Failed,
    /// Something is late, or left for somebody to decide.
    Attention,
}

/// Something that needs a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Look {
    /// The source that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// Since when it is so, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// What is wrong: one sentence.
    pub problem: String,
    /// What that does.
    pub effect: String,
    /// What to type.
    pub command: String,
    /// Whether it is about the source's dead letters.
    #[serde(skip)]
    pub of_dead_letters: bool,
}

impl Look {
    fn new(problem: impl Into<String>, effect: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            source: None,
            severity: Severity::Attention,
            since: None,
            problem: problem.into(),
            effect: effect.into(),
            command: command.into(),
            of_dead_letters: false,
        }
    }

    /// What is wrong, with the source that it is about.
    pub fn sentence(&self) -> String {
        if let Some(source) = &self.source {
            return format!("{source}: {}", self.problem);
        }
        let mut rest = self.problem.chars();
        rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
    }

    fn failed(mut self) -> Self {
        self.severity = Severity::Failed;
        self
    }

    fn since(mut self, since: impl Into<Option<DateTime<Utc>>>) -> Self {
        self.since = since.into();
        self
    }

    fn of(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }
}

pub(crate) fn not_migrated() -> Look {
    Look::new(
        "the database is not migrated yet: run `c360 run` or `c360 migrate`.",
        "There is nothing to show; `run` migrates by itself.",
        "c360 migrate",
    )
    .failed()
}

pub(crate) fn out_of_reach() -> Look {
    Look::new(
        "the database cannot be reached.",
        "Nothing is landed, consolidated or served; sources keep what they have until it is back.",
        "c360 config print",
    )
    .failed()
}

/// Everything that needs a look, the worst first.
pub(crate) fn looks(
    setup: &Setup,
    facts: &Facts,
    sources: &BTreeMap<String, Source>,
    daemon: Daemon,
    now: DateTime<Utc>,
) -> Vec<Look> {
    let eyes = Eyes { setup, facts, sources, daemon, now };
    let mut looks = Vec::new();
    looks.extend(eyes.nobody_works());
    for (name, source) in sources {
        looks.extend(eyes.of_source(name, source).into_iter().map(|look| look.of(name)));
    }
    looks.extend(eyes.rebuild());
    looks.extend(eyes.backlog());
    looks.extend(eyes.expiry());
    looks.extend(sources.keys().filter_map(|name| eyes.dead_letters(name).map(|look| look.of(name))));
    looks.sort_by_key(|look| look.severity);
    looks
}

struct Eyes<'a> {
    setup: &'a Setup,
    facts: &'a Facts,
    sources: &'a BTreeMap<String, Source>,
    daemon: Daemon,
    now: DateTime<Utc>,
}

impl Eyes<'_> {
    fn is_late(&self, since: DateTime<Utc>) -> bool {
        self.now - since > LATE
    }

    fn ago(&self, seconds: i64) -> DateTime<Utc> {
        self.now - TimeDelta::seconds(seconds)
    }

    /// How long the oldest batch waits that consolidation could take, or the oldest profile that has to follow, if that is late.
    fn late_backlog(&self) -> Option<i64> {
        let batches = self.facts.backlog.values().filter_map(|backlog| backlog.oldest_claimable);
        let oldest = batches.chain(self.facts.unfolded.oldest).min()?;
        self.is_late(oldest).then(|| seconds_since(oldest, self.now))
    }

    fn to_consolidate(&self) -> String {
        let records = self.sources.values().map(|source| source.backlog.records).sum();
        records_and_profiles(records, self.facts.unfolded.profiles)
    }

    /// No daemon, and something waits for one.
    fn nobody_works(&self) -> Option<Look> {
        if self.daemon.running {
            return None;
        }
        let mut waits = Vec::new();
        for (name, source) in self.sources.iter().filter(|(name, _)| self.setup.sources.contains_key(*name)) {
            if let Some(lag) = source.lag.filter(|lag| *lag > 0)
                && self.facts.kafka_progress.get(name).is_none_or(|at| self.is_late(*at))
            {
                waits.push(format!("{} on {name}", count(lag, "message")));
            }
            if let Some(polls) = self.facts.polls_due.get(name).filter(|polls| self.is_late(polls.oldest)) {
                waits.push(format!("{} due on {name}", count(polls.due, "poll")));
            }
            for (entity, _) in source.lists.iter().filter(|(_, list)| list.due_seconds > LATE.num_seconds()) {
                waits.push(format!("the list of {entity}s on {name}"));
            }
        }
        if let Some(seconds) = self.late_backlog() {
            waits.push(format!("{} to be consolidated, the oldest for {}", self.to_consolidate(), age(seconds)));
        }
        let retiring = self.facts.retiring.iter().filter(|(_, since)| self.is_late(**since));
        waits.extend(retiring.map(|(name, _)| format!("the retirement of {name}")));
        let unknown = self.sources.iter().filter_map(|(name, source)| {
            source.lag_unknown.as_ref().map(|reason| format!("messages on {name}, nobody knows how many ({reason})"))
        });
        waits.extend(unknown);
        if waits.is_empty() {
            return None;
        }
        let since = match self.daemon.reported_seconds_ago {
            Some(seconds) => format!("no c360 has run for {}", age(seconds)),
            None => "no c360 runs".to_owned(),
        };
        let look = Look::new(
            format!("{since}, and this waits for one: {}.", waits.join("; ")),
            "Profiles stay as they are. `c360 run` works on; `c360 run --once` catches up and exits.",
            "c360 run",
        );
        Some(look.failed().since(self.daemon.reported_seconds_ago.map(|seconds| self.ago(seconds))))
    }

    /// The rules have changed, and not every profile has.
    fn rebuild(&self) -> Option<Look> {
        if !self.facts.rebuild_is_due {
            return None;
        }
        if self.facts.other_rules_are_at_work && self.daemon.consolidating {
            return Some(Look::new(
                "the rules (matching, survivorship) of this configuration are not those that the daemon has started with.",
                "Profiles are made by its rules until it is started again: do that first. With --dry-run it says what would \
                 change.",
                "c360 rebuild",
            ));
        }
        Some(Look::new(
            "the rules (matching, survivorship) are not those by which all profiles were made.",
            "Profiles change one by one, as news of them comes. With --dry-run it says what would change.",
            "c360 rebuild",
        ))
    }

    fn backlog(&self) -> Option<Look> {
        let seconds = self.late_backlog().filter(|_| self.daemon.running)?;
        let waits =
            format!("consolidation is behind: {} to do, the oldest for {}", self.to_consolidate(), age(seconds));
        let error = self.facts.backlog.values().find_map(|backlog| backlog.last_error.as_deref());
        let (problem, effect, command) = match (self.daemon.consolidating, error) {
            (_, Some(error)) => (
                format!("{waits}, and consolidation fails: {error}."),
                "Profiles stay as they are; it is tried again all the time, and the daemon's log says more.",
                "c360 status --json",
            ),
            (true, None) => (
                format!("{waits}."),
                "Profiles are late by that. It is being worked on: see whether the number falls.",
                "watch c360 status",
            ),
            (false, None) => (
                format!("{waits}, and nobody consolidates."),
                "Sources are landed, but profiles stay as they are. Start the daemon again, or consolidate now:",
                "c360 run --once",
            ),
        };
        let look = Look::new(problem, effect, command).since(self.ago(seconds));
        Some(if self.daemon.consolidating && error.is_none() { look } else { look.failed() })
    }

    fn expiry(&self) -> Option<Look> {
        if let Some(since) = self.facts.expiry.held_back_since.filter(|since| self.is_late(*since)) {
            let look = Look::new(
                format!(
                    "expiry has been held back for {} by records that are not consolidated.",
                    age(seconds_since(since, self.now))
                ),
                "Nothing is lost, but personal data stays longer than its time to live, and staging grows.",
                "c360 run --once",
            );
            return Some(look.since(since));
        }
        let overdue = self.facts.expiry.overdue_since.filter(|since| self.is_late(*since))?;
        let look = Look::new(
            format!(
                "records whose time is over are still there, the oldest for {}.",
                age(seconds_since(overdue, self.now))
            ),
            "Nobody drops them, or somebody reads them in a long transaction. Personal data stays longer than it may.",
            "c360 expire",
        );
        Some(look.since(overdue))
    }
}
