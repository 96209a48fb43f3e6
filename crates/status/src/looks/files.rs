//! What needs a look of the files of a CSV source.

use std::path::Path;

use chrono::{DateTime, NaiveTime, SecondsFormat, Utc};
use serde_json::Value;
use staging::imports::State;
use staging::overview::LedgerFile;

use super::{Eyes, LATE, Look};
use crate::Kind;
use crate::report::{Source, seconds_since};
use crate::words::{age, count, shell_word};

/// So many refused files of a source are named.
const SHOWN: usize = 3;

impl Eyes<'_> {
    /// The next file of a source that sends one every night does not come. One that has come and is not taken is said so.
    pub(crate) fn missing_file(&self, name: &str, source: &Source) -> Option<Look> {
        let newest = *self.facts.newest_nights.get(name).filter(|_| source.kind == Some("csv"))?;
        let has_come = source.oldest_unlanded_seconds.is_some_and(|seconds| seconds > 0)
            || self.facts.refused_files.get(name).is_some_and(|files| files.iter().any(|file| file.as_of > newest));
        let since = seconds_since(newest, self.now);
        if has_come || since <= self.late_after(name)? {
            return None;
        }
        let is_day = newest.time() == NaiveTime::MIN;
        let newest =
            if is_day { newest.date_naive().to_string() } else { newest.to_rfc3339_opts(SecondsFormat::AutoSi, true) };
        Some(Look::new(
            format!("no file has come since that of {newest}, which is {} ago.", age(since)),
            "Profiles stay as that one left them. Files that come late are imported in order. If none is due yet, set the \
             source's late_after.",
            format!("c360 import {} --dry-run", shell_word(name)),
        ))
    }

    /// The latest ones by name, and how many more there are.
    pub(crate) fn refused_files(&self, name: &str) -> Vec<Look> {
        let files = self.facts.refused_files.get(name).map_or(&[][..], Vec::as_slice);
        let mut looks: Vec<Look> = files.iter().take(SHOWN).map(|file| self.refused_file(name, file)).collect();
        if files.len() > SHOWN {
            let more = i64::try_from(files.len() - SHOWN).unwrap_or(i64::MAX);
            looks.push(Look::new(
                format!("{} before these were refused, too.", count(more, "file")),
                "Nothing of them is published. What is in the directory:",
                format!("c360 import {} --dry-run", shell_word(name)),
            ));
        }
        looks
    }

    /// A file that was imported after a retirement, and is of a time before it.
    pub(crate) fn retired_file(&self, name: &str) -> Option<Look> {
        let (before, file) = (self.facts.retired.get(name)?, self.facts.last_files.get(name)?);
        let imported_at = file.finished_at.filter(|at| file.state == State::Imported && at > before)?;
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        (file.as_of < *before).then(|| {
            Look::new(
                format!(
                    "the file {} is of {}, and what the source said before {} is retired: nobody lives by it.",
                    file.file_name,
                    time(file.as_of),
                    time(*before)
                ),
                "If the source is to live on, a file of a later day counts, and so does this one with a later day in its name:",
                format!("c360 import {}", shell_word(name)),
            )
            .since(imported_at)
        })
    }

    fn refused_file(&self, name: &str, file: &LedgerFile) -> Look {
        let reason = file.reason.as_deref().unwrap_or("nobody said why");
        let known = file.directory.as_deref().map(Path::new);
        let directory = known.or(match self.setup.sources.get(name).map(|source| &source.kind) {
            Some(Kind::Csv { directory, .. }) => Some(directory.as_path()),
            _ => None,
        });
        let path = directory.unwrap_or(Path::new("")).join(&file.file_name);
        let command = format!("c360 import {} {}", shell_word(name), shell_word(&path.to_string_lossy()));
        let problem = format!("the file {} was refused: {reason}.", file.file_name);
        if !file.may_be_accepted {
            let effect = "Nothing of it is published, and there is nothing in it to accept: it has to be sent again, or read by \
                          another configuration. Then:";
            return Look::new(problem, effect, command).failed().since(file.finished_at);
        }
        let effect =
            "Nothing of it is published: its records stay as the file before left them. If it is right after all:";
        Look::new(problem, effect, format!("{command} --accept")).failed().since(file.finished_at)
    }

    /// The ledger has no row for a file that could not be read.
    pub(crate) fn unreadable_file(&self, name: &str, source: &Source) -> Option<Look> {
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
    pub(crate) fn unmarked_file(&self, name: &str, source: &Source) -> Option<Look> {
        let file = self.facts.health.get(name)?.health.get("waiting").filter(|_| source.running)?;
        let word = |key: &str| file.get(key).and_then(Value::as_str);
        let (file_name, reason) = (word("file")?, word("reason")?);
        let waits = source.oldest_unlanded_seconds.filter(|seconds| *seconds > LATE.num_seconds())?;
        let path = match self.setup.sources.get(name).map(|source| &source.kind) {
            Some(Kind::Csv { directory, .. }) => directory.join(file_name).to_string_lossy().into_owned(),
            _ => file_name.to_owned(),
        };
        let look = Look::new(
            format!("the file {file_name} is not taken: {reason}, for {}.", age(waits)),
            "Nothing of it is imported. If it is whole all the same:",
            format!("c360 import {} {}", shell_word(name), shell_word(&path)),
        );
        Some(look.since(self.ago(waits)))
    }
}
