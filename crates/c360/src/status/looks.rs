//! What needs somebody: each a sentence, its effect, and the command to type. `status --check` fails when there is any.
//!
//! Decided here: what a source has waits for longer than its `late_after`, or its next file does not come for so long; other
//! work that waits for [`LATE`] is late, and so is anything while no daemon runs; dead letters need a look for a day after they came (then somebody
//! has left them there, and they only show in the table); a refused file until one of its night or of a newer one is imported; a
//! source that is stopped, open or refused until its ingester says otherwise, even if that was long ago; a log that has
//! begun again until the source has a new epoch; an emptied table for a day, or until it is retired. That no daemon
//! runs needs a look only where something waits for it: installations that run from cron have none.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;
use staging::overview::LedgerFile;

use super::facts::{FRESH, Facts, RECENT};
use super::report::{Daemon, Source, seconds_since};
use super::words::{age, count, shell_word};
use crate::config::{Config, SourceKind};

/// So many refused files of a source are named.
const SHOWN_FILES: usize = 3;
/// Nothing waits this long where everything works.
const LATE: TimeDelta = TimeDelta::minutes(5);

/// Something that needs a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Look {
    /// The source that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What is wrong: one sentence.
    pub problem: String,
    /// What that does.
    pub effect: String,
    /// What to type.
    pub command: String,
}

impl Look {
    fn new(problem: impl Into<String>, effect: impl Into<String>, command: impl Into<String>) -> Self {
        Self { source: None, problem: problem.into(), effect: effect.into(), command: command.into() }
    }

    fn of(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }
}

pub(super) fn not_migrated() -> Look {
    Look::new(
        "the database is not migrated yet: run `c360 run` or `c360 migrate`.",
        "There is nothing to show; `run` migrates by itself.",
        "c360 migrate",
    )
}

pub(super) fn out_of_reach() -> Look {
    Look::new(
        "the database cannot be reached.",
        "Nothing is landed, consolidated or served; sources keep what they have until it is back.",
        "c360 config print",
    )
}

fn trouble(trouble: &str) -> Look {
    Look::new(
        format!("{trouble}."),
        "Nothing new of it is landed meanwhile; it tries again by itself.",
        "c360 config print",
    )
}

fn absent_topic(topic: &str) -> Look {
    Look::new(
        format!("there is no topic {topic}, or the brokers' access rules hide it."),
        "Nothing of it is landed; other topics are. It is read from its beginning once it is there.",
        "c360 config print",
    )
}

/// For the last word of an ingester that is gone.
fn said_ago(source: &Source) -> String {
    source.reported_seconds_ago.map_or_else(String::new, |seconds| format!(" (said {} ago)", age(seconds)))
}

fn stopped(name: &str, source: &Source, stopped: &Value) -> Look {
    let said = if source.running { String::new() } else { said_ago(source) };
    let (Some(reason), name) = (stopped.get("reason").and_then(Value::as_str), shell_word(name)) else {
        let reason = stopped.as_str().map_or_else(|| stopped.to_string(), str::to_owned);
        let (effect, command) = match source.kind {
            Some("csv") => {
                ("No file of it is imported; it goes on by itself once that is mended.", "c360 config print")
            }
            Some("rest") => (
                "Polling rests; after new credentials in the configuration, start the daemon again.",
                "c360 config print",
            ),
            _ => ("Nothing of it is landed.", "c360 config print"),
        };
        return Look::new(format!("{reason}{said}."), effect, command);
    };
    let place = |key: &str| stopped.get(key).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    let (topic, partition) = (place("topic").unwrap_or_default(), place("partition").unwrap_or_default());
    Look::new(
        format!("partition {partition} of {topic} is stopped{said}: {reason}."),
        "What comes on it is not landed; other partitions go on. Say from which offset to go on, with --new-epoch if \
         the source's log has begun again.",
        format!("c360 replay {name} --partition {partition} --from-offset OFFSET"),
    )
}

