//! Retrying dead letters, for `c360 dead-letters retry` and for the dashboard: each is read again by the ingester of its
//! source, under the configuration as it is now.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::PgConnection;
use staging::dead_letters::{self, Cannot, Files, Opened, Reread, Retried, Retrier, Selection, State};
use status::words::{count, printable, thousands};
use tokio_util::sync::CancellationToken;

use crate::config::Source;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::sources::{Ingester, ingester};

/// Letters that are landed together, at most so many...
const LETTERS: i64 = 500;
/// ... and at most so many bytes of them.
const BYTES: i64 = 8 << 20;

/// What became of everything.
#[derive(Default)]
pub struct Outcome {
    sources: BTreeMap<String, Retried>,
    /// Sources whose files are being imported.
    locked: Vec<String>,
    /// Of what landed, records that consolidation has parked again.
    excluded: i64,
    stopped: bool,
}

/// Retries the letters of one source after the other.
struct Work<'a> {
    installation: &'a Installation,
    connection: &'a mut PgConnection,
    selection: Selection,
    dry_run: bool,
    cancel: &'a CancellationToken,
    progress: &'a mut (dyn FnMut(u64) + Send),
}

/// Retries the parked letters among those that are selected, and consolidates what landed. `progress` is told how many
/// letters are done with, again and again. It can be repeated, and may be done by several at once.
pub async fn retry(
    installation: &Installation,
    connection: &mut PgConnection,
    selection: Selection,
    dry_run: bool,
    cancel: &CancellationToken,
    progress: &mut (dyn FnMut(u64) + Send),
) -> anyhow::Result<Outcome> {
    let counts = dead_letters::count(&mut *connection, &selection).await?;
    let sources: BTreeSet<&str> = counts.iter().map(|count| count.source.as_str()).collect();
    let mut work = Work { installation, connection, selection, dry_run, cancel, progress };
    let mut outcome = Outcome::default();
    for source in sources {
        match work.retry(source).await {
            Ok(retried) => {
                outcome.sources.insert(source.to_owned(), retried);
            }
            Err(error) if Exit::of(&error) == Exit::Locked => outcome.locked.push(source.to_owned()),
            Err(error) => return Err(error),
        }
    }
    let batch_ids = outcome.batch_ids();
    if !batch_ids.is_empty() && !cancel.is_cancelled() {
        let (rules, seal) = (installation.rules()?, installation.seal());
        consolidate::catch_up(&rules, &seal, &installation.database, cancel).await?;
        outcome.excluded = dead_letters::excluded_from(&mut *connection, &batch_ids).await?;
    }
    outcome.stopped = cancel.is_cancelled();
    Ok(outcome)
}

/// Retries these letters, and says in lines for people what became of them.
pub async fn some(
    installation: &Installation,
    ids: Vec<i64>,
    cancel: &CancellationToken,
) -> anyhow::Result<Vec<String>> {
    let mut connection = staging::connect(&installation.database).await?;
    let selection = Selection { ids: Some(ids), state: Some(State::Parked), ..Selection::default() };
    let outcome = retry(installation, &mut connection, selection, false, cancel, &mut |_| {}).await?;
    Ok(outcome.lines(false))
}

impl Work<'_> {
    /// Retries the letters of one source, page by page, until it is told to stop.
    async fn retry(&mut self, name: &str) -> anyhow::Result<Retried> {
        let mut total = Retried::default();
        let source = self.installation.config.sources.get(name);
        let ingester = source.map(|source| ingester(name, source, &self.installation.key)).transpose()?;
        let files = match &ingester {
            Some(Ingester::Csv(settings)) if settings.full_export => Some(Files::FullExports),
            Some(Ingester::Csv(_)) => Some(Files::Deltas),
            _ => None,
        };
        let reread = |opened: &Opened| match &ingester {
            Some(Ingester::Kafka(settings)) => ingest_kafka::reread(settings, opened),
            Some(Ingester::Csv(settings)) => ingest_csv::reread(settings, opened),
            Some(Ingester::Rest(settings)) => poll_rest::reread(settings, opened),
            None => Reread::Cannot(Cannot::NoSource),
        };
        let mut lander = self.installation.lander();
        let mut retrier = Retrier {
            source: name,
            ttl: source.map(Source::ttl).unwrap_or_default(),
            files,
            database: &self.installation.database,
            lander: &mut lander,
            cancel: self.cancel,
        };
        let mut after = 0;
        while !self.cancel.is_cancelled() {
            let page = dead_letters::waiting(&mut *self.connection, &self.selection, name, after, LETTERS).await?;
            let ids = first(page);
            let Some(last) = ids.last() else { break };
            after = *last;
            let part = match source {
                // Not even what was a record before: nobody says how long its records live.
                None => Ok(Retried {
                    letters: ids.len() as u64,
                    cannot: BTreeMap::from([(Cannot::NoSource, ids.len() as u64)]),
                    ..Retried::default()
                }),
                Some(_) if self.dry_run => retrier.look(&ids, &reread).await,
                Some(_) => retrier.retry(&ids, &reread).await,
            };
            match part {
                Ok(part) => total.add(part),
                Err(staging::Error::Cancelled) => break,
                Err(error) => return Err(error.into()),
            }
            (self.progress)(ids.len() as u64);
        }
        Ok(total)
    }
}

