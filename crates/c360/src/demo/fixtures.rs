//! The reference scenario's data, in the binary.

use serde::Deserialize;

/// The shipped configuration, which is the reference scenario's.
pub(super) const CONFIGURATION: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../c360.toml"));
/// The online store's data.
pub(super) const STORE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/online_store.json"));
/// The customer that the scenario is told with.
pub(super) const REFERENCE_EMAIL: &str = "matthew.groves@couchbase.com";

const EVENTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/home_delivery/customers.jsonl"));
/// Recorded events that come before the two that are damaged: in the middle, to show that the rest arrives.
const BEFORE_POISON: usize = 260;
/// Deeper than `max_depth`, and deep enough for a parser that recurses to fall over.
const TOO_DEEP: usize = 5_000;

/// A nightly file of the loyalty programme.
pub(super) struct NightlyFile {
    pub(super) name: &'static str,
    /// Bytes: a row of it is no UTF-8, as in real exports.
    pub(super) content: &'static [u8],
}

/// The nightly files, in the order of their nights.
pub(super) const LOYALTY: [NightlyFile; 2] = [
    NightlyFile {
        name: "loyalty_members_2026-11-18.csv",
        content: include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/loyalty/loyalty_members_2026-11-18.csv"
        )),
    },
    NightlyFile {
        name: "loyalty_members_2026-11-19.csv",
        content: include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/loyalty/loyalty_members_2026-11-19.csv"
        )),
    },
];

/// A message as it was, or could have been, on the topic.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Milliseconds since 1970.
    pub(super) timestamp: i64,
    pub(super) headers: Vec<(String, Option<String>)>,
    pub(super) key: Option<Vec<u8>>,
    /// `None` is Kafka's null: a tombstone.
    pub(super) value: Option<Vec<u8>>,
}

/// A line of the recording.
#[derive(Deserialize)]
struct Recorded {
    topic: String,
    partition: i32,
    timestamp: i64,
    headers: Vec<(String, Option<String>)>,
    key: Option<String>,
    value: Option<String>,
}

/// Home delivery's recorded change events in their order, and among them two that no consumer can use: bytes that are no
/// text, and JSON that is nested too deep.
pub(super) fn messages() -> serde_json::Result<Vec<Message>> {
    let recorded = EVENTS.lines().map(|line| serde_json::from_str::<Recorded>(line).map(Message::from));
    let mut messages = recorded.collect::<Result<Vec<_>, _>>()?;
    if let Some(last_before) = messages.get(BEFORE_POISON - 1) {
        let like = |key: &str, value: Vec<u8>| Message {
            topic: last_before.topic.clone(),
            partition: last_before.partition,
            timestamp: last_before.timestamp,
            headers: Vec::new(),
            key: Some(key.as_bytes().to_vec()),
            value: Some(value),
        };
        let deep = [vec![b'['; TOO_DEEP], vec![b']'; TOO_DEEP]].concat();
        let poison = [like(r#"{"id":1}"#, b"\x00\xff\xfe not a change event".to_vec()), like(r#"{"id":2}"#, deep)];
        messages.splice(BEFORE_POISON..BEFORE_POISON, poison);
    }
    Ok(messages)
}

impl From<Recorded> for Message {
    fn from(recorded: Recorded) -> Self {
        Self {
            topic: recorded.topic,
            partition: recorded.partition,
            timestamp: recorded.timestamp,
            headers: recorded.headers,
            key: recorded.key.map(String::into_bytes),
            value: recorded.value.map(String::into_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_is_whole_and_poison_is_in_its_middle() {
        let messages = messages().unwrap();
        assert_eq!(messages.len(), EVENTS.lines().count() + 2);
        assert!(messages.iter().any(|message| message.value.is_none()), "tombstones stay null");
        assert!(messages.iter().any(|message| message.headers.iter().any(|(name, _)| name == "__debezium.newkey")));
        let text = |message: &Message| message.value.clone().map(String::from_utf8);
        let damaged = messages.iter().position(|message| matches!(text(message), Some(Err(_)))).unwrap();
        assert_eq!(damaged, BEFORE_POISON);
        assert!(messages.len() > damaged + 50);
    }
}