/// Everything that needs a look, the worst first.
pub(super) fn looks(
    config: &Config,
    facts: &Facts,
    sources: &BTreeMap<String, Source>,
    daemon: Daemon,
    now: DateTime<Utc>,
) -> Vec<Look> {
    let eyes = Eyes { config, facts, sources, daemon, now };
    let mut looks = Vec::new();
    looks.extend(eyes.nobody_works());
    for (name, source) in sources {
        looks.extend(source.stopped.iter().map(|stopped| self::stopped(name, source, stopped).of(name)));
        looks.extend(source.trouble.as_deref().map(|trouble| self::trouble(trouble).of(name)));
        looks.extend(source.absent_topics.iter().map(|topic| absent_topic(topic).of(name)));
        looks.extend(eyes.breaker(source).map(|look| look.of(name)));
        looks.extend(eyes.silent(name, source).map(|look| look.of(name)));
        looks.extend(eyes.behind(name, source).map(|look| look.of(name)));
        looks.extend(eyes.missing_file(name, source).map(|look| look.of(name)));
        looks.extend(eyes.log_restart(name).map(|look| look.of(name)));
        looks.extend(eyes.refused_files(name).into_iter().map(|look| look.of(name)));
        looks.extend(eyes.unreadable_file(name, source).map(|look| look.of(name)));
        looks.extend(eyes.unmarked_file(name, source).map(|look| look.of(name)));
        looks.extend(eyes.emptied_tables(name).into_iter().map(|look| look.of(name)));
    }
    looks.extend(eyes.rebuild());
    looks.extend(eyes.backlog());
    looks.extend(eyes.expiry());
    looks.extend(sources.keys().filter_map(|name| eyes.dead_letters(name).map(|look| look.of(name))));
    looks
}

struct Eyes<'a> {
    config: &'a Config,
    facts: &'a Facts,
    sources: &'a BTreeMap<String, Source>,
    daemon: Daemon,
    now: DateTime<Utc>,
}

