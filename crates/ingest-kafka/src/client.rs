//! librdkafka: how it is configured, and what it says between messages.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

use crate::trouble::Trouble;
use crate::{Error, Message, Settings};

/// The consumer of this crate.
pub(crate) type Client = BaseConsumer<Ear>;

/// How long one question to a broker may take.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a command that somebody waits for keeps trying to reach a broker.
pub(crate) const ALONE_PATIENCE: Duration = Duration::from_secs(30);

/// Defaults over those of librdkafka. Memory: what is fetched and not yet decoded stays below 8 MiB, plus one answer of a
/// broker; once there is room again, fetching goes on at once and not after a second. Metadata: new topics and partitions
/// are found within seconds instead of minutes. Session: a process that is gone for good, also one that was stopped, holds
/// its partitions for so long. Connections: of a name with several addresses one that swallows packets leaves time for the next
/// within [`ALONE_PATIENCE`].
const DEFAULTS: [(&str, &str); 13] = [
    ("client.id", "c360"),
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.max.bytes", "4194304"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("topic.metadata.refresh.interval.ms", "5000"),
    ("session.timeout.ms", "10000"),
    ("reconnect.backoff.max.ms", "5000"),
    ("socket.connection.setup.timeout.ms", "10000"),
    ("statistics.interval.ms", "2000"),
    ("socket.keepalive.enable", "true"),
    ("allow.auto.create.topics", "false"),
    ("log.thread.name", "false"),
];

/// The name by which a member of a group is known over its restarts.
pub(crate) const INSTANCE_ID: &str = "group.instance.id";

/// What librdkafka calls its words about connections that fail.
const CONNECTION_FAILED: &str = "FAIL";

/// What the promises rest on; see the properties that [`Settings::check`] refuses.
const PROMISES: [(&str, &str); 5] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("enable.partition.eof", "false"),
];

/// Makes a consumer. Properties that librdkafka does not know are errors of the configuration.
pub(crate) fn connect(settings: &Settings) -> Result<Client, Error> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.brokers).set("group.id", &settings.group_id);
    for (property, value) in DEFAULTS {
        config.set(property, value);
    }
    // The newer group protocol assigns on the broker and refuses to be told how.
    if settings.properties.get("group.protocol").is_none_or(|protocol| protocol != "consumer") {
        config.set("partition.assignment.strategy", "cooperative-sticky");
    } else {
        config.remove("session.timeout.ms");
    }
    // Otherwise a pattern finds `__consumer_offsets`, into which every commit writes a message to be read.
    if !settings.asks_for_kafkas_own() {
        config.set("topic.blacklist", "^__");
    }
    // Our own OpenSSL looks for certificates where it was built, not where this system keeps them.
    if cfg!(feature = "tls") {
        config.set("ssl.ca.location", "probe");
    }
    for (property, value) in &settings.properties {
        config.set(property, value);
    }
    for (property, value) in PROMISES {
        config.set(property, value);
    }
    let level = if settings.properties.contains_key("debug") { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info };
    config.set_log_level(level);
    let from = settings.name.clone();
    config.create_with_context(Ear::new(from.clone())).map_err(|error| match error {
        // Its value may be a password.
        KafkaError::ClientConfig(_, why, property, _) => {
            Error::Configuration { from, problem: format!("properties.{property}: {why}") }
        }
        KafkaError::ClientCreation(why) => Error::Configuration { from, problem: why },
        error => Error::Client { from, error: Box::new(error) },
    })
}

/// No broker has answered in time. What was heard of why comes before what the client says.
pub(crate) fn unreachable(settings: &Settings, client: &Client, error: &KafkaError) -> Error {
    Error::Unreachable {
        from: settings.name.clone(),
        brokers: settings.brokers.clone(),
        reason: client.context().trouble().map_or_else(|| error.to_string(), |trouble| trouble.sentence),
    }
}

/// A change of what the group gives this process, to be answered by the consuming loop.
#[derive(Debug)]
pub(crate) enum Rebalance {
    /// These partitions are ours.
    Assign(TopicPartitionList),
    /// These are not any more.
    Revoke(TopicPartitionList),
}

/// First and last offset (exclusive) of a partition, as the broker said lately.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

/// Listens to what librdkafka says between messages.
#[derive(Debug)]
pub(crate) struct Ear {
    source: String,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    rebalances: VecDeque<Rebalance>,
    statistics: Option<Statistics>,
    trouble: Option<Trouble>,
    closing: bool,
}

