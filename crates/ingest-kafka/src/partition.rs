//! One partition that this process reads: what is open, what is on its way to the database, what is landed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use model::{Record, Reject};
use staging::offsets::{Advance, PartitionEpochs, Progress};
use staging::{Batch, LIMIT_WAIT};

use crate::Settings;
use crate::decode::{Decoder, Message, Outcome, Seen, Skip};
use crate::ledger::Start;
use crate::reread::dead_letter;

/// Topic and number.
pub(crate) type Name = (Arc<str>, i32);

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

/// See the module.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: Name,
    decoder: Arc<Decoder>,
    progress: Progress,
    /// Offset of the first message that is not wanted any more.
    end: Option<i64>,
    pub(crate) generation: u64,
    epochs: PartitionEpochs,
    seen: Seen,
    /// What the next batch continues from: stored, or stored once the batches on their way are landed.
    expected: Option<i64>,
    /// What is known to be stored.
    pub(crate) landed: Option<i64>,
    open: Option<Open>,
    on_their_way: VecDeque<OnItsWay>,
    /// What was known to be stored when the client's statistics were last looked at.
    pub(crate) landed_at_statistics: Option<i64>,
    /// Whether the client could not be put where the partition goes on.
    pub(crate) adrift: bool,
    /// What Kafka was told.
    pub(crate) committed: Option<i64>,
    /// Why it waits for an operator.
    pub(crate) stopped: Option<String>,
    /// A batch that the database refused: up to here every message is landed alone, to find the one.
    careful_until: Option<i64>,
    /// The message that the database refused, alone.
    condemned: Option<(i64, Reject)>,
    /// Timestamp of the last message that is landed.
    pub(crate) landed_until_ms: Option<i64>,
}

#[derive(Debug)]
struct Open {
    batch: Batch,
    first_offset: i64,
    last_offset: i64,
    since: Instant,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    skipped: BTreeMap<&'static str, u64>,
    emptied_at: Option<DateTime<Utc>>,
}

#[derive(Debug)]
struct OnItsWay {
    next_offset: i64,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
}

impl Partition {
    /// Reads from `start` up to before `end`, or for ever, in a generation younger than this one.
    pub(crate) fn new(
        settings: &Settings,
        name: Name,
        progress: Progress,
        start: Start,
        end: Option<i64>,
        generation: u64,
    ) -> Self {
        let mut new = Self {
            decoder: Decoder::new(settings, &name.0),
            name,
            progress,
            end,
            generation,
            epochs: PartitionEpochs::default(),
            seen: Seen::default(),
            expected: None,
            landed: None,
            open: None,
            on_their_way: VecDeque::new(),
            landed_at_statistics: None,
            adrift: false,
            committed: None,
            stopped: None,
            careful_until: None,
            condemned: None,
            landed_until_ms: None,
        };
        new.restart(start);
        new
    }

    /// Forgets everything that is not landed, and goes on from what is stored. The client must be told, too.
    pub(crate) fn restart(&mut self, start: Start) {
        let next_offset = match self.progress {
            Progress::Source => start.next_offset,
            // What is done is forgotten: somebody else has landed all of it.
            Progress::Replay => start.next_offset.or(self.end),
        };
        self.generation += 1;
        self.epochs = start.epochs;
        self.seen = Seen::after(start.last_seen);
        self.expected = next_offset;
        self.landed = next_offset;
        self.open = None;
        self.on_their_way.clear();
        self.stopped = None;
    }

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
            first_offset: message.offset,
            last_offset: message.offset,
            since: Instant::now(),
            first_ms: message.timestamp_ms,
            last_ms: None,
            skipped: BTreeMap::new(),
            emptied_at: None,
        });
        open.last_offset = message.offset;
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

    /// Offset of the first message that was not taken; `None` before the first one of a partition without stored progress.
    pub(crate) fn next_offset(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.last_offset + 1).or(self.expected)
    }

    /// This offset, or where reading ends before it.
    pub(crate) fn not_beyond_end(&self, offset: i64) -> i64 {
        self.end.map_or(offset, |end| offset.min(end))
    }

    /// Whether the open batch may not grow.
    pub(crate) fn is_full(&self) -> bool {
        let careful = self.careful_until.is_some_and(|until| self.next_offset().is_some_and(|next| next <= until + 1));
        self.open.as_ref().is_some_and(|open| careful || open.batch.is_full())
    }

    /// When the open batch has waited long enough.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.since + LIMIT_WAIT)
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
            progress: self.progress,
            epoch: self.epochs.current(),
            topic: self.name.0.to_string(),
            partition: self.name.1,
            expected: self.expected.replace(next_offset),
            next_offset,
            last_seen: self.seen.last,
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

    /// A batch was landed.
    pub(crate) fn land(&mut self, next_offset: i64) {
        while let Some(landed) = self.on_their_way.pop_front_if(|first| first.next_offset <= next_offset) {
            self.landed_until_ms = landed.last_ms.or(self.landed_until_ms);
        }
        self.landed = Some(next_offset);
        if self.careful_until.is_some_and(|until| next_offset > until) {
            self.careful_until = None;
            self.condemned = None;
        }
    }

    /// The database refused a batch for its data. Its messages are read again one by one; one that is refused alone is
    /// condemned to be a dead letter.
    pub(crate) fn refuse(&mut self, first_offset: i64, next_offset: i64, reject: Reject) {
        let last_offset = next_offset - 1;
        if first_offset == last_offset {
            self.condemned = Some((first_offset, reject));
        }
        self.careful_until = self.careful_until.max(Some(last_offset));
    }

    /// Whether a batch is open or on its way.
    pub(crate) fn is_busy(&self) -> bool {
        self.open.is_some() || self.is_landing()
    }

    /// Whether a batch is on its way.
    pub(crate) fn is_landing(&self) -> bool {
        !self.on_their_way.is_empty()
    }

    /// Forgets the open batch: somebody else will read it.
    pub(crate) fn drop_open(&mut self) {
        self.open = None;
    }

    /// Timestamp of the oldest message that is taken and not landed.
    pub(crate) fn oldest_unlanded_ms(&self) -> Option<i64> {
        self.on_their_way.iter().find_map(|batch| batch.first_ms).or_else(|| self.open.as_ref()?.first_ms)
    }
}

/// How long a loop may sleep before a batch is due.
pub(crate) fn until(due: Option<Instant>, now: Instant, longest: Duration) -> Duration {
    due.map_or(longest, |due| due.saturating_duration_since(now).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::settings;
    use crate::settings::Format;

    #[test]
    fn a_replay_whose_progress_is_forgotten_was_done_by_somebody_else() {
        let settings = settings(Format::Debezium);
        let began = |progress| {
            let start = Start { next_offset: Some(10), ..Start::default() };
            Partition::new(&settings, ("customers".into(), 0), progress, start, Some(500), 0)
        };
        let (mut replay, mut source) = (began(Progress::Replay), began(Progress::Source));
        assert_eq!((replay.landed, replay.next_offset()), (Some(10), Some(10)));
        replay.restart(Start::default());
        assert_eq!((replay.landed, replay.next_offset()), (Some(500), Some(500)));
        source.restart(Start::default());
        assert_eq!((source.landed, source.next_offset()), (None, None), "it begins at its beginning");
    }
}
