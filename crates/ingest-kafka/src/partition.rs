//! One partition that this process reads: where it goes on, what is on its way to the database, what is landed. How batches
//! are filled is in `partition/fill.rs`.

mod fill;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use model::Reject;
use staging::LIMIT_ROWS;
use staging::offsets::{LastMessage, PartitionEpochs, Progress};

use crate::Settings;
use crate::client::Bounds;
use crate::decode::{Decoder, Message, Seen};
use crate::ledger::Start;

use fill::Open;
pub(crate) use fill::Sealed;

/// How long the last landed message may take to come, before it counts as gone.
const LANDMARK_PATIENCE: Duration = Duration::from_secs(5);

/// Topic and number.
pub(crate) type Name = (Arc<str>, i32);

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
    /// The last message that was taken.
    pub(crate) last_message: Option<LastMessage>,
    /// The last message that was landed before reading began here, until something has come that tells whether it still is
    /// where it was.
    landmark: Option<LastMessage>,
    began: Instant,
    began_ms: i64,
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
    /// A batch was refused by the database: up to its end batches are small, to find the one message.
    careful: Option<Careful>,
    /// The message that the database refused, alone.
    condemned: Option<(i64, Reject)>,
    /// Timestamp of the last message that is landed.
    landed_until_ms: Option<i64>,
    /// When all that there was had been landed.
    caught_up_ms: Option<i64>,
}

/// How a message is found that the database refuses: by halves, in a number of batches like the logarithm of what there is.
#[derive(Clone, Copy, Debug)]
struct Careful {
    /// Last offset of the batch that was refused.
    until: i64,
    /// How many messages a batch may have: half of it with every refusal, twice as many with every batch that is landed.
    messages: usize,
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
        now: DateTime<Utc>,
    ) -> Self {
        let landmark = start.landmark();
        let mut new = Self {
            decoder: Decoder::new(settings, &name.0),
            name,
            progress,
            end,
            generation,
            epochs: PartitionEpochs::default(),
            seen: Seen::default(),
            last_message: None,
            landmark: None,
            began: Instant::now(),
            began_ms: now.timestamp_millis(),
            expected: None,
            landed: None,
            open: None,
            on_their_way: VecDeque::new(),
            landed_at_statistics: None,
            adrift: false,
            committed: None,
            stopped: None,
            careful: None,
            condemned: None,
            landed_until_ms: landmark.map(|last| last.timestamp_ms),
            caught_up_ms: None,
        };
        new.restart(start);
        new.landmark = landmark;
        new
    }

    /// Where the client is to begin: at the message by which the partition is known again, else where it goes on.
    pub(crate) fn first_offset(&self) -> Option<i64> {
        self.landmark.map(|last| last.offset).or(self.next_offset())
    }

    /// Forgets everything that is not landed, and goes on from what is stored. The client must be told, too.
    pub(crate) fn restart(&mut self, start: Start) {
        let next_offset = match &self.progress {
            Progress::Source => start.next_offset,
            // What is done is forgotten: somebody else has landed all of it.
            Progress::Replay(_) => start.next_offset.or(self.end),
        };
        self.generation += 1;
        self.epochs = start.epochs;
        self.seen = Seen::after(start.last_seen);
        self.last_message = start.last_message;
        self.landmark = None;
        self.expected = next_offset;
        self.landed = next_offset;
        self.open = None;
        self.on_their_way.clear();
        self.stopped = None;
    }

    /// Whether the partition is known again by this message, and if not, what is wrong. That the last landed message is not
    /// there any more proves nothing: retention and compaction take messages.
    pub(crate) fn recognise(&mut self, message: &Message<'_>) -> Option<String> {
        let last = self.landmark.take_if(|last| message.offset >= last.offset)?;
        let is_another = message.offset == last.offset && message.timestamp_ms != Some(last.timestamp_ms);
        is_another.then(|| another_message(last.offset))
    }

    /// Whether it may still turn out that this is another partition than was landed from.
    pub(crate) fn is_to_be_recognised(&self) -> bool {
        self.landmark.is_some() && self.began.elapsed() < LANDMARK_PATIENCE
    }

    /// Whether the client is about to read the message by which the partition is known again. Where it is gone, it is
    /// forgotten.
    pub(crate) fn expects_landmark(&mut self, bounds: Bounds) -> bool {
        self.landmark = self.landmark.filter(|last| (bounds.low..bounds.high).contains(&last.offset));
        self.landmark.is_some()
    }

    /// Offset of the first message that was not taken; `None` before the first one of a partition without stored progress.
    pub(crate) fn next_offset(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.last_offset + 1).or(self.expected)
    }

    /// This offset, or where reading ends before it.
    pub(crate) fn not_beyond_end(&self, offset: i64) -> i64 {
        self.end.map_or(offset, |end| offset.min(end))
    }

    /// A batch was landed.
    pub(crate) fn land(&mut self, next_offset: i64) {
        while let Some(landed) = self.on_their_way.pop_front_if(|first| first.next_offset <= next_offset) {
            self.landed_until_ms = landed.last_ms.or(self.landed_until_ms);
        }
        self.landed = Some(next_offset);
        match &mut self.careful {
            Some(careful) if next_offset <= careful.until => careful.messages = careful.messages.saturating_mul(2),
            _ => (self.careful, self.condemned) = (None, None),
        }
    }

    /// The database refused a batch for its data. Its messages are read again in smaller batches; one that is refused alone
    /// is condemned to be a dead letter.
    pub(crate) fn refuse(&mut self, first_offset: i64, next_offset: i64, reject: Reject) {
        let last_offset = next_offset - 1;
        if first_offset == last_offset {
            self.condemned = Some((first_offset, reject));
        }
        let before = self.careful.unwrap_or(Careful { until: last_offset, messages: LIMIT_ROWS });
        self.careful = Some(Careful { until: before.until.max(last_offset), messages: (before.messages / 2).max(1) });
    }

    /// Whether a batch is open or on its way.
    pub(crate) fn is_busy(&self) -> bool {
        self.open.is_some() || self.is_landing()
    }

    /// Whether a batch is on its way.
    pub(crate) fn is_landing(&self) -> bool {
        !self.on_their_way.is_empty()
    }

    /// Notes how many messages there are behind what is landed, as a broker has just said.
    pub(crate) fn note_lag(&mut self, lag: i64, now: DateTime<Utc>) {
        if lag == 0 && !self.is_busy() {
            self.caught_up_ms = Some(now.timestamp_millis());
        }
    }

    /// Since when something waits to be landed; `None` when nothing does. Of a message that is not fetched nobody knows the
    /// age: it is younger than the last one that is landed, and than the last moment at which all was.
    pub(crate) fn waits_since_ms(&self, lag: i64) -> Option<i64> {
        if lag == 0 && !self.is_busy() {
            return None;
        }
        let fetched = self.on_their_way.iter().find_map(|batch| batch.first_ms);
        let fetched = fetched.or_else(|| self.open.as_ref()?.first_ms);
        fetched.or(self.landed_until_ms).max(self.caught_up_ms).or(Some(self.began_ms))
    }
}

