//! What needs a look of one source.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::{Eyes, LATE, Look};
use crate::facts::{FRESH, RECENT};
use crate::report::Source;
use crate::words::{age, count, shell_word};

impl Eyes<'_> {
    /// All of it but its dead letters, the worst first.
    pub(crate) fn of_source(&self, name: &str, source: &Source) -> Vec<Look> {
        let mut looks = Vec::new();
        looks.extend(source.stopped.iter().map(|stopped| self::stopped(name, source, stopped)));
        looks.extend(source.trouble.as_deref().map(trouble));
        looks.extend(source.absent_topics.iter().map(|topic| absent_topic(topic)));
        looks.extend(self.breaker(source));
        looks.extend(self.silent(name, source));
        looks.extend(self.behind(name, source));
        looks.extend(self.unsent(source));
        looks.extend(self.missing_file(name, source));
        looks.extend(self.log_restart(name));
        looks.extend(self.refused_files(name));
        looks.extend(self.retired_file(name));
        looks.extend(self.unreadable_file(name, source));
        looks.extend(self.unmarked_file(name, source));
        looks.extend(self.emptied_tables(name));
        looks
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
        let listen = self.setup.listen;
        let command = format!("curl -s http://{listen}/metrics | grep c360_rest_requests_total");
        // Nobody notes when it opened; what is due waits for about as long.
        let waits = source.oldest_unlanded_seconds.filter(|seconds| *seconds > 0);
        Some(Look::new(problem, effect, command).failed().since(waits.map(|seconds| self.ago(seconds))))
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
        let look = Look::new(
            format!("{since}, although c360 runs."),
            "Its news are missing. It is not in that daemon's configuration, or does not start: the daemon's log says why.",
            "c360 config check",
        );
        Some(look.failed().since(source.reported_seconds_ago.map(|seconds| self.ago(seconds))))
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
        let look = match source.kind {
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
        };
        look.map(|look| look.since(self.ago(waits)))
    }

    /// Edits that the source has not taken.
    fn unsent(&self, source: &Source) -> Option<Look> {
        let edits = source.edits?;
        let command = format!("curl -s http://{}/metrics | grep c360_edits", self.setup.listen);
        if edits.refused > 0 {
            return Some(Look::new(
                format!("{} refused.", count(edits.refused, "edit")),
                "It keeps its own values. The pages of these customers say which edits and why; another edit of the same \
                 attribute takes the place of one that is refused.",
                command,
            ));
        }
        (edits.oldest_seconds > LATE.num_seconds()).then(|| {
            Look::new(
                format!("{} to be sent, the oldest for {}.", count(edits.waiting, "edit"), age(edits.oldest_seconds)),
                "Profiles have them, the source does not. They are sent by themselves once it takes them.",
                command,
            )
            .since(self.ago(edits.oldest_seconds))
        })
    }

    pub(crate) fn late_after(&self, name: &str) -> Option<i64> {
        let after = self.setup.sources.get(name)?.late_after?;
        i64::try_from(after.as_secs()).ok()
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
        Some(Look::new(problem, effect, command).failed().since(since))
    }

    /// Tables behind Kafka topics that were emptied, for a day from when that was read, unless what they held is retired.
    fn emptied_tables(&self, name: &str) -> Vec<Look> {
        let look = |emptied: &Value| {
            let (topic, at) = (emptied.get("topic")?.as_str()?, emptied.get("at")?.as_str()?);
            let is_retired = |at| self.facts.retired.get(name).is_some_and(|before| *before >= at);
            // An older version did not say when it noticed.
            let noticed_at = emptied.get("noticed_at").and_then(Value::as_str).unwrap_or(at).parse().ok();
            let is_recent = noticed_at.is_some_and(|noticed_at: DateTime<Utc>| self.now - noticed_at <= RECENT);
            at.parse::<DateTime<Utc>>().ok().filter(|at| is_recent && !is_retired(*at)).map(|since| {
                Look::new(
                    format!("the table behind {topic} was emptied at {at}."),
                    "What it held lives on in the profiles, because a table is emptied by mistake, too. If it was meant:",
                    format!("c360 source retire {} --before {}", shell_word(name), shell_word(at)),
                )
                .since(since)
            })
        };
        self.facts.list(name, "truncated").iter().filter_map(look).collect()
    }

    pub(crate) fn dead_letters(&self, name: &str) -> Option<Look> {
        let letters = self.facts.dead_letters.iter().filter(|letters| letters.source == name && letters.recent > 0);
        let letters: Vec<_> = letters.collect();
        let recent = letters.iter().map(|letters| letters.recent).sum();
        let reasons: Vec<String> =
            letters.iter().map(|letters| format!("{} {}", letters.reason, letters.recent)).collect();
        let since = letters.iter().filter_map(|letters| letters.first_recent).min()?;
        Some(Look {
            of_dead_letters: true,
            ..Look::new(
                format!("{} within a day: {}.", count(recent, "dead letter"), reasons.join(", ")),
                "These records are kept, and are in no profile, until somebody retries or discards them.",
                format!("c360 dead-letters list --source {}", shell_word(name)),
            )
            .since(since)
        })
    }
}

fn trouble(trouble: &str) -> Look {
    Look::new(
        format!("{trouble}."),
        "Nothing new of it is landed meanwhile; it tries again by itself.",
        "c360 config print",
    )
    .failed()
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
        return Look::new(format!("{reason}{said}."), effect, command).failed();
    };
    let place = |key: &str| stopped.get(key).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    let (topic, partition) = (place("topic").unwrap_or_default(), place("partition").unwrap_or_default());
    Look::new(
        format!("partition {partition} of {topic} is stopped{said}: {reason}."),
        "What comes on it is not landed; other partitions go on. Say from which offset to go on, with --new-epoch if \
         the source's log has begun again.",
        format!("c360 replay {name} --partition {partition} --from-offset OFFSET"),
    )
    .failed()
}
