//! librdkafka's in-process mock of a Kafka cluster. It is for demos and tests only: it keeps at most 5 MiB or 100,000
//! messages of a partition, in memory, and cannot look up timestamps.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord, Producer};

use super::fixtures::Message;

/// Everything is in this process: what takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mock cluster with the topics of what was fed into it. It ends when dropped, and must outlive its consumers.
pub(super) struct MockKafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
    messages: usize,
}

impl MockKafka {
    /// Starts a cluster and puts `messages` on it, in this order, with their keys, headers, timestamps and partitions.
    pub(super) async fn fed_with(messages: &[Message]) -> anyhow::Result<Self> {
        let cluster = MockCluster::new(1).context("cannot start the mock Kafka")?;
        for (topic, partitions) in partition_counts(messages) {
            cluster.create_topic(topic, partitions, 1).with_context(|| format!("cannot make the topic {topic}"))?;
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        // One request at a time: nothing can overtake.
        config.set("max.in.flight.requests.per.connection", "1").set("log.connection.close", "false");
        let producer: FutureProducer = config.create().context("cannot connect to the mock Kafka")?;
        let deliveries: Result<Vec<_>, _> = messages.iter().map(|message| send(&producer, message)).collect();
        for delivery in deliveries? {
            // The error comes with the message, which holds personal data.
            delivery.await?.map_err(|(error, _)| error).context("the mock Kafka has refused a message")?;
        }
        producer.flush(PATIENCE).context("the mock Kafka has not taken everything")?;
        Ok(Self { cluster, messages: messages.len() })
    }

    /// `host:port`, as the configuration's `brokers`.
    pub(super) fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// How many messages were put on it.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }
}

fn send(producer: &FutureProducer, message: &Message) -> anyhow::Result<rdkafka::producer::DeliveryFuture> {
    let headers = message
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_ref() }));
    let mut record = FutureRecord::<[u8], [u8]>::to(&message.topic)
        .partition(message.partition)
        .timestamp(message.timestamp)
        .headers(headers);
    record.key = message.key.as_deref();
    record.payload = message.value.as_deref();
    producer.send_result(record).map_err(|(error, _)| error).context("the mock Kafka takes no messages")
}

/// Every topic, and how many partitions it needs.
fn partition_counts(messages: &[Message]) -> BTreeMap<&str, i32> {
    let mut counts = BTreeMap::new();
    for message in messages {
        let count = counts.entry(message.topic.as_str()).or_insert(0);
        *count = (message.partition + 1).max(*count);
    }
    counts
}
