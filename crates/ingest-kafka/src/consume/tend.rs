//! What has to be done now and then, between messages.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::Reader;
use crate::client::{self, ALONE_PATIENCE, Bounds};
use crate::partition::Partition;
use crate::status::{PartitionProgress, Progress, StoppedPartition};
use crate::{Error, Format, Registry};

const INTERVAL: Duration = Duration::from_secs(1);
/// Somebody waits for the end of [`super::Plan::Alone`].
const INTERVAL_ALONE: Duration = Duration::from_millis(50);
/// How often a stopped partition is looked after: an operator may have stored other progress.
const RECHECK: Duration = Duration::from_secs(5);
/// How long after trouble its reason may be heard.
const REASON_WITHIN: Duration = Duration::from_millis(500);
/// How long after trouble was logged it may be logged again.
const TOLD_FOR: Duration = Duration::from_mins(1);

impl Reader<'_> {
    pub(super) fn tend(&mut self) -> Result<(), Error> {
        let interval = if self.targets.is_some() { INTERVAL_ALONE } else { INTERVAL };
        if self.tended_at.elapsed() < interval {
            return Ok(());
        }
        self.tended_at = Instant::now();
        if let Some(statistics) = self.client.context().statistics() {
            self.note_brokers(statistics.is_any_broker_up());
            self.note_bounds(statistics.bounds());
            self.note_lag();
            self.look_beyond_the_ends();
        }
        self.tell_trouble();
        self.check_ranges();
        self.look_for_absent_topics();
        self.look_for_orphans()?;
        for index in 0..self.partitions.len() {
            if self.partitions[index].adrift {
                self.seek(index);
            }
        }
        if self.rechecked_at.elapsed() > RECHECK && self.partitions.iter().any(|partition| partition.stopped.is_some())
        {
            self.rechecked_at = Instant::now();
            self.recheck_stopped();
        }
        if self.targets.is_some() && self.unreachable_since.is_some_and(|since| since.elapsed() > ALONE_PATIENCE) {
            let error = KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown);
            return Err(client::unreachable(self.settings, self.client, &error));
        }
        if self.targets.is_some()
            && self.pending_schema.is_some()
            && let Some(error) = self.registry().and_then(|registry| registry.given_up(ALONE_PATIENCE))
        {
            return Err(error);
        }
        self.gaps_left = true;
        self.commit();
        self.board.write(self.progress());
        Ok(())
    }

    /// With [`super::Plan::Alone`]: whether everything is landed, by whomever, or stopped.
    pub(super) fn is_done(&self) -> bool {
        let Some(targets) = &self.targets else { return false };
        let is_done = |partition: &Partition| {
            let bounds = targets.get(&(partition.name.0.to_string(), partition.name.1));
            partition.stopped.is_some()
                || bounds.is_none_or(|Bounds { low, high }| partition.landed.unwrap_or(*low) >= *high)
                    && !partition.is_to_be_recognised()
        };
        self.is_assigned() && !self.check_ranges && self.partitions.iter().all(is_done)
    }

    /// Whether more is landed of some partition than it has. What has been landed since these statistics were made says
    /// nothing, so they are compared with what was landed when the last ones were looked at.
    fn look_beyond_the_ends(&mut self) {
        for partition in &mut self.partitions {
            let landed = std::mem::replace(&mut partition.landed_at_statistics, partition.landed);
            let bounds = self.bounds.get(&(partition.name.0.to_string(), partition.name.1));
            self.check_ranges |= partition.stopped.is_none()
                && landed == partition.landed
                && bounds.is_some_and(|bounds| landed > Some(bounds.high));
        }
    }

    /// Where the client has gone past offsets that hold no messages for us (ends of transactions, aborted ones), stored
    /// progress follows once nothing else is left to do: one partition after the other, as there is room.
    pub(super) fn pass_over_gaps(&mut self) {
        if !self.gaps_left || self.outbox.is_some() || !self.stash.is_empty() || self.lines.sealed.capacity() == 0 {
            return;
        }
        self.gaps_left = false;
        let Ok(positions) = self.client.position() else { return };
        for element in positions.elements() {
            let Offset::Offset(position) = element.offset() else { continue };
            let Some(index) = self.find(element.topic(), element.partition()) else { continue };
            let partition = &mut self.partitions[index];
            let idle = !partition.adrift && !partition.is_busy() && partition.stopped.is_none();
            let position = partition.not_beyond_end(position);
            if idle && Some(position) > partition.next_offset() {
                self.outbox = Some(partition.seal_progress(self.settings, position));
                self.gaps_left = true;
                return;
            }
        }
    }

    pub(super) fn position_of(&self, topic: &str, partition: i32) -> Option<i64> {
        let positions = self.client.position().ok()?;
        match positions.find_partition(topic, partition)?.offset() {
            Offset::Offset(position) => Some(position),
            _ => None,
        }
    }

    /// Tells Kafka what is landed, for lag tools; nothing reads it back.
    pub(super) fn commit(&mut self) {
        if self.targets.is_some() {
            return;
        }
        let mut landed = TopicPartitionList::new();
        for partition in &mut self.partitions {
            if let Some(offset) = partition.landed.filter(|landed| partition.committed != Some(*landed)) {
                partition.committed = Some(offset);
                let _ = landed.add_partition_offset(&partition.name.0, partition.name.1, Offset::Offset(offset));
            }
        }
        if landed.count() > 0
            && let Err(error) = self.client.commit(&landed, CommitMode::Async)
        {
            tracing::debug!(source = %self.settings.name, %error, "noting progress in Kafka, which only lag tools read");
        }
    }

    fn registry(&self) -> Option<&Registry> {
        match &self.settings.format {
            Format::Avro(registry) => Some(registry),
            Format::Debezium | Format::Json => None,
        }
    }

    /// Logs what the client was in trouble with, by its reason if that was heard.
    fn tell_trouble(&mut self) {
        let Some((_, said)) = self.untold.take_if(|(since, _)| since.elapsed() > REASON_WITHIN) else { return };
        let trouble = self.client.context().trouble().map_or(said, |trouble| trouble.sentence);
        self.told.retain(|(_, told)| told.elapsed() < TOLD_FOR);
        if !self.told.iter().any(|(known, _)| *known == trouble) {
            tracing::warn!(source = %self.settings.name, trouble, "Kafka is in trouble, trying again until it works");
            self.told.push((trouble, Instant::now()));
        }
    }

    /// What keeps this source from reading at the moment.
    fn trouble(&self) -> Option<String> {
        if self.unreachable_since.is_some() {
            let heard = self.client.context().trouble();
            return Some(heard.map_or_else(|| "no broker answers".to_owned(), |trouble| trouble.sentence));
        }
        self.registry()?.trouble().map(str::to_owned)
    }

    /// Statistics know nothing of a partition that was stopped before anything of it was fetched: what brokers were asked then
    /// stays.
    fn note_bounds(&mut self, bounds: HashMap<(String, i32), Bounds>) {
        let before = std::mem::replace(&mut self.bounds, bounds);
        for partition in self.partitions.iter().filter(|partition| partition.stopped.is_some()) {
            let name = (partition.name.0.to_string(), partition.name.1);
            if let Some(known) = before.get(&name) {
                self.bounds.entry(name).or_insert(*known);
            }
        }
    }

    fn lag(&self, partition: &Partition) -> i64 {
        let bounds = self.bounds.get(&(partition.name.0.to_string(), partition.name.1));
        bounds.map_or(0, |bounds| (bounds.high - partition.landed.unwrap_or(bounds.low)).max(0))
    }

    /// Where nothing is fetched, statistics are of before.
    fn note_lag(&mut self) {
        if self.paused || self.unreachable_since.is_some() {
            return;
        }
        let now = Utc::now();
        for index in 0..self.partitions.len() {
            let lag = self.lag(&self.partitions[index]);
            let partition = &mut self.partitions[index];
            if partition.stopped.is_none() && !partition.adrift {
                partition.note_lag(lag, now);
            }
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let now_ms = Utc::now().timestamp_millis();
        let one = |partition: &Partition| {
            let name = (partition.name.0.to_string(), partition.name.1);
            let lag = self.lag(partition);
            let waits_ms = partition.waits_since_ms(lag).map_or(0, |since| (now_ms - since).max(0));
            let stopped =
                |reason: &String| StoppedPartition { topic: name.0.clone(), partition: name.1, reason: reason.clone() };
            let progress = PartitionProgress {
                lag,
                lag_seconds: if lag > 0 { waits_ms / 1_000 } else { 0 },
                oldest_unlanded_seconds: waits_ms / 1_000,
                stopped: partition.stopped.as_ref().map(stopped),
            };
            (name, progress)
        };
        Progress {
            trouble: self.trouble(),
            absent_topics: self.absent.topics.clone(),
            partitions: self.partitions.iter().map(one).collect(),
        }
    }
}
