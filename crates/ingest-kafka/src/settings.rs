//! What a Kafka source is told by the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Limits;
use model::mapping::{Context, Mapping};
use regex::Regex;

use crate::{Error, Registry, check_properties};

/// What Debezium sends for a value that it does not have, unless configured otherwise.
pub const DEFAULT_PLACEHOLDER: &str = "__debezium_unavailable_value";

/// How the names begin of what `ExtractNewRecordState` adds to rows, unless configured otherwise.
pub const DEFAULT_FLATTENED_PREFIX: &str = "__";

/// How messages are written.
#[derive(Clone, Debug)]
pub enum Format {
    /// Change events of Debezium in any of their JSON shapes, told apart message by message.
    Debezium,
    /// Each message is a row as it is now; a message without a value deletes.
    Json,
    /// Change events and rows as with [`Format::Debezium`], in Avro as Confluent's serializers frame it.
    Avro(Registry),
}

/// One Kafka source.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source's name, which is the system that speaks.
    pub name: String,
    /// `host:port`, several with commas between.
    pub brokers: String,
    /// Topics of mappings that name none; one that begins with `^` is a pattern.
    pub topics: Vec<String>,
    /// The consumer group that several processes share the partitions by.
    pub group_id: String,
    /// How messages are written.
    pub format: Format,
    /// What the rows mean.
    pub mappings: Vec<Mapping>,
    /// What mapping needs beside the row.
    pub context: Context,
    /// Caps on one message.
    pub limits: Limits,
    /// How long landed records live.
    pub ttl: Duration,
    /// The value that means "unchanged, not sent"; `hex:...` where the connector was told so.
    pub placeholder: String,
    /// How the names begin of what was added to flattened rows; not empty.
    pub flattened_prefix: String,
    /// Properties for librdkafka, over the ones set here.
    pub properties: BTreeMap<String, String>,
}

/// How the names of Kafka's own topics begin.
const KAFKAS_OWN: &str = "__";

impl Settings {
    /// Whether this configuration can work, as far as that can be told without a broker.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |problem: String| Err(Error::Configuration { from: self.name.clone(), problem });
        for (what, is_empty) in [
            ("brokers", self.brokers.trim().is_empty()),
            ("topics", self.all_topics().is_empty()),
            ("group_id", self.group_id.is_empty()),
            ("a mapping (customer, order, product or interaction)", self.mappings.is_empty()),
        ] {
            if is_empty {
                return refuse(format!("{what} is missing"));
            }
        }
        if let Err(bad) = check_properties(&self.properties) {
            return refuse(bad.to_string());
        }
        for topic in self.all_topics().into_iter().filter(|topic| topic.starts_with('^')) {
            if let Err(error) = Regex::new(topic) {
                return refuse(format!("topic pattern {topic}: {error}"));
            }
        }
        Ok(())
    }

    /// All topics that are read, each once: the source's own, then those that mappings name besides.
    pub fn all_topics(&self) -> Vec<&str> {
        let mut topics: Vec<&str> = Vec::new();
        for topic in self.topics.iter().chain(self.mappings.iter().flat_map(Mapping::topics)) {
            if !topics.contains(&topic.as_str()) {
                topics.push(topic);
            }
        }
        topics
    }

    /// The mappings for a topic: those that name it and, unless only mappings do, those that name none.
    pub(crate) fn mappings_for(&self, topic: &str) -> impl Iterator<Item = &Mapping> {
        let has = |topics: &[String]| topics.iter().any(|wanted| is_topic(wanted, topic));
        let is_common = has(&self.topics) || !self.mappings.iter().any(|mapping| has(mapping.topics()));
        self.mappings.iter().filter(move |mapping| has(mapping.topics()) || is_common && mapping.topics().is_empty())
    }

    /// Whether a topic is one of this source's.
    pub(crate) fn reads(&self, topic: &str) -> bool {
        self.all_topics().into_iter().any(|wanted| is_topic(wanted, topic))
    }

    /// Whether a topic or a pattern asks for topics of Kafka's own.
    pub(crate) fn asks_for_kafkas_own(&self) -> bool {
        self.all_topics().into_iter().any(is_of_kafkas_own)
    }

    /// The placeholder as it stands in messages.
    pub(crate) fn placeholder_text(&self) -> String {
        let bytes = self.placeholder.strip_prefix("hex:").and_then(unhex);
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| self.placeholder.clone())
    }
}

/// A pattern finds Kafka's own topics (`__consumer_offsets`), which are no source's, only where it asks for them.
fn is_topic(wanted: &str, topic: &str) -> bool {
    if wanted.starts_with('^') {
        let is_found = !topic.starts_with(KAFKAS_OWN) || is_of_kafkas_own(wanted);
        is_found && Regex::new(wanted).is_ok_and(|pattern| pattern.is_match(topic))
    } else {
        wanted == topic
    }
}

fn is_of_kafkas_own(wanted: &str) -> bool {
    wanted.trim_start_matches('^').starts_with(KAFKAS_OWN)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    if text.is_empty() || !digits.remainder().is_empty() {
        return None;
    }
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::settings;

    fn refusal(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = settings(Format::Debezium);
        settings.check().unwrap();
        change(&mut settings);
        settings.check().unwrap_err().to_string()
    }

    #[test]
    fn properties_that_would_break_a_promise_are_refused_by_name() {
        let told = refusal(|settings| {
            settings.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
        });
        assert_eq!(
            told,
            "source home_delivery: properties.enable.auto.commit cannot be changed: progress is kept in the database"
        );
    }

    #[test]
    fn broken_patterns_are_refused_before_anything_starts() {
        assert!(refusal(|settings| settings.topics.push("^(".to_owned())).contains("topic pattern ^("));
    }

    #[test]
    fn topics_that_only_a_mapping_names_are_read_and_by_that_mapping_alone() {
        let mut settings = settings(Format::Debezium);
        let mut orders = settings.mappings[0].clone();
        let Mapping::Customer(mapping) = &mut orders else { unreachable!() };
        mapping.topics = vec!["shared".to_owned(), "^orders".to_owned()];
        settings.mappings.push(orders);
        settings.topics = vec!["customers".to_owned(), "shared".to_owned()];
        assert_eq!(settings.all_topics(), ["customers", "shared", "^orders"]);
        for (topic, is_read, mappings) in
            [("customers", true, 1), ("shared", true, 2), ("orders.eu", true, 1), ("one that was read once", false, 1)]
        {
            assert_eq!((settings.reads(topic), settings.mappings_for(topic).count()), (is_read, mappings), "{topic}");
        }
        settings.mappings.remove(0);
        settings.topics.clear();
        settings.check().unwrap();
    }

    #[test]
    fn a_pattern_finds_kafkas_own_topics_only_where_it_asks_for_them() {
        for (wanted, topic, is_it) in [
            ("^.*", "a.customers", true),
            ("^.*", "__consumer_offsets", false),
            ("^_.*", "__transaction_state", false),
            ("^__debezium-heartbeat", "__debezium-heartbeat.dbserver1", true),
            ("__consumer_offsets", "__consumer_offsets", true),
        ] {
            assert_eq!(is_topic(wanted, topic), is_it, "{wanted} {topic}");
        }
    }

    #[test]
    fn the_placeholder_may_be_written_in_hex() {
        let mut settings = settings(Format::Debezium);
        settings.placeholder = "hex:3f3f".to_owned();
        assert_eq!(settings.placeholder_text(), "??");
    }
}
