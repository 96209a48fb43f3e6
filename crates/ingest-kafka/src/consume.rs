//! Consuming: the half with a thread of its own. It polls, decodes into open batches, and hands full ones to landing.
//!
//! It never waits for the database without polling: while a batch finds no room, partitions are paused and the group is
//! still answered. Progress moves only when landing says so; Kafka's own committed offsets follow, for lag tools.

mod absent;
mod assign;
mod orphans;
mod range;
mod tend;

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use model::Record;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use staging::offsets::Progress;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Sender, UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::client::{self, Bounds, Client, INSTANCE_ID};
use crate::land::Event;
use crate::partition::{Name, Partition, Sealed, until};
use crate::status::Board;
use crate::{Error, Format, Settings, metrics};

use absent::Absent;
use assign::Waiting;
use orphans::Orphans;

/// How many messages are taken before the loop looks up.
const STRIDE: usize = 64;
/// How long a batch may wait for room before partitions are paused: pausing throws away what was fetched ahead.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest time between two looks at everything but messages.
const LONGEST_POLL: Duration = Duration::from_millis(100);
/// Open batches of all partitions together stay below this.
const OPEN_BYTES: usize = 16 << 20;
/// And there are no more of them than this.
const OPEN_BATCHES: usize = 64;

/// What to read.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Whatever the group gives, for ever.
    Group,
    /// Everything there is now, without the group: up to these offsets (exclusive).
    Alone(Vec<Target>),
}

/// A partition and how far to read it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) bounds: Bounds,
}

/// The lines to the asynchronous half.
pub(crate) struct Lines {
    pub(crate) sealed: Sender<Sealed>,
    pub(crate) lookups: UnboundedSender<u64>,
    pub(crate) events: Receiver<Event>,
    pub(crate) cancel: CancellationToken,
}

/// The loop and all it knows.
pub(crate) struct Reader<'c> {
    settings: &'c Settings,
    client: &'c Client,
    progress: Progress,
    lines: Lines,
    board: &'c Board,
    /// With [`Plan::Alone`]: where to stop.
    targets: Option<HashMap<(String, i32), Bounds>>,
    partitions: Vec<Partition>,
    /// The highest generation of partitions that are not read any more.
    generations: u64,
    /// Index of the partition that the last message was of.
    current: usize,
    /// Messages that came although everything is paused.
    stash: VecDeque<BorrowedMessage<'c>>,
    /// A schema that the first message of the stash has to wait for.
    pending_schema: Option<u32>,
    /// A sealed batch that has found no room yet.
    outbox: Option<Sealed>,
    blocked_since: Option<Instant>,
    paused: bool,
    waiting: Waiting,
    bounds: HashMap<(String, i32), Bounds>,
    tended_at: Instant,
    checked_at: Option<Instant>,
    rechecked_at: Instant,
    check_ranges: bool,
    /// Whether partitions may have been read past what is landed, over offsets without messages.
    gaps_left: bool,
    /// Topics that are named and not there.
    absent: Absent,
    /// Partitions that nobody in the group reads.
    orphans: Orphans,
    /// Trouble that is not logged yet, and since when: what it comes from may be heard a moment later.
    untold: Option<(Instant, String)>,
    /// When each trouble was last logged.
    told: Vec<(String, Instant)>,
    /// Since when no broker answers.
    unreachable_since: Option<Instant>,
    records: Vec<Record>,
}

/// Reads until cancelled, done ([`Plan::Alone`]) or broken. The caller closes the client.
pub(crate) fn consume(
    settings: &Settings,
    client: &Client,
    plan: Plan,
    progress: Progress,
    lines: Lines,
    board: &Board,
) -> Result<(), Error> {
    let now = Instant::now();
    let mut reader = Reader {
        settings,
        client,
        progress,
        lines,
        board,
        targets: None,
        partitions: Vec::new(),
        generations: 0,
        current: 0,
        stash: VecDeque::new(),
        pending_schema: None,
        outbox: None,
        blocked_since: None,
        paused: false,
        waiting: Waiting::default(),
        bounds: HashMap::new(),
        tended_at: now,
        checked_at: None,
        rechecked_at: now,
        check_ranges: false,
        gaps_left: false,
        absent: Absent::default(),
        orphans: Orphans::default(),
        untold: None,
        told: Vec::new(),
        unreachable_since: None,
        records: Vec::new(),
    };
    reader.begin(plan)?;
    reader.run()
}

