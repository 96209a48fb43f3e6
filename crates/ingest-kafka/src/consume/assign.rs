//! Which partitions to read, and from where: what the group says and what the database has stored.

use std::time::{Duration, Instant};

use chrono::Utc;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};

use super::{Plan, Reader};
use crate::Error;
use crate::client::{self, Rebalance};
use crate::ledger::{Start, Stored};
use crate::partition::{Name, Partition};

/// How long a partition that is taken away may finish what is on its way.
const HANDOVER: Duration = Duration::from_secs(3);

/// How long the client may take to read from somewhere else.
const SEEK_WITHIN: Duration = Duration::from_secs(5);

/// Questions to the database that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    asked: u64,
    /// Partitions that the group gave, and the question where they begin.
    assignment: Option<(u64, TopicPartitionList)>,
    /// Whether stopped partitions have other progress stored by now.
    recheck: Option<u64>,
}

impl Reader<'_> {
    pub(super) fn begin(&mut self, plan: Plan) -> Result<(), Error> {
        match plan {
            Plan::Group => {
                self.expect_orphans();
                self.subscribe()
            }
            Plan::Alone(targets) => {
                let mut partitions = TopicPartitionList::new();
                for target in &targets {
                    partitions.add_partition(&target.topic, target.partition);
                }
                let targets = targets.into_iter().map(|target| ((target.topic, target.partition), target.bounds));
                self.targets = Some(targets.collect());
                let lookup = self.ask();
                self.waiting.assignment = Some((lookup, partitions));
                Ok(())
            }
        }
    }

    pub(super) fn subscribe(&self) -> Result<(), Error> {
        self.client.subscribe(&self.settings.all_topics()).map_err(|error| self.client_error(error))
    }

    pub(super) fn answer_rebalances(&mut self) -> Result<(), Error> {
        while let Some(rebalance) = self.client.context().rebalance() {
            match rebalance {
                Rebalance::Assign(partitions) if partitions.count() == 0 => {
                    client::take(self.client, &partitions).map_err(|error| self.client_error(error))?;
                }
                Rebalance::Assign(partitions) => {
                    let lookup = self.ask();
                    self.waiting.assignment = Some((lookup, partitions));
                }
                Rebalance::Revoke(partitions) => self.revoke(&partitions)?,
            }
        }
        Ok(())
    }

    /// Whether all partitions are known: nothing is asked about their progress.
    pub(super) fn is_assigned(&self) -> bool {
        self.waiting.assignment.is_none()
    }

    pub(super) fn recheck_stopped(&mut self) {
        self.waiting.recheck = Some(self.ask());
    }

    fn ask(&mut self) -> u64 {
        self.waiting.asked += 1;
        // A closed line ends the loop elsewhere.
        let _ = self.lines.lookups.send(self.waiting.asked);
        self.waiting.asked
    }

    /// The database has answered a question.
    pub(super) fn found(&mut self, lookup: u64, stored: &Stored) -> Result<(), Error> {
        if let Some((_, partitions)) = self.waiting.assignment.take_if(|(asked, _)| *asked == lookup) {
            return self.assign(&partitions, stored);
        }
        if self.waiting.recheck.take_if(|asked| *asked == lookup).is_some() {
            let idle = self.partitions.iter().filter(|partition| partition.stopped.is_some() && !partition.is_busy());
            let changed = idle.map(|partition| (partition, stored.start(&partition.name.0, partition.name.1)));
            let changed = changed.filter(|(partition, start)| {
                start.next_offset != partition.landed || start.last_message != partition.last_message
            });
            for (name, start) in changed.map(|(partition, start)| (partition.name.clone(), start)).collect::<Vec<_>>() {
                tracing::info!(
                    source = %self.settings.name, topic = &*name.0, partition = name.1, offset = start.next_offset,
                    "other progress is stored: the stopped partition is read again"
                );
                self.restart(&name, start);
            }
        }
        Ok(())
    }

    fn assign(&mut self, partitions: &TopicPartitionList, stored: &Stored) -> Result<(), Error> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in client::names(partitions) {
            let start = stored.start(&topic, partition);
            self.check_taken(&start)?;
            tracing::info!(source = %self.settings.name, topic, partition, offset = start.next_offset, "reading");
            self.forget(|known| *known.0 == *topic && known.1 == partition);
            // Beyond the end that was asked for: somebody has landed more since then, or the topic was made again.
            let bounds = self.targets.as_ref().and_then(|targets| targets.get(&(topic.clone(), partition)));
            let end = bounds.map(|bounds| bounds.high);
            self.check_ranges |= end.is_some() && start.next_offset > end;
            let name: Name = (topic.into(), partition);
            let now = Utc::now();
            let partition =
                Partition::new(self.settings, name.clone(), self.progress.clone(), start, end, self.generations, now);
            list.add_partition_offset(&name.0, name.1, client::start(partition.first_offset()))
                .map_err(|error| self.client_error(error))?;
            self.partitions.push(partition);
        }
        let assigned =
            if self.targets.is_some() { self.client.assign(&list) } else { client::take(self.client, &list) };
        assigned.map_err(|error| self.client_error(error))?;
        if self.paused {
            let _ = self.client.pause(&list);
        }
        Ok(())
    }

    /// What is open is dropped, what is on its way is awaited for a moment: should it land later, whoever reads the
    /// partition then is fenced once.
    fn revoke(&mut self, partitions: &TopicPartitionList) -> Result<(), Error> {
        let names = client::names(partitions);
        let is_revoked =
            |name: &Name| names.iter().any(|(topic, partition)| **topic == *name.0 && *partition == name.1);
        self.forget_waiting(&names);
        if self.outbox.as_ref().is_some_and(|sealed| is_revoked(&sealed.name)) {
            self.outbox = None;
        }
        self.stash.retain(|message| {
            use rdkafka::Message;
            !names.iter().any(|(topic, partition)| topic == message.topic() && *partition == message.partition())
        });
        self.partitions.iter_mut().filter(|partition| is_revoked(&partition.name)).for_each(Partition::drop_open);
        let deadline = Instant::now() + if self.client.assignment_lost() { Duration::ZERO } else { HANDOVER };
        while self.partitions.iter().any(|partition| is_revoked(&partition.name) && partition.is_landing())
            && Instant::now() < deadline
            && !self.lines.cancel.is_cancelled()
        {
            if let Ok(event) = self.lines.events.recv_timeout(Duration::from_millis(20)) {
                self.hear(event)?;
            }
        }
        self.commit();
        self.forget(is_revoked);
        // To librdkafka a pause outlives the assignment: given back as it is, the partition would come back paused, and nobody
        // would ever read it.
        if let Err(error) = self.client.resume(partitions) {
            tracing::debug!(source = %self.settings.name, %error, "resuming before giving partitions back");
        }
        if let Err(error) = client::give_back(self.client, partitions) {
            tracing::debug!(source = %self.settings.name, %error, "giving partitions back");
        }
        Ok(())
    }

    /// Lets partitions go. Should one come back, it is of a younger generation than anything on its way now: else landing
    /// would take its batches for void ones of before.
    fn forget(&mut self, is_gone: impl Fn(&Name) -> bool) {
        let gone = self.partitions.extract_if(.., |partition| is_gone(&partition.name));
        self.generations = gone.map(|partition| partition.generation).fold(self.generations, u64::max);
    }

    /// Partitions that are taken away before it was known where they begin.
    fn forget_waiting(&mut self, revoked: &[(String, i32)]) {
        let Some((lookup, partitions)) = self.waiting.assignment.take() else { return };
        let mut left = TopicPartitionList::new();
        for (topic, partition) in client::names(&partitions) {
            if !revoked.iter().any(|(revoked, number)| *revoked == topic && *number == partition) {
                left.add_partition(&topic, partition);
            }
        }
        if left.count() > 0 {
            self.waiting.assignment = Some((lookup, left));
        }
    }

    /// A replay whose place another has taken ends: the rest of it is nobody's.
    pub(super) fn check_taken(&self, start: &Start) -> Result<(), Error> {
        if start.is_taken { Err(Error::Taken { from: self.settings.name.clone() }) } else { Ok(()) }
    }

    /// Forgets what is not landed of a partition, and reads it from `start`.
    pub(super) fn restart(&mut self, name: &Name, start: Start) {
        use rdkafka::Message;
        let Some(index) = self.find(&name.0, name.1) else { return };
        if self.outbox.as_ref().is_some_and(|sealed| sealed.name == *name) {
            self.outbox = None;
        }
        self.stash.retain(|message| message.topic() != &*name.0 || message.partition() != name.1);
        let was_stopped = self.partitions[index].stopped.is_some();
        self.partitions[index].restart(start);
        self.seek(index);
        if was_stopped {
            self.resume_one(name);
        }
    }

    /// Puts the client where the partition goes on. Until that has worked, its messages are not taken. Afterwards the client
    /// has no position there until it has read something, so a position never is one of before.
    pub(super) fn seek(&mut self, index: usize) {
        let next_offset = self.partitions[index].next_offset();
        let name = self.partitions[index].name.clone();
        let sought = match self.client.seek(&name.0, name.1, client::start(next_offset), SEEK_WITHIN) {
            // librdkafka has given the partition up, because its offset was out of range.
            Err(KafkaError::Seek(_)) => self.assign_again(&name),
            sought => sought,
        };
        self.partitions[index].adrift = sought.is_err();
        if let Err(error) = sought {
            tracing::info!(source = %self.settings.name, topic = &*name.0, partition = name.1, %error, "seeking, trying again");
        }
    }

    /// Gives a partition back to the client and takes it again, where it goes on.
    fn assign_again(&self, name: &Name) -> KafkaResult<()> {
        let list = |is_in: &dyn Fn(&Partition) -> bool| -> KafkaResult<TopicPartitionList> {
            let mut list = TopicPartitionList::new();
            for partition in self.partitions.iter().filter(|partition| is_in(partition)) {
                let start = client::start(partition.next_offset());
                list.add_partition_offset(&partition.name.0, partition.name.1, start)?;
            }
            Ok(list)
        };
        let again = match self.client.rebalance_protocol() {
            RebalanceProtocol::Eager => {
                let all = list(&|_| true)?;
                self.client.assign(&all)?;
                all
            }
            RebalanceProtocol::Cooperative | RebalanceProtocol::None => {
                let one = list(&|partition| partition.name == *name)?;
                self.client.incremental_unassign(&one)?;
                self.client.incremental_assign(&one)?;
                one
            }
        };
        let rests = |partition: &Partition| self.paused || partition.stopped.is_some();
        let resting =
            list(&|partition| rests(partition) && again.find_partition(&partition.name.0, partition.name.1).is_some())?;
        if resting.count() > 0 {
            self.client.pause(&resting)?;
        }
        self.await_no_position(&again)
    }

    /// Waits until the client has forgotten where it read these partitions: it gives them back by and by, and what it says
    /// until then is of before. Nothing is polled meanwhile, so no newer position can come between.
    fn await_no_position(&self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let deadline = Instant::now() + SEEK_WITHIN;
        while client::names(partitions).iter().any(|(topic, number)| self.position_of(topic, *number).is_some()) {
            if Instant::now() > deadline {
                return Err(KafkaError::Seek("the client does not give the partition back".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn resume_one(&self, name: &Name) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&name.0, name.1);
        if !self.paused
            && let Err(error) = self.client.resume(&list)
        {
            tracing::warn!(source = %self.settings.name, %error, "resuming");
        }
    }

    pub(super) fn client_error(&self, error: rdkafka::error::KafkaError) -> Error {
        Error::Client { from: self.settings.name.clone(), error: Box::new(error) }
    }
}
