//! Tables of real captured events.

use std::collections::BTreeMap;
use std::time::Duration;

use model::mapping::Columns;
use model::{Credentials, InstallationKey};
use serde_json::json;

use super::*;
use crate::settings::{DEFAULT_FLATTENED_PREFIX, DEFAULT_PLACEHOLDER};

pub(crate) fn settings(format: Format) -> Settings {
    let customer = json!({
        "external_id": "id", "email": "email", "credential": "password",
        "attributes": {"name": "name", "address1": "address_line_1", "city": "city", "phone": "phonenumber"},
    });
    Settings {
        name: "home_delivery".to_owned(),
        brokers: "localhost:9092".to_owned(),
        topics: vec!["customers".to_owned()],
        group_id: "c360".to_owned(),
        format,
        mappings: vec![Mapping::Customer(serde_json::from_value(customer).unwrap())],
        context: Context {
            credentials: Credentials::digest(&InstallationKey::new([7; 32])),
            timezone: chrono_tz::Tz::UTC,
        },
        limits: Limits::default(),
        ttl: Duration::from_hours(168),
        placeholder: DEFAULT_PLACEHOLDER.to_owned(),
        flattened_prefix: DEFAULT_FLATTENED_PREFIX.to_owned(),
        properties: BTreeMap::new(),
    }
}

/// A captured message.
#[derive(Clone, serde::Deserialize)]
struct Captured {
    /// Line of the recording that it was taken from.
    line: u32,
    offset: i64,
    timestamp: i64,
    headers: Vec<(String, String)>,
    key: Option<String>,
    value: Option<String>,
}