impl<'c> Reader<'c> {
    fn run(&mut self) -> Result<(), Error> {
        while !self.lines.cancel.is_cancelled() && !self.lines.sealed.is_closed() {
            while let Ok(event) = self.lines.events.try_recv() {
                self.hear(event)?;
            }
            self.answer_rebalances()?;
            self.tend()?;
            self.pass_over_gaps();
            if self.is_done() {
                break;
            }
            if !self.post() {
                self.wait_for_room()?;
                continue;
            }
            if self.waits_for_a_schema() {
                self.wait_for_room()?;
                self.seal_some();
                continue;
            }
            self.read()?;
            self.seal_some();
        }
        // What was stopped by the last message of all is seen by whoever waits for the end.
        self.board.write(self.progress());
        Ok(())
    }

    /// Takes some messages; returns early with a full batch in the outbox.
    fn read(&mut self) -> Result<(), Error> {
        let mut timeout = self.next_wait();
        let now = Utc::now();
        for _ in 0..STRIDE {
            let message = match self.stash.pop_front() {
                Some(message) => message,
                None => match self.client.poll(timeout) {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => return self.note_trouble(error),
                    None => return Ok(()),
                },
            };
            timeout = Duration::ZERO;
            self.take(message, now);
            if self.outbox.is_some() || self.pending_schema.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, message: BorrowedMessage<'c>, now: DateTime<Utc>) {
        self.note_brokers(true);
        let Some(index) = self.find(message.topic(), message.partition()) else { return };
        self.current = index;
        let partition = &mut self.partitions[index];
        if let Some(reason) = partition.recognise(&client::view(&message)) {
            return self.stop(index, reason);
        }
        self.pending_schema = partition.take(self.settings, &client::view(&message), now, &mut self.records);
        if partition.is_full() {
            self.outbox = partition.seal();
        }
        if self.pending_schema.is_some() {
            self.stash.push_front(message);
        }
    }

    /// Whether the schema registry still owes an answer. Like a database that is slow, it pauses reading.
    fn waits_for_a_schema(&mut self) -> bool {
        let (Some(schema_id), Format::Avro(registry)) = (self.pending_schema, &self.settings.format) else {
            return false;
        };
        // Who waited for it may have been given back.
        if !self.stash.is_empty() && !registry.knows(schema_id) {
            return true;
        }
        self.pending_schema = None;
        self.blocked_since = None;
        self.resume();
        false
    }

    fn find(&self, topic: &str, partition: i32) -> Option<usize> {
        let is_it = |known: &Partition| known.name.1 == partition && &*known.name.0 == topic;
        if self.partitions.get(self.current).is_some_and(is_it) {
            return Some(self.current);
        }
        self.partitions.iter().position(is_it)
    }

    fn partition(&mut self, name: &Name, generation: u64) -> Option<&mut Partition> {
        let index = self.find(&name.0, name.1)?;
        Some(&mut self.partitions[index]).filter(|partition| partition.generation == generation)
    }

    /// Seals a batch that has waited long enough, if there is room for it; also one of too many.
    fn seal_some(&mut self) {
        if self.outbox.is_some() {
            return;
        }
        let (count, bytes) = self
            .partitions
            .iter()
            .filter_map(Partition::open_bytes)
            .fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        if count > OPEN_BATCHES || bytes > OPEN_BYTES {
            let largest = self.partitions.iter_mut().max_by_key(|partition| partition.open_bytes());
            self.outbox = largest.and_then(Partition::seal);
        } else if self.lines.sealed.capacity() > 0 {
            let (now, is_quiet) = (Instant::now(), self.is_quiet());
            let is_due = |partition: &&mut Partition| partition.due(is_quiet).is_some_and(|due| due <= now);
            let due = self.partitions.iter_mut().filter(is_due);
            self.outbox = due.min_by_key(|partition| partition.due(is_quiet)).and_then(Partition::seal);
        }
    }

    /// Whether nothing waits to be landed; one batch may be on its way.
    fn is_quiet(&self) -> bool {
        self.lines.sealed.capacity() == self.lines.sealed.max_capacity()
    }

    fn next_wait(&self) -> Duration {
        let now = Instant::now();
        let is_quiet = self.is_quiet();
        let due = self.partitions.iter().filter_map(|partition| partition.due(is_quiet)).min();
        let wait = until(due, now, LONGEST_POLL);
        // Due, but without room: look again soon, and let the batch grow meanwhile.
        if wait.is_zero() { Duration::from_millis(2) } else { wait }
    }

    /// Hands over the outbox; false while there is no room.
    fn post(&mut self) -> bool {
        let Some(sealed) = self.outbox.take() else { return true };
        match self.lines.sealed.try_send(sealed) {
            Ok(()) => {
                self.blocked_since = None;
                self.resume();
                true
            }
            Err(TrySendError::Full(sealed)) => {
                self.outbox = Some(sealed);
                false
            }
            // Landing has ended; so will the loop.
            Err(TrySendError::Closed(_)) => false,
        }
    }

    fn wait_for_room(&mut self) -> Result<(), Error> {
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        if !self.paused && since.elapsed() > PATIENCE {
            self.pause();
        }
        if self.paused {
            // Nothing should come, but the group and its broker want to hear from us.
            match self.client.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => self.stash.push_back(message),
                Some(Err(error)) => return self.note_trouble(error),
                None => {}
            }
            return Ok(());
        }
        match self.lines.events.recv_timeout(Duration::from_millis(5)) {
            Ok(event) => self.hear(event),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::yield_now();
                Ok(())
            }
        }
    }

    fn pause(&mut self) {
        let paused = self.client.assignment().and_then(|partitions| self.client.pause(&partitions));
        match paused {
            Ok(()) => {
                let who = if self.pending_schema.is_some() { "schema registry" } else { "database" };
                tracing::info!(source = %self.settings.name, "the {who} is slow: reading is paused");
            }
            Err(error) => tracing::debug!(source = %self.settings.name, %error, "pausing"),
        }
        metrics::paused(&self.settings.name);
        self.paused = true;
    }

    fn resume(&mut self) {
        if !std::mem::take(&mut self.paused) {
            return;
        }
        let mut partitions = rdkafka::TopicPartitionList::new();
        for partition in self.partitions.iter().filter(|partition| partition.stopped.is_none()) {
            partitions.add_partition(&partition.name.0, partition.name.1);
        }
        if let Err(error) = self.client.resume(&partitions) {
            tracing::warn!(source = %self.settings.name, %error, "resuming");
        }
    }

    fn hear(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Landed { name, generation, next_offset } => {
                if let Some(partition) = self.partition(&name, generation) {
                    partition.land(next_offset);
                }
            }
            Event::Fenced { name, generation, start } => {
                if self.partition(&name, generation).is_some() {
                    self.check_taken(&start)?;
                    self.restart(&name, start);
                }
            }
            Event::Refused { name, generation, first_offset, next_offset, reject, start } => {
                if let Some(partition) = self.partition(&name, generation) {
                    partition.refuse(first_offset, next_offset, reject);
                    self.restart(&name, start);
                }
            }
            Event::Found { lookup, stored } => return self.found(lookup, &stored),
        }
        Ok(())
    }

    /// Errors of the client. Most pass by themselves, and librdkafka tries again.
    fn note_trouble(&mut self, error: KafkaError) -> Result<(), Error> {
        let code = match error {
            KafkaError::MessageConsumption(code) => code,
            KafkaError::PartitionEOF(_) => return Ok(()),
            error => return Err(self.broken(error)),
        };
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                self.check_ranges = true;
                return Ok(());
            }
            RDKafkaErrorCode::AllBrokersDown => self.note_brokers(false),
            RDKafkaErrorCode::UnknownTopicOrPartition => self.expect_absent_topics(),
            _ => {}
        }
        self.untold.get_or_insert_with(|| (Instant::now(), error.to_string()));
        Ok(())
    }

    /// The client is of no use any more.
    fn broken(&self, error: KafkaError) -> Error {
        let from = self.settings.name.clone();
        match self.client.client().fatal_error() {
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => {
                Error::Fenced { from, instance: self.settings.properties.get(INSTANCE_ID).cloned().unwrap_or_default() }
            }
            _ => Error::Client { from, error: Box::new(error) },
        }
    }

    /// Errors say when brokers go, and never that they are back: statistics and messages do.
    fn note_brokers(&mut self, answer: bool) {
        if !answer {
            self.unreachable_since.get_or_insert_with(Instant::now);
        } else if let Some(since) = self.unreachable_since.take() {
            self.client.context().forget_trouble();
            tracing::info!(source = %self.settings.name, seconds = since.elapsed().as_secs(), "Kafka answers again");
        }
    }
}
