//! `kind = "kafka"`

use std::collections::BTreeMap;

use model::Limits;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::Properties;
use crate::config::{print, read, size};

/// `kind = "kafka"`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kafka {
    /// `host:port`, several with commas between them.
    pub brokers: String,
    /// Topics; one that begins with `^` is a pattern. Mappings may name others, which they read alone.
    #[serde(default)]
    pub topics: Vec<String>,
    /// The consumer group.
    #[serde(default = "default_group")]
    pub group_id: String,
    /// What a message looks like.
    #[serde(default)]
    pub format: KafkaFormat,
    /// Where the schemas of `format = "avro"` are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<String>,
    /// Who asks there, where it wants to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_registry_user: Option<String>,
    /// And how that is shown.
    #[serde(serialize_with = "print::secret", skip_serializing_if = "Option::is_none")]
    pub schema_registry_password: Option<SecretString>,
    /// Passed to librdkafka as they are.
    #[serde(default, deserialize_with = "read::properties", serialize_with = "print::properties")]
    pub properties: Properties,
    /// The longest record; longer ones become dead letters.
    #[serde(default = "default_bytes", with = "size")]
    pub max_record_bytes: usize,
    /// The deepest nesting of JSON; deeper records become dead letters.
    #[serde(default = "default_depth")]
    pub max_depth: usize,
    /// What Debezium writes in place of a value that it does not have.
    #[serde(default = "default_placeholder")]
    pub unavailable_placeholder: String,
    /// How the names begin of what `ExtractNewRecordState` adds to rows.
    #[serde(default = "default_prefix")]
    pub flattened_prefix: String,
}

impl Kafka {
    /// The properties as librdkafka gets them, secrets and all.
    pub fn exposed_properties(&self) -> BTreeMap<String, String> {
        self.properties.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect()
    }
}

/// What a Kafka message looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaFormat {
    /// Debezium's envelope in any of its shapes, found out per message.
    #[default]
    Debezium,
    /// The row itself as JSON.
    Json,
    /// What Debezium writes, or rows, in Avro with a schema registry.
    Avro,
}

fn default_group() -> String {
    "c360".to_owned()
}

fn default_bytes() -> usize {
    Limits::default().max_record_bytes
}

fn default_depth() -> usize {
    Limits::default().max_depth
}

fn default_prefix() -> String {
    ingest_kafka::DEFAULT_FLATTENED_PREFIX.to_owned()
}

fn default_placeholder() -> String {
    ingest_kafka::DEFAULT_PLACEHOLDER.to_owned()
}
