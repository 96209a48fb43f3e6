//! Dead letters of messages: what is kept with one, and reading it again.

use std::borrow::Cow;

use model::{LastSeen, Reason, Reject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use staging::DeadLetter;
use staging::dead_letters::{Cannot, Context, Opened, Reread};

use crate::decode::{Decoder, Message, Outcome, Seen, Skip};
use crate::settings::Settings;

/// A key that is longer is not kept.
const MAX_KEY_BYTES: usize = 64 << 10;

/// Where the message was; the letter's origin.
#[derive(Deserialize)]
struct Place {
    topic: String,
    offset: i64,
}

/// All that decoding takes beside the value and the place.
#[derive(Serialize, Deserialize)]
struct Circumstances {
    /// Whether there was no value; the letter's payload is the key then.
    is_tombstone: bool,
    key: Option<Vec<u8>>,
    new_key: Option<Vec<u8>>,
    timestamp_ms: Option<i64>,
    /// What the partition remembered before the message.
    log_position: Option<Vec<u8>>,
    after_delete: bool,
    epoch: u32,
}

/// The dead letter of a message; `seen` is what its partition remembered before it.
pub(crate) fn dead_letter(
    topic: &str,
    partition: i32,
    message: &Message<'_>,
    seen: Seen,
    epoch: u32,
    reject: Reject,
) -> DeadLetter {
    let origin = json!({"topic": topic, "partition": partition, "offset": message.offset});
    let mut letter = DeadLetter::new(origin, reject, message.value.or(message.key).unwrap_or_default());
    letter.truncated |= [message.key, message.new_key].into_iter().flatten().any(|key| key.len() > MAX_KEY_BYTES);
    letter.with_context(&Circumstances {
        is_tombstone: message.value.is_none(),
        key: message.key.map(<[u8]>::to_vec),
        new_key: message.new_key.map(<[u8]>::to_vec),
        timestamp_ms: message.timestamp_ms,
        log_position: seen.last.map(LastSeen::to_bytes),
        after_delete: seen.deleted,
        epoch,
    })
}

/// Decodes the message of a dead letter under the settings as they are now: the same decoder, at the same place of the log,
/// in the epoch and by the clock of when it came. Waits for a schema registry, so never on the only thread of a runtime.
pub fn reread(settings: &Settings, opened: &Opened) -> Reread {
    let Ok(contents) = &opened.contents else { return Reread::Cannot(Cannot::Sealed) };
    let Some(Context::Source(context)) = &contents.context else { return Reread::Cannot(Cannot::NoContext) };
    let (Ok(place), Ok(known)) = (Place::deserialize(&opened.letter.origin), Circumstances::deserialize(context))
    else {
        return Reread::Cannot(Cannot::NoSource);
    };
    let message = Message {
        offset: place.offset,
        timestamp_ms: known.timestamp_ms,
        key: known.key.as_deref(),
        value: (!known.is_tombstone).then_some(&contents.payload),
        new_key: known.new_key.as_deref(),
    };
    let last = known.log_position.as_deref().and_then(LastSeen::from_bytes);
    let mut seen = Seen { deleted: known.after_delete, ..Seen::after(last) };
    let mut records = Vec::new();
    let decoder = Decoder::new(settings, &place.topic);
    match decoder.decode_at_last(&message, &mut seen, known.epoch, opened.letter.landed_at, &mut records) {
        Err(_) | Ok(Outcome::Pending(_)) => Reread::Cannot(Cannot::OutOfReach),
        Ok(Outcome::Rejected(reject)) => Reread::StillBad(reject),
        // When it came it was meant for a mapping that is gone: nobody has said that it may go, too.
        Ok(Outcome::Skipped(Skip::Unmapped)) => {
            let detail = format!("no mapping of the source is for topic {}", place.topic);
            Reread::StillBad(Reject::new(Reason::UnknownShape, detail))
        }
        Ok(Outcome::Records | Outcome::Skipped(_)) => {
            Reread::Lands { records, dead_letters: Vec::new(), products: Vec::new() }
        }
    }
}

/// Bytes of a dead letter or its key as the text that they are or, of Avro, become; `None` where they cannot be read. Like
/// [`reread`] it may wait for the schema registry.
pub fn readable<'a>(settings: &Settings, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
    Decoder::new(settings, "").readable(bytes)
}

