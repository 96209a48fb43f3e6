//! Filling batches: messages are decoded into the open one, which is sealed with the progress that it covers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use model::Record;
use staging::offsets::{Advance, LastMessage};
use staging::{Batch, LIMIT_WAIT};

use super::{Careful, Name, OnItsWay, Partition};
use crate::Settings;
use crate::decode::{Message, Outcome, Skip};
use crate::reread::dead_letter;

/// How long the first record of a batch waits while nothing else waits to be landed: not so short that a steady rate is landed
/// record by record.
const QUIET_WAIT: Duration = Duration::from_millis(20);

/// A batch on its way, with the progress that it covers.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) name: Name,
    /// Raised whenever the partition is read from somewhere else; batches of an older generation are void.
    pub(crate) generation: u64,
    pub(crate) batch: Batch,
    pub(crate) advance: Advance,
    pub(crate) first_offset: i64,
    pub(crate) skipped: BTreeMap<&'static str, u64>,
    /// When the table was emptied, if it was.
    pub(crate) emptied_at: Option<DateTime<Utc>>,
}

#[derive(Debug)]
pub(super) struct Open {
    batch: Batch,
    messages: usize,
    first_offset: i64,
    pub(super) last_offset: i64,
    since: Instant,
    pub(super) first_ms: Option<i64>,
    last_ms: Option<i64>,
    skipped: BTreeMap<&'static str, u64>,
    emptied_at: Option<DateTime<Utc>>,
}

impl Partition {
    /// Decodes one message into the open batch. `records` is scratch space. Returns the id of a schema that has to be known
    /// first, if there is one: then the message was not taken.
    pub(crate) fn take(
        &mut self,
        settings: &Settings,
        message: &Message<'_>,
        now: DateTime<Utc>,
        records: &mut Vec<Record>,
    ) -> Option<u32> {
        if self.adrift || self.stopped.is_some() || message.offset < self.next_offset().unwrap_or(0) {
            return None;
        }
        if self.end.is_some_and(|end| message.offset >= end) {
            return None;
        }
        let seen_before = self.seen;
        let epoch = self.epochs.at(message.offset);
        let outcome = match &self.condemned {
            Some((offset, reject)) if *offset == message.offset => {
                records.clear();
                Outcome::Rejected(reject.clone())
            }
            _ => self.decoder.decode(message, &mut self.seen, epoch, now, records),
        };
        if let Outcome::Pending(schema_id) = outcome {
            return Some(schema_id);
        }
        let open = self.open.get_or_insert_with(|| Open {
            batch: Batch::new(&settings.name, settings.ttl),
            messages: 0,
            first_offset: message.offset,
            last_offset: message.offset,
            since: Instant::now(),
            first_ms: message.timestamp_ms,
            last_ms: None,
            skipped: BTreeMap::new(),
            emptied_at: None,
        });
        open.messages += 1;
        open.last_offset = message.offset;
        self.last_message =
            message.timestamp_ms.map(|timestamp_ms| LastMessage { offset: message.offset, timestamp_ms });
        open.last_ms = message.timestamp_ms.or(open.last_ms);
        match outcome {
            Outcome::Records => records.iter().for_each(|record| open.batch.push(record)),
            Outcome::Rejected(reject) => {
                let letter = dead_letter(&self.name.0, self.name.1, message, seen_before, epoch, reject);
                open.batch.push_dead_letter(letter);
            }
            Outcome::Skipped(skip) => {
                open.batch.skip();
                *open.skipped.entry(skip.as_str()).or_default() += 1;
                if let Skip::Truncate { at } = skip {
                    open.emptied_at = Some(at);
                }
            }
            Outcome::Pending(_) => {}
        }
        None
    }

    /// Whether the open batch may not grow.
    pub(crate) fn is_full(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let is_enough = |careful: Careful| open.first_offset <= careful.until && open.messages >= careful.messages;
        open.batch.is_full() || self.careful.is_some_and(is_enough)
    }

    /// When the open batch has waited long enough: sooner while nothing else waits to be landed.
    pub(crate) fn due(&self, is_quiet: bool) -> Option<Instant> {
        self.open.as_ref().map(|open| open.since + if is_quiet { QUIET_WAIT } else { LIMIT_WAIT })
    }

    /// Size of the open batch.
    pub(crate) fn open_bytes(&self) -> Option<usize> {
        self.open.as_ref().map(|open| open.batch.bytes())
    }

    /// Closes the open batch.
    pub(crate) fn seal(&mut self) -> Option<Sealed> {
        let open = self.open.take()?;
        let next_offset = open.last_offset + 1;
        self.on_their_way.push_back(OnItsWay { next_offset, first_ms: open.first_ms, last_ms: open.last_ms });
        let sealed = self.sealed(open.batch, open.first_offset, next_offset, open.skipped);
        Some(Sealed { emptied_at: open.emptied_at, ..sealed })
    }

    /// Progress without records, over messages that are never given out: aborted ones, marks of transactions.
    pub(crate) fn seal_progress(&mut self, settings: &Settings, next_offset: i64) -> Sealed {
        self.on_their_way.push_back(OnItsWay { next_offset, first_ms: None, last_ms: None });
        self.sealed(Batch::new(&settings.name, settings.ttl), next_offset, next_offset, BTreeMap::new())
    }

    fn sealed(
        &mut self,
        batch: Batch,
        first_offset: i64,
        next_offset: i64,
        skipped: BTreeMap<&'static str, u64>,
    ) -> Sealed {
        let advance = Advance {
            progress: self.progress.clone(),
            epoch: self.epochs.current(),
            topic: self.name.0.to_string(),
            partition: self.name.1,
            expected: self.expected.replace(next_offset),
            next_offset,
            last_seen: self.seen.last,
            last_message: self.last_message,
        };
        Sealed {
            name: self.name.clone(),
            generation: self.generation,
            batch,
            advance,
            first_offset,
            skipped,
            emptied_at: None,
        }
    }

    /// Forgets the open batch: somebody else will read it.
    pub(crate) fn drop_open(&mut self) {
        self.open = None;
    }
}