impl Eyes<'_> {
    fn is_late(&self, since: DateTime<Utc>) -> bool {
        self.now - since > LATE
    }

    /// How long the oldest batch waits that consolidation could take, if that is late.
    fn late_backlog(&self) -> Option<i64> {
        let oldest = self.facts.backlog.values().filter_map(|backlog| backlog.oldest_claimable).min()?;
        self.is_late(oldest).then(|| seconds_since(oldest, self.now))
    }

    /// No daemon, and something waits for one.
    fn nobody_works(&self) -> Option<Look> {
        if self.daemon.running {
            return None;
        }
        let mut waits = Vec::new();
        for (name, source) in self.sources.iter().filter(|(name, _)| self.config.sources.contains_key(*name)) {
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
            let records = self.sources.values().map(|source| source.backlog.records).sum();
            waits.push(format!("{} to be consolidated, the oldest for {}", count(records, "record"), age(seconds)));
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
        Some(Look::new(
            format!("{since}, and this waits for one: {}.", waits.join("; ")),
            "Profiles stay as they are. `c360 run` works on; `c360 run --once` catches up and exits.",
            "c360 run",
        ))
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

    /// Refused credentials open the breaker too, and are said as stopped.
    fn breaker(&self, source: &Source) -> Option<Look> {
        let state = source.breaker.as_deref().filter(|state| *state != "closed" && source.stopped.is_empty())?;
        let said = if source.running { String::new() } else { said_ago(source) };
        let problem = match state {
            "half_open" => {
                format!("the circuit breaker is half open{said}: the source failed, and is being tried again.")
            }
            _ => format!("the circuit breaker is open{said}: the source keeps failing."),
        };
        let due = count(source.polls_due.unwrap_or(0), "poll");
        let effect = format!("{due} due; c360 tries again by itself. Failures are counted by kind.");
        let listen = self.config.http.listen;
        Some(Look::new(problem, effect, format!("curl -s http://{listen}/metrics | grep c360_rest_requests_total")))
    }

    /// A daemon runs, and nothing is heard of this source: it cannot be started, or hangs.
    fn silent(&self, name: &str, source: &Source) -> Option<Look> {
        let is_daemon = |since: DateTime<Utc>| (self.now - since).to_std().is_ok_and(|age| age > FRESH);
        if source.running || source.kind.is_none() || !self.facts.consolidator_since.is_some_and(is_daemon) {
            return None;
        }
        // An import that takes long says nothing meanwhile.
        if self.facts.backlog.get(name).is_some_and(|backlog| !is_daemon(backlog.newest)) {
            return None;
        }
        let since = match source.reported_seconds_ago {
            Some(seconds) => format!("nothing has been heard of it for {}", age(seconds)),
            None => "nothing was ever heard of it".to_owned(),
        };
        Some(Look::new(
            format!("{since}, although c360 runs."),
            "Its news are missing. It is not in that daemon's configuration, or does not start: the daemon's log says why.",
            "c360 config check",
        ))
    }

    /// Somebody is at it, nothing is known to be wrong, and it waits all the same.
    fn behind(&self, name: &str, source: &Source) -> Option<Look> {
        let is_said = !source.stopped.is_empty() || source.trouble.is_some();
        let breaker_is_open = source.breaker.as_deref().is_some_and(|state| state != "closed");
        if !source.running || is_said || breaker_is_open {
            return None;
        }
        let after = self.late_after(name)?;
        let waits = source.oldest_unlanded_seconds.filter(|seconds| *seconds > after)?;
        let oldest = age(waits);
        match source.kind {
            Some("kafka") => Some(Look::new(
                format!("{} wait to be landed, the oldest for {oldest}.", count(source.lag.unwrap_or(0), "message")),
                "Profiles are late by that. See whether the number falls; if not, the daemon's log says what holds it up.",
                "watch c360 status",
            )),
            Some("rest") => {
                let polls = source.polls_due.filter(|polls| *polls > 0).map(|polls| count(polls, "poll"));
                let lists = source.lists.iter().filter(|(_, list)| list.due_seconds > after);
                let lists = lists.map(|(entity, _)| format!("the list of {entity}s"));
                let due: Vec<String> = polls.into_iter().chain(lists).collect();
                Some(Look::new(
                    format!("{} due, the oldest for {oldest}.", due.join(", ")),
                    "The source is slower than refresh_every asks for. Raise requests_per_second if it bears that, or \
                     refresh_every.",
                    "watch c360 status",
                ))
            }
            _ => None,
        }
    }

    fn late_after(&self, name: &str) -> Option<i64> {
        let after = self.config.sources.get(name)?.settings.late_after?;
        i64::try_from(after.as_secs()).ok()
    }

    /// The next file of a source that sends one every night does not come. One that has come and is not taken is said so.
    fn missing_file(&self, name: &str, source: &Source) -> Option<Look> {
        let newest = *self.facts.newest_nights.get(name).filter(|_| source.kind == Some("csv"))?;
        let has_come = source.oldest_unlanded_seconds.is_some_and(|seconds| seconds > 0)
            || self.facts.refused_files.get(name).is_some_and(|files| files.iter().any(|file| file.as_of > newest));
        let since = seconds_since(newest, self.now);
        if has_come || since <= self.late_after(name)? {
            return None;
        }
        let newest = newest.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        Some(Look::new(
            format!("no file has come since that of {newest}, which is {} ago.", age(since)),
            "Profiles stay as that one left them. Files that come late are imported in order. If none is due yet, set the \
             source's late_after.",
            format!("c360 import {} --dry-run", shell_word(name)),
        ))
    }

    /// The latest ones by name, and how many more there are.
    fn refused_files(&self, name: &str) -> Vec<Look> {
        let files = self.facts.refused_files.get(name).map_or(&[][..], Vec::as_slice);
        let mut looks: Vec<Look> = files.iter().take(SHOWN_FILES).map(|file| self.refused_file(name, file)).collect();
        if files.len() > SHOWN_FILES {
            let more = i64::try_from(files.len() - SHOWN_FILES).unwrap_or(i64::MAX);
            looks.push(Look::new(
                format!("{} before these were refused, too.", count(more, "file")),
                "Nothing of them is published. What is in the directory:",
                format!("c360 import {} --dry-run", shell_word(name)),
            ));
        }
        looks
    }

    fn refused_file(&self, name: &str, file: &LedgerFile) -> Look {
        let reason = file.reason.as_deref().unwrap_or("nobody said why");
        let known = file.directory.as_deref().map(Path::new);
        let directory = known.or(match self.config.sources.get(name).map(|source| &source.kind) {
            Some(SourceKind::Csv(csv)) => Some(csv.directory.as_path()),
            _ => None,
        });
        let path = directory.unwrap_or(Path::new("")).join(&file.file_name);
        let command = format!("c360 import {} {}", shell_word(name), shell_word(&path.to_string_lossy()));
        let problem = format!("the file {} was refused: {reason}.", file.file_name);
        if !file.may_be_accepted {
            let effect = "Nothing of it is published, and there is nothing in it to accept: it has to be sent again, or read by \
                          another configuration. Then:";
            return Look::new(problem, effect, command);
        }
        let effect =
            "Nothing of it is published: its records stay as the file before left them. If it is right after all:";
        Look::new(problem, effect, format!("{command} --accept"))
    }

    /// The ledger has no row for a file that could not be read.
    fn unreadable_file(&self, name: &str, source: &Source) -> Option<Look> {
        let file = self.facts.health.get(name)?.health.get("last_file").filter(|_| source.running)?;
        let state = file.get("state")?.as_str().filter(|state| ["unreadable", "changing"].contains(state))?;
        let file_name = file.get("file")?.as_str()?;
        let reason = file.get("reason").and_then(Value::as_str).map(|reason| format!(": {reason}")).unwrap_or_default();
        let problem = match state {
            "changing" => format!("the file {file_name} is written to all the time{reason}."),
            _ => format!("the file {file_name} cannot be read{reason}."),
        };
        let effect = "It is looked at again from time to time, and not imported until then.";
        Some(Look::new(problem, effect, format!("c360 import {} --dry-run", shell_word(name))))
    }

    /// A file whose marker does not come.
    fn unmarked_file(&self, name: &str, source: &Source) -> Option<Look> {
        let file = self.facts.health.get(name)?.health.get("waiting").filter(|_| source.running)?;
        let word = |key: &str| file.get(key).and_then(Value::as_str);
        let (file_name, reason) = (word("file")?, word("reason")?);
        let waits = source.oldest_unlanded_seconds.filter(|seconds| *seconds > LATE.num_seconds())?;
        let path = match self.config.sources.get(name).map(|source| &source.kind) {
            Some(SourceKind::Csv(csv)) => csv.directory.join(file_name).to_string_lossy().into_owned(),
            _ => file_name.to_owned(),
        };
        Some(Look::new(
            format!("the file {file_name} is not taken: {reason}, for {}.", age(waits)),
            "Nothing of it is imported. If it is whole all the same:",
            format!("c360 import {} {}", shell_word(name), shell_word(&path)),
        ))
    }

    /// Records that look old by position and new by time. Where to begin is said where there is one partition; of several,
    /// each has begun at an offset of its own, and a time finds them all.
    fn log_restart(&self, name: &str) -> Option<Look> {
        let restarts = self.facts.log_restarts.get(name)?;
        let first = restarts.first()?;
        let records = restarts.iter().map(|restart| restart.records).sum();
        let since = restarts.iter().map(|restart| restart.noticed_at).min()?;
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let (problem, replay) = (
            format!(
                "its log seems to have begun again: since {} {} looked old by position, and newer by time than all before; \
                 the first is at offset {} of partition {} of {}.",
                time(since),
                count(records, "record"),
                first.first_offset,
                first.partition,
                first.topic
            ),
            format!("c360 replay {}", shell_word(name)),
        );
        let stored = self.facts.stored.get(name).copied().unwrap_or_default();
        let command = if restarts.len() > 1 {
            let from = restarts.iter().map(|restart| restart.first_observed_at).min()?;
            format!("{replay} --from {} --new-epoch", time(from))
        } else {
            let topic =
                if stored.topics > 1 { format!(" --topic {}", shell_word(&first.topic)) } else { String::new() };
            let partition =
                if stored.partitions > 1 { format!(" --partition {}", first.partition) } else { String::new() };
            format!("{replay}{topic}{partition} --from-offset {} --new-epoch", first.first_offset)
        };
        let effect = "Such records change nothing: what they say is missing in the profiles. If the source was restored, failed \
                      over or had its log reset, begin with the first message of its new log, at this place or shortly before:";
        Some(Look::new(problem, effect, command))
    }

    /// Tables behind Kafka topics that were emptied, for a day, unless what they held is retired.
    fn emptied_tables(&self, name: &str) -> Vec<Look> {
        let emptied = self.facts.health.get(name).and_then(|health| health.health.get("truncated")?.as_array());
        let look = |emptied: &Value| {
            let (topic, at) = (emptied.get("topic")?.as_str()?, emptied.get("at")?.as_str()?);
            let is_retired = |at| self.facts.retired.get(name).is_some_and(|before| *before >= at);
            let needs_a_look = |at| self.now - at <= RECENT && !is_retired(at);
            at.parse::<DateTime<Utc>>().is_ok_and(needs_a_look).then(|| {
                Look::new(
                    format!("the table behind {topic} was emptied at {at}."),
                    "What it held lives on in the profiles, because a table is emptied by mistake, too. If it was meant:",
                    format!("c360 source retire {} --before {}", shell_word(name), shell_word(at)),
                )
            })
        };
        emptied.into_iter().flatten().filter_map(look).collect()
    }

    fn backlog(&self) -> Option<Look> {
        let seconds = self.late_backlog().filter(|_| self.daemon.running)?;
        let records = self.sources.values().map(|source| source.backlog.records).sum();
        let waits = format!(
            "consolidation is behind: {} to do, the oldest landed {} ago",
            count(records, "record"),
            age(seconds)
        );
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
        Some(Look::new(problem, effect, command))
    }

    fn expiry(&self) -> Option<Look> {
        if let Some(since) = self.facts.expiry.held_back_since.filter(|since| self.is_late(*since)) {
            return Some(Look::new(
                format!(
                    "expiry has been held back for {} by records that are not consolidated.",
                    age(seconds_since(since, self.now))
                ),
                "Nothing is lost, but personal data stays longer than its time to live, and staging grows.",
                "c360 run --once",
            ));
        }
        let overdue = self.facts.expiry.overdue_since.filter(|since| self.is_late(*since))?;
        Some(Look::new(
            format!(
                "records whose time is over are still there, the oldest for {}.",
                age(seconds_since(overdue, self.now))
            ),
            "Nobody drops them, or somebody reads them in a long transaction. Personal data stays longer than it may.",
            "c360 expire",
        ))
    }

    fn dead_letters(&self, name: &str) -> Option<Look> {
        let letters = self.facts.dead_letters.iter().filter(|letters| letters.source == name && letters.recent > 0);
        let letters: Vec<_> = letters.collect();
        let recent = letters.iter().map(|letters| letters.recent).sum();
        let reasons: Vec<String> =
            letters.iter().map(|letters| format!("{} {}", letters.reason, letters.recent)).collect();
        (!letters.is_empty()).then(|| {
            Look::new(
                format!("{} within a day: {}.", count(recent, "dead letter"), reasons.join(", ")),
                "These records are kept, and are in no profile, until somebody retries or discards them.",
                format!("c360 dead-letters list --source {}", shell_word(name)),
            )
        })
    }
}
