//! Writing messages.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Result, anyhow};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _, future_producer::Delivery},
};

/// A message to write. What is left at its default is left to the client: the partition is chosen by the key, the
/// timestamp is now, a key or value of `None` is a Kafka null.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order; a name may come twice.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// A producer that waits for the broker's acknowledgement.
pub struct Producer(FutureProducer);

impl Producer {
    pub(super) fn new(config: &ClientConfig) -> Result<Self> {
        let mut config = config.clone();
        // In the order sent, once each: a test that counts must not count the client's own retries.
        config.set("enable.idempotence", "true").set("linger.ms", "1").set("message.timeout.ms", "30000");
        Ok(Self(config.create()?))
    }

    /// Learns of partitions that were added to a topic; by itself it would within minutes, and refuses them until then.
    pub fn refresh(&self, topic: &str) -> Result<()> {
        self.0.client().fetch_metadata(Some(topic), Duration::from_secs(30))?;
        Ok(())
    }

    /// Writes one message; its partition and offset.
    pub async fn send(&self, message: Outgoing<'_>) -> Result<(i32, i64)> {
        let delivered = self.0.send(record(message), Duration::from_secs(30)).await;
        let Delivery { partition, offset, .. } = delivered.map_err(|(error, _)| error)?;
        Ok((partition, offset))
    }

    /// Writes messages in order, many at a time, and returns when all are acknowledged.
    pub async fn send_all<'a>(&self, messages: impl IntoIterator<Item = Outgoing<'a>>) -> Result<()> {
        let mut pending = VecDeque::new();
        for message in messages {
            let mut next = record(message);
            loop {
                match self.0.send_result(next) {
                    Ok(delivery) => break pending.push_back(delivery),
                    // The client's buffer is full: there is room once the oldest message is out.
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                        next = returned;
                        let oldest = pending.pop_front().ok_or_else(|| anyhow!("the producer's buffer has no room"))?;
                        oldest.await?.map_err(|(error, _)| error)?;
                    }
                    Err((error, _)) => return Err(error.into()),
                }
            }
        }
        for delivery in pending {
            delivery.await?.map_err(|(error, _)| error)?;
        }
        Ok(())
    }
}

fn record(message: Outgoing<'_>) -> FutureRecord<'_, [u8], [u8]> {
    let mut headers = OwnedHeaders::new();
    for (key, value) in message.headers {
        headers = headers.insert(Header { key, value: *value });
    }
    FutureRecord {
        topic: message.topic,
        partition: message.partition,
        payload: message.value,
        key: message.key,
        timestamp: message.timestamp_ms,
        headers: (!message.headers.is_empty()).then_some(headers),
    }
}
