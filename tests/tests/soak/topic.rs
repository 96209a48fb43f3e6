//! What really lies on the broker: read by another client than c360's, when nobody writes any more.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::feed::NUMBER;
use crate::ledger::{CUSTOMERS, Kind, Ledger, ORDERS};

const PATIENCE: Duration = Duration::from_mins(1);

/// A partition: its end, and what number of the ledger lies at which offset.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) end: i64,
    pub(crate) messages: BTreeMap<i64, usize>,
}

/// Topic and partition to what lies there.
pub(crate) type Logs = BTreeMap<(String, i32), Log>;

/// The ends of all partitions.
pub(crate) fn ends(bootstrap: &str) -> Result<BTreeMap<(String, i32), i64>> {
    let consumer = client(bootstrap)?;
    let mut ends = BTreeMap::new();
    for topic in [CUSTOMERS, ORDERS] {
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        let partitions = metadata.topics().first().context("the topic is there")?.partitions();
        for partition in partitions {
            let (_, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?;
            ends.insert((topic.to_owned(), partition.id()), end);
        }
    }
    Ok(ends)
}

/// Reads everything, and compares it with the ledger: what was acknowledged is there once.
pub(crate) fn read(bootstrap: &str, ledger: &Ledger) -> Result<Logs> {
    let consumer = client(bootstrap)?;
    let mut assignment = TopicPartitionList::new();
    let mut logs = Logs::new();
    for ((topic, partition), end) in ends(bootstrap)? {
        assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
        logs.insert((topic, partition), Log { end, ..Log::default() });
    }
    consumer.assign(&assignment)?;
    let (mut at_end, deadline) = (0, Instant::now() + PATIENCE);
    while at_end < logs.len() {
        ensure!(Instant::now() < deadline, "the topics are not read within {PATIENCE:?}");
        let message = match consumer.poll(Duration::from_millis(200)) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                at_end += 1;
                continue;
            }
            Some(message) => message?,
        };
        let header = message.headers().context("headers")?.get(0);
        ensure!(header.key == NUMBER, "the first header");
        let number: usize = std::str::from_utf8(header.value.context("a number")?)?.parse()?;
        let log = logs.get_mut(&(message.topic().to_owned(), message.partition())).context("a partition")?;
        log.messages.insert(message.offset(), number);
    }
    check(&logs, ledger)?;
    Ok(logs)
}

/// What the broker has about a customer, for whoever looks into a difference.
pub(crate) fn story(logs: &Logs, ledger: &Ledger, customer: &str) -> String {
    let mut story = String::new();
    for ((topic, partition), log) in logs {
        for (offset, number) in &log.messages {
            let entry = &ledger.0[*number];
            let is_about = match &entry.kind {
                Kind::Customer { id, .. } => id.to_string() == customer,
                Kind::Gone { id, moved_to } => {
                    id.to_string() == customer || moved_to.is_some_and(|id| id.to_string() == customer)
                }
                _ => false,
            };
            if is_about {
                let _ = writeln!(story, "{topic}/{partition} at {offset}: {:?} {:?}", entry.log, entry.kind);
            }
        }
    }
    story
}

fn check(logs: &Logs, ledger: &Ledger) -> Result<()> {
    let mut times = vec![0; ledger.0.len()];
    for number in logs.values().flat_map(|log| log.messages.values()) {
        *times.get_mut(*number).context("a message that was never sent")? += 1;
    }
    for (number, (entry, times)) in ledger.0.iter().zip(times).enumerate() {
        if times > 1 || (entry.is_sure && times != 1) {
            bail!("the broker has message {number} {times} times, which is no fault of c360");
        }
    }
    Ok(())
}

fn client(bootstrap: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "auditor")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed");
    Ok(config.create()?)
}