/// As many of the letters as are landed together, at least one.
fn first(page: Vec<(i64, i32)>) -> Vec<i64> {
    let mut bytes = 0;
    let fits = |(_, size): &(i64, i32)| {
        let is_first = bytes == 0;
        bytes += i64::from(*size);
        is_first || bytes <= BYTES
    };
    page.into_iter().take_while(fits).map(|(id, _)| id).collect()
}

impl Outcome {
    fn batch_ids(&self) -> Vec<i64> {
        self.sources.values().flat_map(|retried| &retried.batch_ids).copied().collect()
    }

    fn total(&self) -> Retried {
        let mut total = Retried::default();
        self.sources.values().cloned().for_each(|retried| total.add(retried));
        total
    }

    /// The exit code of the command.
    pub fn exit(&self) -> Exit {
        let total = self.total();
        let is_left = !total.still_bad.is_empty() || !total.cannot.is_empty() || total.parts > 0 || self.excluded > 0;
        let left = if is_left { Exit::Refused } else { Exit::Done };
        let locked = if self.locked.is_empty() { Exit::Done } else { Exit::Locked };
        let away = if total.cannot.contains_key(&Cannot::OutOfReach) { Exit::OutOfReach } else { Exit::Done };
        if self.stopped { Exit::Unexpected } else { left.and(locked).and(away) }
    }

    /// As JSON.
    pub fn document(&self, dry_run: bool) -> Value {
        let mut document = counts(&self.total());
        document["dry_run"] = json!(dry_run);
        document["excluded"] = json!(self.excluded);
        document["locked"] = json!(self.locked);
        document["stopped"] = json!(self.stopped);
        document["sources"] = self.sources.iter().map(|(name, retried)| (name.clone(), counts(retried))).collect();
        document
    }

    /// In lines for people.
    pub fn lines(&self, dry_run: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if self.total().letters == 0 && self.locked.is_empty() {
            lines.push("There is no parked dead letter to retry.".to_owned());
        }
        for (name, retried) in self.sources.iter().filter(|(_, retried)| retried.letters > 0) {
            lines.extend(about(name, retried, dry_run));
        }
        for name in &self.locked {
            lines.push(format!("{name}: its files are being imported; try again when that is done"));
        }
        if self.excluded > 0 {
            let records = count(self.excluded, "record");
            lines.push(format!(
                "{records} of what landed could not be consolidated and is parked again (cannot_consolidate)"
            ));
        }
        if self.stopped {
            lines.push("Stopped. What is landed is landed; the same command does the rest.".to_owned());
        }
        lines.iter().map(|line| printable(line)).collect()
    }
}

fn about(name: &str, retried: &Retried, dry_run: bool) -> Vec<String> {
    let letters = |number: u64| count(i64::try_from(number).unwrap_or(i64::MAX), "dead letter");
    let records = |number: u64| count(i64::try_from(number).unwrap_or(i64::MAX), "record");
    let number = |number: u64| thousands(i64::try_from(number).unwrap_or(i64::MAX));
    let lands = if dry_run { "would land" } else { "landed" };
    let mut lines = vec![format!("{name}: {}", letters(retried.letters))];
    if retried.landed > 0 {
        lines.push(format!("  {} {lands}, as {}", number(retried.landed), records(retried.records)));
    }
    if retried.skipped > 0 {
        let what = "nothing to land: empty, or overtaken by a newer full export";
        lines.push(format!("  {} {what}", number(retried.skipped)));
    }
    if retried.erased > 0 {
        lines.push(format!("  {} nothing to land: of persons who are erased", number(retried.erased)));
    }
    if retried.parts > 0 {
        lines.push(format!("  {} of their parts still bad, parked by themselves", number(retried.parts)));
    }
    for (reason, bad) in &retried.still_bad {
        lines.push(format!("  {} still bad: {reason}", number(*bad)));
    }
    for (why, letters) in &retried.cannot {
        lines.push(format!("  {} cannot be retried: {}", number(*letters), why.why()));
    }
    if retried.elsewhere > 0 {
        lines.push(format!("  {} retried or discarded by somebody else meanwhile", number(retried.elsewhere)));
    }
    lines
}

fn counts(retried: &Retried) -> Value {
    let cannot: BTreeMap<&str, u64> = retried.cannot.iter().map(|(why, letters)| (why.as_str(), *letters)).collect();
    json!({
        "letters": retried.letters, "landed": retried.landed, "records": retried.records, "skipped": retried.skipped,
        "erased": retried.erased,
        "parts": retried.parts, "still_bad": retried.still_bad, "cannot": cannot, "elsewhere": retried.elsewhere,
    })
}