impl Ear {
    fn new(source: String) -> Self {
        Self { source, heard: Mutex::default() }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest rebalance that was not answered.
    pub(crate) fn rebalance(&self) -> Option<Rebalance> {
        self.heard().rebalances.pop_front()
    }

    /// The latest statistics, once.
    pub(crate) fn statistics(&self) -> Option<Statistics> {
        self.heard().statistics.take()
    }

    /// Why brokers cannot be used, where they or the client have said so since it was last forgotten.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.heard().trouble.clone()
    }

    /// Brokers answer.
    pub(crate) fn forget_trouble(&self) {
        self.heard().trouble = None;
    }

    /// From now on rebalances are answered at once: the loop has ended.
    pub(crate) fn close(&self) {
        self.heard().closing = true;
    }
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let source = &self.source;
        // A connection has failed. The loop tells about it, once.
        if facility == CONNECTION_FAILED {
            tracing::debug!(%source, facility, "librdkafka: {message}");
            if let Some(trouble) = Trouble::of(message) {
                self.heard().trouble = Some(trouble);
            }
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(%source, facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Warning => tracing::info!(%source, facility, "librdkafka: {message}"),
            _ => tracing::debug!(%source, facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The loop gets the same error and says what it means.
        tracing::debug!(source = %self.source, %error, reason, "librdkafka");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => self.heard().statistics = Some(statistics),
            Err(error) => tracing::debug!(source = %self.source, %error, "unreadable statistics of librdkafka"),
        }
    }
}

impl ConsumerContext for Ear {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let mut heard = self.heard();
        let assigns = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if !heard.closing {
            // librdkafka waits until the loop answers, and keeps the membership alive meanwhile.
            let partitions = partitions.clone();
            heard.rebalances.push_back(if assigns {
                Rebalance::Assign(partitions)
            } else {
                Rebalance::Revoke(partitions)
            });
            return;
        }
        drop(heard);
        let partitions = if assigns { TopicPartitionList::new() } else { partitions.clone() };
        let answered = if assigns { take(consumer, &partitions) } else { give_back(consumer, &partitions) };
        if let Err(error) = answered {
            tracing::debug!(source = %self.source, %error, "answering a rebalance while closing");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(source = %self.source, %error, "noting progress in Kafka, which only lag tools read");
        }
    }
}

/// Begins to read partitions that the group gave.
pub(crate) fn take(client: &Client, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        RebalanceProtocol::Cooperative => client.incremental_assign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => client.assign(partitions),
    }
}

/// Stops to read partitions that the group took away.
pub(crate) fn give_back(client: &Client, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        RebalanceProtocol::Cooperative => client.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => client.unassign(),
    }
}

/// What the decoder sees of a message.
pub(crate) fn view<'m>(message: &'m BorrowedMessage<'_>) -> Message<'m> {
    let new_key = || message.headers()?.iter().find(|header| header.key == "__debezium.newkey")?.value;
    Message {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        new_key: new_key(),
    }
}

/// Where reading begins: at what is stored, or at the first message there is.
pub(crate) fn start(stored: Option<i64>) -> Offset {
    stored.map_or(Offset::Beginning, Offset::Offset)
}

/// Topics and partitions of a list.
pub(crate) fn names(partitions: &TopicPartitionList) -> Vec<(String, i32)> {
    partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

/// What is read of librdkafka's statistics.
#[derive(Debug, Deserialize)]
pub(crate) struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, BrokerStatistics>,
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
}

#[derive(Debug, Deserialize)]
struct BrokerStatistics {
    state: String,
}

#[derive(Debug, Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: HashMap<String, PartitionStatistics>,
}

#[derive(Debug, Deserialize)]
struct PartitionStatistics {
    partition: i32,
    lo_offset: i64,
    hi_offset: i64,
    ls_offset: i64,
}

impl Statistics {
    /// Whether a connection to any broker works, so that fetching or at least asking for metadata does.
    pub(crate) fn is_any_broker_up(&self) -> bool {
        self.brokers.values().any(|broker| ["UP", "REAUTH"].contains(&broker.state.as_str()))
    }

    /// First and last offsets of all partitions that are read.
    pub(crate) fn bounds(self) -> HashMap<(String, i32), Bounds> {
        let partitions = self.topics.into_iter().flat_map(|(topic, statistics)| {
            statistics.partitions.into_values().map(move |partition| (topic.clone(), partition))
        });
        let known = partitions.filter(|(_, partition)| partition.partition >= 0 && partition.hi_offset >= 0);
        known
            .map(|(topic, partition)| {
                // Messages behind the last stable offset belong to transactions that are not decided.
                let high = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
                ((topic, partition.partition), Bounds { low: partition.lo_offset, high })
            })
            .collect()
    }
}