impl Captured {
    fn message(&self) -> Message<'_> {
        Message {
            offset: self.offset,
            timestamp_ms: Some(self.timestamp),
            key: self.key.as_deref().map(str::as_bytes),
            value: self.value.as_deref().map(str::as_bytes),
            new_key: self.headers.iter().find(|(name, _)| name == "__debezium.newkey").map(|(_, key)| key.as_bytes()),
        }
    }

    fn without_lsn(mut self) -> Self {
        self.value = self.value.map(|value| value.replace(r#""lsn":0"#, r#""lsn":null"#));
        self
    }

    fn of(key: Option<&str>, value: Option<&str>) -> Self {
        let (key, value) = (key.map(str::to_owned), value.map(str::to_owned));
        Self { line: 0, offset: 7, timestamp: 1_700_000_000_000, headers: Vec::new(), key, value }
    }
}

const MARIA: &str = include_str!("tests/events/maria.jsonl");
const POSTGRES: &str = include_str!("tests/events/postgres.jsonl");
const FLAT_REWRITE: &str = include_str!("tests/events/flat_rewrite.jsonl");
const FLAT_TOMBSTONE: &str = include_str!("tests/events/flat_tombstone.jsonl");
const WRAPPED: &str = include_str!("tests/events/wrapped.jsonl");
const TYPES: &str = include_str!("tests/events/types.jsonl");

fn line(events: &str, line: u32) -> Captured {
    let mut events = events.lines().map(|event| serde_json::from_str::<Captured>(event).unwrap());
    events.find(|event| event.line == line).unwrap()
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// Decodes one message of a source with the given settings.
fn decode_with(settings: &Settings, captured: &Captured, seen: &mut Seen) -> (Outcome, Vec<Record>) {
    let mut records = Vec::new();
    let outcome = Decoder::new(settings, "customers").decode(&captured.message(), seen, 3, now(), &mut records);
    (outcome, records)
}

fn decode(captured: &Captured, seen: &mut Seen) -> (Outcome, Vec<Record>) {
    decode_with(&settings(Format::Debezium), captured, seen)
}

/// The one record of a message that is seen first.
fn record(captured: &Captured) -> Record {
    let (outcome, mut records) = decode(captured, &mut Seen::default());
    assert_eq!((outcome, records.len()), (Outcome::Records, 1));
    records.remove(0)
}

fn rejected(captured: &Captured) -> Reason {
    match decode(captured, &mut Seen::default()) {
        (Outcome::Rejected(reject), records) if records.is_empty() => reject.reason,
        other => panic!("{other:?}"),
    }
}

fn log(file: u32, pos: u64, streamed: bool, row: u32) -> LogPosition {
    LogPosition { file, pos, streamed, row }
}

#[test]
fn every_shape_of_a_row_becomes_the_same_kind_of_record() {
    let table = [
        (line(MARIA, 17), Operation::Upsert, "1", log(1, 7096, false, 0), Some("ada@example.com")),
        (line(MARIA, 28), Operation::Upsert, "", log(1, 7096, false, 0), None),
        (line(MARIA, 33), Operation::Upsert, "5", log(1, 7658, true, 0), Some("alan@example.com")),
        (line(MARIA, 34), Operation::Upsert, "1", log(1, 8278, true, 0), Some("ada@example.com")),
        (line(MARIA, 44), Operation::Delete, "4", log(1, 9139, true, 0), None),
        (line(MARIA, 58), Operation::Upsert, "102", log(1, 0, true, 1), Some("bb@example.com")),
        (line(POSTGRES, 16), Operation::Upsert, "5", log(0, 26_590_240, true, 0), Some("alan@example.com")),
        (line(POSTGRES, 21), Operation::Delete, "4", log(0, 26_591_112, true, 0), None),
        (line(FLAT_REWRITE, 30), Operation::Upsert, "5", log(1, 7658, true, 0), Some("alan@example.com")),
        (line(FLAT_REWRITE, 33), Operation::Delete, "4", log(1, 9139, true, 0), None),
        (line(FLAT_TOMBSTONE, 16), Operation::Upsert, "5", log(0, 26_590_240, true, 0), Some("alan@example.com")),
        (line(WRAPPED, 1), Operation::Upsert, "1029", log(1, 1738, false, 0), None),
    ];
    for (captured, operation, id, log, email) in table {
        // Another table, with other columns.
        if id.is_empty() {
            assert_eq!(rejected(&captured), Reason::NoExternalId);
            continue;
        }
        let record = record(&captured);
        let context = format!("line {}", captured.line);
        assert_eq!(record.operation, operation, "{context}");
        assert_eq!(record.mapped.external_id.as_str(), id, "{context}");
        if log.pos > 0 {
            assert_eq!(record.position, Position::kafka(3, log, captured.offset), "{context}");
        }
        if email.is_some() {
            assert_eq!(record.mapped.email.as_deref(), email, "{context}");
        }
        assert!(serde_json::from_str::<serde_json::Value>(record.payload.as_deref().unwrap()).is_ok(), "{context}");
    }
}

#[test]
fn wrapped_bare_and_flattened_deletes_move_under_a_primary_key_change() {
    let table = [
        (line(MARIA, 54), "3", "100"),
        (line(POSTGRES, 31), "3", "100"),
        (line(FLAT_REWRITE, 55), "3", "100"),
        (line(FLAT_TOMBSTONE, 28), "3", "100"),
        (line(WRAPPED, 4), "7", "8"),
        (line(WRAPPED, 14), "7", "8"),
    ];
    for (captured, old, new) in table {
        let record = record(&captured);
        assert_eq!(
            (record.operation, record.mapped.external_id.as_str()),
            (Operation::Delete, old),
            "{}",
            captured.line
        );
        assert_eq!(record.moved_to.unwrap().as_str(), new, "line {}", captured.line);
        assert_eq!((record.mapped.email, record.mapped.attributes.as_str()), (None, "{}"));
    }
    assert!(record(&line(MARIA, 56)).moved_to.is_none(), "the create of the new key moves nothing");
}

#[test]
fn the_tombstone_behind_a_delete_is_only_a_later_delete() {
    let mut seen = Seen::default();
    let delete = decode(&line(MARIA, 54), &mut seen).1.remove(0);
    let tombstone = decode(&line(MARIA, 55), &mut seen).1.remove(0);
    assert_eq!(tombstone.position, Position::kafka(3, log(1, 11_839, true, 0), 18));
    assert!(tombstone.position > delete.position && tombstone.moved_to.is_none() && tombstone.payload.is_none());
    // A stream that has nothing but tombstones says by them what moves.
    assert!(decode(&line(MARIA, 55), &mut Seen::default()).1[0].moved_to.is_some());
}

#[test]
fn messages_without_a_position_take_the_last_one_seen() {
    let mut seen = Seen::default();
    decode(&line(POSTGRES, 18), &mut seen);
    // Skips count, too; and the last one seen counts, not the highest.
    decode(&line(POSTGRES, 118), &mut seen);
    assert_eq!(seen.last.map(|last| last.position), Some(log(0, 26_616_528, true, 0)));
    decode(&line(POSTGRES, 18), &mut seen);
    let mut incremental = line(POSTGRES, 16);
    let value = incremental.value.as_mut().unwrap();
    *value = value
        .replace(r#""lsn":26590240"#, r#""lsn":null"#)
        .replace(r#""snapshot":"false""#, r#""snapshot":"incremental""#);
    let record = decode(&incremental, &mut seen).1.remove(0);
    assert_eq!(record.position, Position::kafka(3, log(0, 26_590_520, true, 0), incremental.offset));
    // Nothing seen: before everything that has a position.
    assert_eq!(decode(&incremental, &mut Seen::default()).1[0].position, Position::kafka(3, log(0, 0, false, 0), 4));
}

#[test]
fn what_was_open_when_postgres_was_read_is_newer_than_the_snapshot() {
    let row = |op: &str, lsn: u64, snapshot: &str| {
        let source = format!(r#"{{"lsn":{lsn},"snapshot":{snapshot}}}"#);
        Captured::of(None, Some(&format!(r#"{{"after":{{"id":1}},"source":{source},"op":"{op}"}}"#)))
    };
    let at = |seen: &mut Seen, event: &Captured| decode(event, seen).1.remove(0).position;
    let position = |pos, streamed| Position::kafka(3, log(0, pos, streamed, 0), 7);
    let mut seen = Seen::default();
    for (event, expected) in [
        // Without a snapshot a place is what it is, whatever came before.
        (row("u", 900, "null"), position(900, true)),
        (row("u", 400, "null"), position(400, true)),
        (row("r", 500, "\"true\""), position(500, false)),
        (row("u", 400, "null"), position(500, true)),
        (row("u", 600, "\"false\""), position(600, true)),
        (row("u", 410, "null"), position(500, true)),
        // A row that is read by the way takes the place of what came before it.
        (row("r", 0, "\"incremental\"").without_lsn(), position(500, true)),
        (row("r", 700, "\"first\""), position(700, false)),
        (row("u", 600, "null"), position(700, true)),
    ] {
        assert_eq!(at(&mut seen, &event), expected);
        // Reading may stop after any message, and begin anew with what is stored.
        seen = Seen::after(seen.last.map(LastSeen::to_bytes).and_then(|stored| LastSeen::from_bytes(&stored)));
    }
    // MySQL writes transactions as they commit.
    let mut seen = Seen::default();
    at(&mut seen, &Captured::of(None, Some(r#"{"after":{"id":1},"source":{"file":"b.7","pos":900},"op":"r"}"#)));
    let binlog = r#"{"after":{"id":1},"source":{"file":"b.7","pos":400},"op":"u"}"#;
    let expected = Position::kafka(3, log(7, 400, true, 0), 7);
    assert_eq!(at(&mut seen, &Captured::of(None, Some(binlog))), expected);
}

#[test]
fn the_unavailable_placeholder_keeps_and_null_clears() {
    let mut settings = settings(Format::Debezium);
    let Mapping::Customer(customer) = &mut settings.mappings[0] else { unreachable!() };
    customer.attributes.insert("bio".to_owned(), Columns::One("bio".to_owned()));
    let (_, records) = decode_with(&settings, &line(POSTGRES, 18), &mut Seen::default());
    assert_eq!(records[0].mapped.attributes, r#"{"address1":null,"city":"London","name":"Ada King","phone":null}"#);
}

#[test]
fn a_placeholder_that_connectors_were_told_keeps_also_where_it_was_told_in_hex() {
    let value = |name: &str| {
        let after = format!(r#"{{"id":1,"name":"{name}","city":null}}"#);
        Captured::of(None, Some(&format!(r#"{{"after":{after},"source":{{"lsn":5}},"op":"u"}}"#)))
    };
    for (told, written) in [("(unchanged)", "(unchanged)"), ("hex:28756e6368616e67656429", "(unchanged)")] {
        let mut settings = settings(Format::Debezium);
        settings.placeholder = told.to_owned();
        let name_of = |name: &str| {
            let (_, records) = decode_with(&settings, &value(name), &mut Seen::default());
            records[0].mapped.attributes.clone()
        };
        assert_eq!(name_of(written), r#"{"city":null}"#, "{told}");
        assert_eq!(name_of("KHVuY2hhbmdlZCk="), r#"{"city":null}"#, "{told}: as a binary column has it");
        let usual = format!(r#"{{"city":null,"name":"{DEFAULT_PLACEHOLDER}"}}"#);
        assert_eq!(name_of(DEFAULT_PLACEHOLDER), usual, "{told}: the usual one means nothing then");
    }
}

#[test]
fn what_is_added_to_flattened_rows_is_found_under_the_configured_prefix() {
    let row = |op: &str| {
        let added = r#""cdc_source_file":"mysql-bin.000007","cdc_source_pos":900,"cdc_source_row":2,
            "cdc_source_ts_ms":1600000000005,"cdc_query":"update customers set name = 'Ann'""#;
        Captured::of(Some(r#"{"id":1}"#), Some(&format!(r#"{{"id":1,"name":"Ann","cdc_op":"{op}",{added}}}"#)))
    };
    let mut settings = settings(Format::Debezium);
    settings.flattened_prefix = "cdc_".to_owned();
    let decode = |captured: &Captured| decode_with(&settings, captured, &mut Seen::default()).1.remove(0);
    let record = decode(&row("u"));
    assert_eq!((record.operation, record.position), (Operation::Upsert, Position::kafka(3, log(7, 900, true, 2), 7)));
    assert_eq!(record.observed_at.timestamp_millis(), 1_600_000_000_005);
    assert!(!record.payload.unwrap().contains("update customers"), "the statement of the source is not kept");
    assert_eq!(decode(&row("d")).operation, Operation::Delete);
    let deleted = Captured::of(Some(r#"{"id":1}"#), Some(r#"{"id":1,"__deleted":"true","cdc_lsn":5}"#));
    assert_eq!(decode(&deleted).operation, Operation::Delete, "that name has no prefix to configure");
    let columns = self::record(&row("d"));
    assert_eq!(columns.operation, Operation::Upsert, "without the key they are columns as any other");
}

#[test]
fn what_is_nothing_to_land_is_skipped_by_kind() {
    let heartbeat = Captured::of(Some(r#"{"serverName":"s"}"#), Some(r#"{"ts_ms":1795247517450}"#));
    let wrapped = Captured::of(None, Some(r#"{"schema":{"type":"struct"},"payload":{"ts_ms":1795247517450}}"#));
    let at = DateTime::from_timestamp(1_795_247_527, 0).unwrap();
    let schema_change = Skip::SchemaChange { position: Some(log(2, 833, true, 0)) };
    for (captured, expected) in [
        (line(MARIA, 29), Skip::Heartbeat),
        (heartbeat, Skip::Heartbeat),
        (wrapped, Skip::Heartbeat),
        (line(MARIA, 80), Skip::Transaction),
        (line(POSTGRES, 99), Skip::Transaction),
        (line(MARIA, 81), schema_change),
        (line(MARIA, 93), Skip::Truncate { at }),
        (line(POSTGRES, 118), Skip::LogicalMessage),
        (Captured::of(None, None), Skip::TombstoneWithoutKey),
        (Captured::of(Some(r#"{"schema":{},"payload":null}"#), Some("null")), Skip::TombstoneWithoutKey),
    ] {
        assert_eq!(
            decode(&captured, &mut Seen::default()),
            (Outcome::Skipped(expected), vec![]),
            "line {}",
            captured.line
        );
    }
    assert!(matches!(decode(&line(WRAPPED, 9), &mut Seen::default()).0, Outcome::Skipped(Skip::Truncate { .. })));
}

#[test]
fn all_forms_of_a_tombstone_delete_by_all_forms_of_a_key() {
    let values =
        [None, Some(""), Some("null"), Some(" null\n"), Some(r#"{"schema":{"type":"struct"},"payload":null}"#)];
    let keys = [
        r#"{"id":4}"#,
        r#"{"schema":{"type":"struct"},"payload":{"id":4}}"#,
        r#"{"schema":{},"payload":4}"#,
        "4",
        r#"{"id":"4"}"#,
    ];
    for (value, key) in values.into_iter().flat_map(|value| keys.map(|key| (value, key))) {
        for format in [Format::Debezium, Format::Json] {
            let (outcome, records) =
                decode_with(&settings(format), &Captured::of(Some(key), value), &mut Seen::default());
            assert_eq!(outcome, Outcome::Records, "{key} {value:?}");
            assert_eq!((records[0].operation, records[0].mapped.external_id.as_str()), (Operation::Delete, "4"));
        }
    }
    assert_eq!(rejected(&Captured::of(Some(r#"{"other":4}"#), None)), Reason::NoExternalId);
    assert_eq!(rejected(&Captured::of(Some(r#"{"id":[4]}"#), None)), Reason::BadExternalId);
}

#[test]
fn a_delete_takes_its_id_from_the_key_else_from_before_and_nothing_else() {
    let value = r#"{"before":{"id":9,"name":"","email":""},"after":null,"source":{"lsn":5},"op":"d"}"#;
    for (key, id) in [(Some(r#"{"id":8}"#), "8"), (Some(r#"{"other":8}"#), "9"), (None, "9")] {
        let record = record(&Captured::of(key, Some(value)));
        assert_eq!((record.mapped.external_id.as_str(), record.mapped.email), (id, None), "{key:?}");
    }
    let nowhere = r#"{"before":null,"after":null,"source":{"lsn":5},"op":"d"}"#;
    assert_eq!(rejected(&Captured::of(None, Some(nowhere))), Reason::NoExternalId);
}

#[test]
fn a_row_whose_key_changes_and_whose_id_does_not_lives_on() {
    let event = |before: &str, after: &str, op: &str| {
        Some(format!(r#"{{"before":{before},"after":{after},"source":{{"lsn":50}},"op":"{op}"}}"#))
    };
    let mut delete = Captured::of(Some(r#"{"pk":1}"#), event(r#"{"pk":1,"id":"M-1"}"#, "null", "d").as_deref());
    delete.headers = vec![("__debezium.newkey".to_owned(), r#"{"pk":2}"#.to_owned())];
    delete.offset = 900;
    let mut create = Captured::of(Some(r#"{"pk":2}"#), event("null", r#"{"pk":2,"id":"M-1"}"#, "c").as_deref());
    create.offset = 3;
    let mut seen = Seen::default();
    let (gone, lives) = (decode(&delete, &mut seen).1.remove(0), record(&create));
    assert_eq!((gone.mapped.external_id, &gone.moved_to), (lives.mapped.external_id, &None));
    assert!(gone.position < lives.position);
    // The key of the tombstone behind it names nobody, and need not.
    delete.value = None;
    assert_eq!(decode(&delete, &mut seen), (Outcome::Skipped(Skip::TombstoneWithoutKey), vec![]));
    assert_eq!(rejected(&delete), Reason::NoExternalId);
}

#[test]
fn an_id_that_postgres_connector_may_have_invented_deletes_nobody() {
    let postgres = |id: &str| format!(r#"{{"before":{{"pk":3,"id":{id}}},"source":{{"lsn":5}},"op":"d"}}"#);
    for id in ["0", "\"\"", "null"] {
        assert_eq!(rejected(&Captured::of(Some(r#"{"pk":3}"#), Some(&postgres(id)))), Reason::NoExternalId, "{id}");
    }
    let flattened = r#"{"pk":3,"id":0,"__deleted":"true","__lsn":5}"#;
    assert_eq!(rejected(&Captured::of(Some(r#"{"pk":3}"#), Some(flattened))), Reason::NoExternalId);
    // One dead letter for one delete: its tombstone cannot name the row, either.
    let (mut seen, mut tombstone) = (Seen::default(), Captured::of(Some(r#"{"pk":3}"#), Some(&postgres("0"))));
    assert!(matches!(decode(&tombstone, &mut seen).0, Outcome::Rejected(_)));
    tombstone.value = None;
    assert_eq!(decode(&tombstone, &mut seen).0, Outcome::Skipped(Skip::TombstoneWithoutKey));
    assert_eq!(decode(&tombstone, &mut seen).0, decode(&tombstone, &mut Seen::default()).0);
    // MySQL and MariaDB have no such rows, and a key is never invented.
    let mysql = r#"{"before":{"pk":3,"id":0},"source":{"file":"b.1","pos":4},"op":"d"}"#;
    for (key, value) in [(r#"{"pk":3}"#, mysql), (r#"{"id":0}"#, &*postgres("0"))] {
        assert_eq!(record(&Captured::of(Some(key), Some(value))).mapped.external_id.as_str(), "0");
    }
}

#[test]
fn what_cannot_be_a_record_is_rejected_with_its_reason() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(65), "}".repeat(65));
    let large = format!(r#"{{"id":1,"a":"{}"}}"#, "x".repeat(1 << 20));
    for (value, reason) in [
        (r#"{"op":"x","after":{"id":1},"source":{}}"#, Reason::UnknownOperation),
        (r#"{"op":7,"after":{"id":1},"source":{}}"#, Reason::UnknownShape),
        (r#"{"op":"u","after":null,"source":{}}"#, Reason::UnknownShape),
        (r#"{"op":"u","after":"{\"id\":1}","source":{}}"#, Reason::UnknownShape),
        (r#"{"before":null,"after":{"id":1},"source":{}}"#, Reason::UnknownShape),
        (r#"{"id":1,"__op":"x"}"#, Reason::UnknownOperation),
        ("[1,2]", Reason::UnknownShape),
        ("7", Reason::UnknownShape),
        (r#"{"id":1,}"#, Reason::NotJson),
        (r#"{"id":1"#, Reason::NotJson),
        (r#"{"id":1} {}"#, Reason::NotJson),
        (r#"{"name":"no id"}"#, Reason::NoExternalId),
        (r#"{"id":1.5}"#, Reason::BadExternalId),
        (r#"{"id":1,"name":"\u0000"}"#, Reason::Nul),
        (r#"{"id":1,"name":"\ud800"}"#, Reason::LoneSurrogate),
        (&deep, Reason::TooDeep),
        (&large, Reason::TooLarge),
    ] {
        assert_eq!(rejected(&Captured::of(Some(r#"{"id":1}"#), Some(value))), reason, "{value:.60}");
    }
    let mut records = Vec::new();
    let message = Message { value: Some(b"{\"id\":\"\xff\"}"), ..Message::default() };
    let outcome = Decoder::new(&settings(Format::Json), "customers").decode(
        &message,
        &mut Seen::default(),
        0,
        now(),
        &mut records,
    );
    assert!(matches!(outcome, Outcome::Rejected(reject) if reject.reason == Reason::NotUtf8));
}

#[test]
fn of_repeated_members_the_last_wins_at_every_level() {
    let value = r#"{"op":"x","op":"c","after":{"id":1},"after":{"id":2,"name":"a","name":"b","name":"c"},"source":{"lsn":1,"lsn":2}}"#;
    let record = record(&Captured::of(None, Some(value)));
    assert_eq!((record.mapped.external_id.as_str(), record.mapped.attributes.as_str()), ("2", r#"{"name":"c"}"#));
    assert_eq!(record.position, Position::kafka(3, log(0, 2, true, 0), 7));
}

#[test]
fn the_time_of_the_source_comes_before_all_others_and_zero_is_none() {
    let at = |value: &str| record(&Captured::of(None, Some(value))).observed_at.timestamp_micros();
    for (value, expected) in [
        (
            r#"{"op":"c","after":{"id":1},"source":{"ts_ms":1600000000001},"ts_ms":1600000000002}"#,
            1_600_000_000_001_000,
        ),
        (r#"{"op":"c","after":{"id":1},"source":{"ts_ms":0},"ts_ms":1600000000002}"#, 1_600_000_000_002_000),
        (
            r#"{"op":"c","after":{"id":1},"source":{"ts_us":1600000000000003},"ts_ms":1600000000002}"#,
            1_600_000_000_000_003,
        ),
        (r#"{"op":"c","after":{"id":1},"source":{},"ts_ns":1600000000000004999}"#, 1_600_000_000_000_004),
        (r#"{"op":"c","after":{"id":1},"source":{"ts_ms":null}}"#, 1_700_000_000_000_000),
        (r#"{"id":1,"__source_ts_ms":1600000000005,"__ts_ms":1600000000006}"#, 1_600_000_000_005_000),
        (r#"{"id":1,"__ts_ms":1600000000006}"#, 1_600_000_000_006_000),
        (r#"{"op":"c","after":{"id":1},"source":{"ts_ms":1900000000000}}"#, 1_800_000_000_000_000),
    ] {
        assert_eq!(at(value), expected, "{value}");
    }
}

#[test]
fn plain_json_is_ordered_by_its_version_else_by_time() {
    let versioned = |column: Option<&str>| {
        let mut settings = settings(Format::Json);
        let Mapping::Customer(customer) = &mut settings.mappings[0] else { unreachable!() };
        customer.version = column.map(str::to_owned);
        settings
    };
    let position = |settings: &Settings, value: Option<&str>, seen: &mut Seen| {
        let (outcome, mut records) = decode_with(settings, &Captured::of(Some("1"), value), seen);
        assert_eq!(outcome, Outcome::Records);
        records.remove(0).position
    };
    let (with, without) = (versioned(Some("version")), versioned(None));
    let mut seen = Seen::default();
    let mut at = |value| position(&with, value, &mut seen);
    let older = at(Some(r#"{"id":1,"version":-1}"#));
    let newer = at(Some(r#"{"id":1,"version":2}"#));
    let earlier = at(Some(r#"{"id":1,"version":"2023-01-01T00:00:00.000001Z"}"#));
    let later = at(Some(r#"{"id":1,"version":"2023-01-01T01:00:00.000002+01:00"}"#));
    let deleted = at(None);
    assert!(older < newer && newer < earlier && earlier < later && later < deleted);
    assert!(at(Some(r#"{"id":1,"version":9000000000000000000}"#)) <= at(None));
    // A counter is far below any time: what it counts next lives again.
    let mut seen = Seen::default();
    let mut at = |value| position(&with, value, &mut seen);
    let counted = at(Some(r#"{"id":1,"version":12}"#));
    let other = at(Some(r#"{"id":2,"version":3}"#));
    let gone = at(None);
    let next = at(Some(r#"{"id":1,"version":13}"#));
    assert!(other < counted && counted < gone && gone < next);
    let before_all = position(&with, None, &mut Seen::default());
    assert!(before_all < older, "nothing of this partition was ever landed");
    // Each mapping of a topic has its own order.
    let mut both = versioned(Some("version"));
    both.mappings.extend(without.mappings.iter().cloned());
    let mut seen = Seen::default();
    let mut at = |value| decode_with(&both, &Captured::of(Some("1"), value), &mut seen).1;
    let (rows, gone) = (at(Some(r#"{"id":1,"version":12}"#)), at(None));
    assert!(rows[0].position < gone[0].position && gone[0].position < next);
    assert_eq!(rows[1].position, gone[1].position, "at the time of its message");
    assert_eq!(
        position(&without, None, &mut Seen::default()),
        Position::kafka(3, LogPosition::from_signed(1_700_000_000_000), 7)
    );
    for value in [r#"{"id":1}"#, r#"{"id":1,"version":"soon"}"#, r#"{"id":1,"version":1.5}"#] {
        let (outcome, _) = decode_with(&with, &Captured::of(None, Some(value)), &mut Seen::default());
        assert!(matches!(outcome, Outcome::Rejected(reject) if reject.reason == Reason::BadValue), "{value}");
    }
}

#[test]
fn a_topic_has_the_mappings_that_name_it() {
    let mut settings = settings(Format::Json);
    let Mapping::Customer(customer) = &mut settings.mappings[0] else { unreachable!() };
    customer.topics = vec!["^cust.*s$".to_owned()];
    let captured = Captured::of(None, Some(r#"{"id":1}"#));
    assert_eq!(decode_with(&settings, &captured, &mut Seen::default()).1.len(), 1);
    let mut records = Vec::new();
    let decoder = Decoder::new(&settings, "orders");
    let outcome = decoder.decode(&captured.message(), &mut Seen::default(), 0, now(), &mut records);
    assert_eq!(outcome, Outcome::Skipped(Skip::Unmapped));
}

mod secrets;
mod typed;
