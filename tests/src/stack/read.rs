//! Reading messages back.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    message::{BorrowedMessage, Headers},
    metadata::{MetadataPartition, MetadataTopic},
};
use serde::{Deserialize, Serialize};

const DEADLINE: Duration = Duration::from_mins(1);
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
const TOPIC_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A message as it was read; one line of a recorded fixture.
///
/// Keys, values and headers are text: bytes that are not UTF-8 come out as replacement characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// Names and values, in order; a name may come twice.
    pub headers: Vec<(String, Option<String>)>,
    /// The key; `None` is a Kafka null.
    pub key: Option<String>,
    /// The value; `None` is a Kafka null, which is a tombstone.
    pub value: Option<String>,
}

impl Message {
    /// The value as JSON; `None` for a tombstone.
    pub fn json(&self) -> Result<Option<serde_json::Value>> {
        let parsed = self.value.as_deref().map(serde_json::from_str).transpose();
        parsed.with_context(|| format!("not JSON: {}[{}]@{}", self.topic, self.partition, self.offset))
    }
}

/// Reads all partitions of some topics, each partition in order, outside any consumer group.
pub struct Reader(Arc<StreamConsumer>);

impl Reader {
    pub(super) async fn from_start(config: &ClientConfig, topics: &[&str]) -> Result<Self> {
        let mut config = config.clone();
        config
            .set("group.id", "unused")
            .set("enable.auto.commit", "false")
            // Asking for a topic must not make it: the reader may be here before the writer.
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "20");
        let consumer: Arc<StreamConsumer> = Arc::new(config.create()?);
        let mut assignment = TopicPartitionList::new();
        for topic in topics {
            for partition in partitions(&consumer, topic).await? {
                assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&assignment)?;
        Ok(Self(consumer))
    }

    /// The next message. An error when none comes for a minute.
    pub async fn next(&mut self) -> Result<Message> {
        let message = tokio::time::timeout(DEADLINE, self.0.recv()).await;
        Ok(read(&message.with_context(|| format!("no message for {DEADLINE:?}"))??))
    }

    /// The next `count` messages.
    pub async fn take(&mut self, count: usize) -> Result<Vec<Message>> {
        let mut messages = Vec::with_capacity(count);
        while messages.len() < count {
            let next = self.next().await;
            messages.push(next.with_context(|| format!("after {} of {count} messages", messages.len()))?);
        }
        Ok(messages)
    }

    /// The messages up to and including the first that `is_last` recognises.
    pub async fn until(&mut self, mut is_last: impl FnMut(&Message) -> bool) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let next = self.next().await;
            messages.push(next.with_context(|| format!("after {} messages", messages.len()))?);
            if messages.last().is_some_and(&mut is_last) {
                return Ok(messages);
            }
        }
    }
}

/// The partitions of a topic, once it exists.
async fn partitions(consumer: &Arc<StreamConsumer>, topic: &str) -> Result<Vec<i32>> {
    let look = async {
        loop {
            let (consumer, topic) = (Arc::clone(consumer), topic.to_owned());
            let asked = tokio::task::spawn_blocking(move || consumer.fetch_metadata(Some(&topic), METADATA_TIMEOUT));
            let metadata = asked.await??;
            let found = metadata.topics().iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id);
            let found: Vec<i32> = found.collect();
            if !found.is_empty() {
                return anyhow::Ok(found);
            }
            tokio::time::sleep(TOPIC_POLL_INTERVAL).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, look).await;
    found.map_err(|_| anyhow!("there is no topic {topic} after {DEADLINE:?}"))?
}

fn read(message: &BorrowedMessage<'_>) -> Message {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    Message {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(text))).collect(),
        key: message.key().map(text),
        value: message.payload().map(text),
    }
}