/// The key of a dead letter's message, where it is known.
pub fn key_of(context: &Value) -> Option<Vec<u8>> {
    Circumstances::deserialize(context).ok()?.key
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use model::mapping::Mapping;
    use model::{Limits, Record};
    use staging::dead_letters::{Contents, Letter, State};

    use super::*;
    use crate::Format;
    use crate::decode::tests::settings;

    const TOPIC: &str = "customers";

    /// What was recorded of real connectors: an object a line.
    const RECORDED: [&str; 5] = [
        include_str!("decode/tests/events/maria.jsonl"),
        include_str!("decode/tests/events/postgres.jsonl"),
        include_str!("decode/tests/events/flat_rewrite.jsonl"),
        include_str!("decode/tests/events/flat_tombstone.jsonl"),
        include_str!("decode/tests/events/wrapped.jsonl"),
    ];

    fn landed_at() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    /// The letter as it comes back from the database.
    fn opened(letter: DeadLetter) -> Opened {
        let DeadLetter { origin, reject, payload, truncated, external_id, context } = letter;
        let context: Option<Context> = serde_json::from_slice(&serde_json::to_vec(&context).unwrap()).unwrap();
        let letter = Letter {
            dead_letter_id: 1,
            source: "home_delivery".to_owned(),
            origin,
            reason: reject.reason.as_str().to_owned(),
            detail: reject.detail,
            truncated,
            external_id,
            landed_at: landed_at(),
            state: State::Parked,
            handled_at: None,
            landed_batch_id: None,
        };
        Opened { letter, contents: Ok(Contents { payload, context }) }
    }

    fn parked(message: &Message<'_>, seen: Seen, epoch: u32) -> Opened {
        opened(dead_letter(TOPIC, 3, message, seen, epoch, Reject::new(Reason::BadValue, "")))
    }

    fn lands(reread: Reread) -> Vec<Record> {
        match reread {
            Reread::Lands { records, .. } => records,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_message_that_was_recorded_is_read_again_as_it_was_read_when_it_came() {
        let mut count = 0;
        for format in [Format::Debezium, Format::Json] {
            let settings = settings(format);
            let decoder = Decoder::new(&settings, TOPIC);
            for events in RECORDED {
                let (mut seen, mut records) = (Seen::default(), Vec::new());
                for event in events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
                    let new_key = event["headers"].as_array().unwrap().iter().find(|h| h[0] == "__debezium.newkey");
                    let message = Message {
                        offset: event["offset"].as_i64().unwrap(),
                        timestamp_ms: event["timestamp"].as_i64(),
                        key: event["key"].as_str().map(str::as_bytes),
                        value: event["value"].as_str().map(str::as_bytes),
                        new_key: new_key.map(|header| header[1].as_str().unwrap().as_bytes()),
                    };
                    let letter = parked(&message, seen, 5);
                    match decoder.decode(&message, &mut seen, 5, landed_at(), &mut records) {
                        Outcome::Rejected(reject) => {
                            let again = reread(&settings, &letter);
                            assert!(matches!(&again, Reread::StillBad(again) if *again == reject), "{again:?}");
                        }
                        Outcome::Pending(_) => panic!("no schema is needed"),
                        Outcome::Records | Outcome::Skipped(_) => {
                            assert_eq!(lands(reread(&settings, &letter)), records, "{event}");
                            count += records.len();
                        }
                    }
                }
            }
        }
        assert!(count > 40, "only {count} records: does this test still read what was recorded?");
    }

    #[test]
    fn a_time_ahead_of_the_clock_is_that_of_the_landing_and_not_of_the_retry() {
        let value =
            br#"{"before":null,"after":{"id":1},"op":"c","source":{"file":"b.1","pos":4,"ts_ms":1900000000000}}"#;
        let message = Message { offset: 9, value: Some(value), ..Message::default() };
        let records = lands(reread(&settings(Format::Debezium), &parked(&message, Seen::default(), 0)));
        assert_eq!(records[0].observed_at, landed_at());
    }

    #[test]
    fn a_tombstone_whose_key_could_not_be_read_deletes_once_it_can() {
        let key = [b"{\"pad\":\"", "x".repeat(5_000).as_bytes(), b"\",\"id\":7}"].concat();
        let message = Message { offset: 9, key: Some(&key), ..Message::default() };
        let tight =
            Settings { limits: Limits { max_record_bytes: 1_000, ..Limits::default() }, ..settings(Format::Debezium) };
        let letter = parked(&message, Seen::default(), 0);
        assert!(matches!(reread(&tight, &letter), Reread::StillBad(reject) if reject.reason == Reason::TooLarge));
        let records = lands(reread(&settings(Format::Debezium), &letter));
        assert_eq!((records.len(), records[0].mapped.external_id.as_str()), (1, "7"));
    }

    #[test]
    fn what_has_no_mapping_any_more_or_is_of_no_message_is_not_read() {
        let message = Message { offset: 9, value: Some(br#"{"id":1}"#), ..Message::default() };
        let mut elsewhere = settings(Format::Json);
        for mapping in &mut elsewhere.mappings {
            let Mapping::Customer(mapping) = mapping else { panic!("a customer") };
            mapping.topics = vec!["another".to_owned()];
        }
        let letter = parked(&message, Seen::default(), 0);
        let again = reread(&elsewhere, &letter);
        assert!(matches!(&again, Reread::StillBad(reject) if reject.detail.contains("topic customers")), "{again:?}");
        let large = vec![b'k'; MAX_KEY_BYTES + 1];
        let letter = dead_letter(
            TOPIC,
            3,
            &Message { key: Some(&large), ..message },
            Seen::default(),
            0,
            Reject::new(Reason::BadValue, ""),
        );
        assert!(letter.truncated && letter.context.is_none());
        let mut row = opened(
            DeadLetter::new(json!({"file": "a.csv", "line": 3}), Reject::new(Reason::RaggedRow, ""), b"1;2")
                .with_context(&json!({"row": 2})),
        );
        assert!(matches!(reread(&elsewhere, &row), Reread::Cannot(Cannot::NoSource)));
        row.contents.as_mut().unwrap().context = None;
        assert!(matches!(reread(&elsewhere, &row), Reread::Cannot(Cannot::NoContext)));
    }
}