/// Why a partition cannot go on at which the last landed message is another one.
pub(crate) fn another_message(offset: i64) -> String {
    format!("offset {offset} holds another message than was landed from it: the topic was deleted and made again")
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

    fn message(offset: i64, timestamp_ms: i64) -> Message<'static> {
        Message { offset, timestamp_ms: Some(timestamp_ms), key: None, value: None, new_key: None }
    }

    fn begun_behind(last: LastMessage, now: DateTime<Utc>) -> Partition {
        let next_offset = Some(last.offset + 1);
        let start = Start { next_offset, last_message: Some(last), ..Start::default() };
        Partition::new(&settings(Format::Json), ("customers".into(), 0), Progress::Source, start, None, 0, now)
    }

    #[test]
    fn only_another_message_in_the_place_of_the_last_one_proves_another_partition() {
        let last = LastMessage { offset: 99, timestamp_ms: 5_000 };
        for (offset, timestamp_ms, is_another) in [(99, 5_000, false), (99, 5_001, true), (100, 9_000, false)] {
            let mut partition = begun_behind(last, Utc::now());
            assert_eq!(partition.first_offset(), Some(99));
            let reason = partition.recognise(&message(offset, timestamp_ms));
            assert_eq!(reason.is_some(), is_another, "{offset} {timestamp_ms}");
            assert!(!partition.is_to_be_recognised() && partition.recognise(&message(99, 1)).is_none(), "asked once");
        }
        let mut partition = begun_behind(last, Utc::now());
        assert!(partition.expects_landmark(Bounds { low: 0, high: 200 }));
        assert!(!partition.expects_landmark(Bounds { low: 100, high: 200 }), "retention has taken it");
        assert_eq!(partition.first_offset(), Some(100));
    }

    /// Two messages out of 5,000, which lie so far apart that their offsets say nothing of how many there are between.
    #[test]
    fn messages_that_the_database_refuses_are_found_in_few_batches() {
        let settings = settings(Format::Json);
        let offsets: Vec<i64> = (0..5_000).map(|index| index * 100).collect();
        let poison = [offsets[617], offsets[4_999]];
        let start = |next| Start { next_offset: Some(next), ..Start::default() };
        let name = ("customers".into(), 0);
        let mut partition = Partition::new(&settings, name, Progress::Source, start(0), None, 0, Utc::now());
        let (mut batches, mut dead_letters) = (0, Vec::new());
        while partition.landed.unwrap() <= offsets[4_999] {
            let next = partition.next_offset().unwrap();
            for offset in offsets.iter().filter(|offset| **offset >= next) {
                partition.take(&settings, &message(*offset, 1_000), Utc::now(), &mut Vec::new());
                if partition.is_full() {
                    break;
                }
            }
            let Sealed { batch, first_offset, advance, .. } = partition.seal().unwrap();
            batches += 1;
            let refused = poison.iter().any(|offset| {
                (first_offset..advance.next_offset).contains(offset)
                    && partition.condemned.as_ref().is_none_or(|(known, _)| known != offset)
            });
            if refused {
                partition.refuse(first_offset, advance.next_offset, Reject::new(model::Reason::BadValue, "refused"));
                partition.restart(start(next));
            } else {
                if batch.dead_letter_count() > 0 {
                    dead_letters.push(first_offset);
                }
                partition.land(advance.next_offset);
            }
        }
        assert_eq!(dead_letters, poison);
        assert!(batches < 80, "{batches}");
    }

    #[test]
    fn a_batch_is_due_sooner_while_nothing_else_waits_to_be_landed() {
        let mut partition = begun_behind(LastMessage { offset: 9, timestamp_ms: 1_000 }, Utc::now());
        assert_eq!((partition.due(true), partition.due(false)), (None, None));
        partition.take(&settings(Format::Json), &message(10, 2_000), Utc::now(), &mut Vec::new());
        assert!(partition.due(true).unwrap() < partition.due(false).unwrap());
    }

    #[test]
    fn what_waits_with_its_broker_has_an_age_too() {
        let at = |ms| DateTime::from_timestamp_millis(ms).unwrap();
        let settings = settings(Format::Json);
        let mut partition = begun_behind(LastMessage { offset: 9, timestamp_ms: 1_000 }, at(500_000));
        assert_eq!(partition.waits_since_ms(0), None);
        assert_eq!(partition.waits_since_ms(3), Some(1_000), "all that is known: they are younger than the last one");
        partition.note_lag(3, at(600_000));
        partition.note_lag(0, at(700_000));
        assert_eq!(partition.waits_since_ms(1), Some(700_000), "and than when there were none");
        partition.take(&settings, &message(10, 710_000), at(720_000), &mut Vec::new());
        partition.note_lag(0, at(730_000));
        assert_eq!(partition.waits_since_ms(0), Some(710_000), "fetched, and its own age is known");
        let sealed = partition.seal().unwrap();
        assert_eq!(sealed.advance.last_message, Some(LastMessage { offset: 10, timestamp_ms: 710_000 }));
        assert_eq!(partition.waits_since_ms(0), Some(710_000), "on its way");
        partition.land(11);
        assert_eq!(partition.waits_since_ms(0), None);
        assert_eq!(partition.waits_since_ms(5), Some(710_000));

        let start = Start::default();
        let name = ("customers".into(), 0);
        let new = Partition::new(&settings, name, Progress::Source, start, None, 0, at(500_000));
        assert_eq!(new.waits_since_ms(1), Some(500_000), "nothing was ever landed: since reading began");
    }

    #[test]
    fn a_replay_whose_progress_is_forgotten_was_done_by_somebody_else() {
        let settings = settings(Format::Debezium);
        let began = |progress| {
            let start = Start { next_offset: Some(10), ..Start::default() };
            Partition::new(&settings, ("customers".into(), 0), progress, start, Some(500), 0, Utc::now())
        };
        let (mut replay, mut source) = (began(Progress::Replay("".into())), began(Progress::Source));
        assert_eq!((replay.landed, replay.next_offset()), (Some(10), Some(10)));
        replay.restart(Start::default());
        assert_eq!((replay.landed, replay.next_offset()), (Some(500), Some(500)));
        source.restart(Start::default());
        assert_eq!((source.landed, source.next_offset()), (None, None), "it begins at its beginning");
    }
}
