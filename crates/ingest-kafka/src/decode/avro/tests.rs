//! Bodies that the writer of `apache_avro` made, by the text that they become; and bytes that nobody should have made.

mod recorded;

use std::sync::{Arc, LazyLock};

use apache_avro::schema::Schema as Avro;
use apache_avro::types::Value as Datum;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Days, Decimal, Duration as Span, Millis, Months};
use chrono::{DateTime, Utc};
use model::{Limits, Record};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decode::tests::settings;
use crate::decode::{Message, Outcome, Seen, Skip};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn encode(schema: &Value, datum: Datum) -> Vec<u8> {
    let schema = Avro::parse(schema).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(datum).unwrap()
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

fn read(schema: &Value, body: &[u8]) -> Result<String, Reject> {
    let schema = Schema::read(&schema.to_string(), &[]).unwrap();
    let scope = Scope { limits: Limits::default(), stays: &|_| false, is_wanted: &|_| true };
    body::write(&schema, body, scope)
}

/// What one value of a type becomes.
#[track_caller]
fn text(schema: &Value, datum: Datum) -> String {
    read(schema, &encode(schema, datum)).unwrap()
}

#[track_caller]
fn reason(read: Result<String, Reject>) -> Reason {
    read.unwrap_err().reason
}

fn decode(registry: Registry, message: &Message<'_>) -> (Outcome, Vec<Record>) {
    let mut records = Vec::new();
    let decoder = Decoder::new(&settings(Format::Avro(registry)), "customers");
    (decoder.decode(message, &mut Seen::default(), 0, now(), &mut records), records)
}

fn rejected(registry: Registry, value: &[u8]) -> Reject {
    match decode(registry, &Message { value: Some(value), ..Message::default() }).0 {
        Outcome::Rejected(reject) => reject,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_type_becomes_exact_json() {
    let named = |kind: &str, rest: Value| {
        let mut schema = rest;
        schema["type"] = kind.into();
        schema["name"] = "n".into();
        schema
    };
    let logical = |kind: &str, name: &str| json!({"type": kind, "logicalType": name});
    let long = Datum::Long;
    let list = |items: Vec<Datum>| Datum::Array(items);
    let map = |key: &str, value: Datum| Datum::Map([(key.to_owned(), value)].into());
    let span = Span::new(Months::new(1), Days::new(2), Millis::new(3_004));
    for (schema, datum, expected) in [
        (json!("null"), Datum::Null, "null"),
        (json!("boolean"), Datum::Boolean(true), "true"),
        (json!("int"), Datum::Int(i32::MIN), "-2147483648"),
        (json!("long"), long(9_007_199_254_740_993), "9007199254740993"),
        (json!("long"), long(i64::MIN), "-9223372036854775808"),
        (json!("float"), Datum::Float(1.1), "1.1"),
        (json!("double"), Datum::Double(0.1), "0.1"),
        (json!("double"), Datum::Double(-0.0), "-0.0"),
        (json!("double"), Datum::Double(9_999_999.0), "9999999.0"),
        (json!("double"), Datum::Double(12_345_678.0), "1.2345678E7"),
        (json!("double"), Datum::Double(1e308), "1.0E308"),
        (json!("float"), Datum::Float(-0.000_1), "-1.0E-4"),
        (json!("double"), Datum::Double(f64::NAN), "\"NaN\""),
        (json!("double"), Datum::Double(f64::NEG_INFINITY), "\"-Infinity\""),
        (json!("float"), Datum::Float(f32::INFINITY), "\"Infinity\""),
        (json!("bytes"), Datum::Bytes(vec![0, 255, 16]), "\"AP8Q\""),
        (json!("string"), Datum::String("a \"b\"\n\u{e9}".to_owned()), r#""a \"b\"\né""#),
        (named("fixed", json!({"size": 3})), Datum::Fixed(3, vec![0, 255, 16]), "\"AP8Q\""),
        (named("enum", json!({"symbols": ["A", "B"]})), Datum::Enum(1, "B".to_owned()), "\"B\""),
        (json!({"type": "array", "items": "int"}), list(vec![Datum::Int(1), Datum::Int(-2)]), "[1,-2]"),
        (json!({"type": "array", "items": "int"}), list(vec![]), "[]"),
        (json!({"type": "map", "values": "long"}), map("k\"", long(1)), r#"{"k\"":1}"#),
        (json!(["null", "string"]), Datum::Union(0, Box::new(Datum::Null)), "null"),
        (json!(["null", "string"]), Datum::Union(1, Box::new(Datum::String("x".to_owned()))), "\"x\""),
        (logical("int", "date"), Datum::Date(19_782), "\"2024-02-29\""),
        (logical("int", "time-millis"), Datum::TimeMillis(86_399_500), "\"23:59:59.500\""),
        (logical("long", "time-micros"), Datum::TimeMicros(1), "\"00:00:00.000001\""),
        (
            logical("long", "timestamp-millis"),
            Datum::TimestampMillis(1_709_251_199_500),
            "\"2024-02-29T23:59:59.500Z\"",
        ),
        (logical("long", "timestamp-micros"), Datum::TimestampMicros(-1), "\"1969-12-31T23:59:59.999999Z\""),
        (logical("long", "timestamp-nanos"), Datum::TimestampNanos(1), "\"1970-01-01T00:00:00.000000001Z\""),
        (logical("long", "local-timestamp-millis"), Datum::LocalTimestampMillis(0), "\"1970-01-01T00:00:00\""),
        (logical("long", "local-timestamp-micros"), Datum::LocalTimestampMicros(1), "\"1970-01-01T00:00:00.000001\""),
        (logical("long", "local-timestamp-nanos"), Datum::LocalTimestampNanos(0), "\"1970-01-01T00:00:00\""),
        (named("fixed", json!({"size": 12, "logicalType": "duration"})), Datum::Duration(span), "\"P1M2DT3.004S\""),
        (logical("string", "uuid"), Datum::Uuid(uuid::Uuid::from_u128(7)), "\"00000000-0000-0000-0000-000000000007\""),
        (
            named("fixed", json!({"size": 16, "logicalType": "uuid"})),
            Datum::Uuid(uuid::Uuid::from_u128(7)),
            "\"00000000-0000-0000-0000-000000000007\"",
        ),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}),
            Datum::Decimal(Decimal::from(vec![0x04, 0xe2])),
            "12.50",
        ),
        (
            named("fixed", json!({"size": 9, "logicalType": "decimal", "precision": 20, "scale": 0})),
            Datum::Decimal(Decimal::from(vec![0, 255, 255, 255, 255, 255, 255, 255, 255])),
            "18446744073709551615",
        ),
        (logical("bytes", "big-decimal"), Datum::BigDecimal("-1.20".parse().unwrap()), "-1.20"),
        // A kind that nobody knows is what it is made of; so is one that contradicts itself.
        (logical("long", "furlong"), long(7), "7"),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 1, "scale": 2}),
            Datum::Bytes(vec![1]),
            "\"AQ==\"",
        ),
    ] {
        assert_eq!(text(&schema, datum), expected, "{schema}");
    }
}

#[test]
fn what_connect_says_of_a_type_is_obeyed_before_what_avro_says() {
    let connect = |kind: &str, name: &str| json!({"type": kind, "connect.version": 1, "connect.name": name});
    let timestamp = json!({
        "type": "long", "connect.name": "org.apache.kafka.connect.data.Timestamp", "logicalType": "timestamp-millis",
    });
    // The scale is larger than the precision, which Avro does not allow.
    let decimal = json!({
        "type": "bytes", "scale": 66, "precision": 64, "connect.parameters": {"scale": "66"},
        "connect.name": "org.apache.kafka.connect.data.Decimal", "logicalType": "decimal",
    });
    let tiny = format!("0.{}12", "0".repeat(64));
    for (kind, bytes, expected) in [
        (timestamp, &[0][..], "\"1970-01-01T00:00:00\""),
        (decimal, &[2, 12], &tiny),
        (connect("long", "io.debezium.time.MicroTime"), &[2], "\"00:00:00.000001\""),
        (connect("string", "io.debezium.time.ZonedTimestamp"), &[2, b'Z'], "\"Z\""),
        (connect("bytes", "io.debezium.data.Bits"), &[4, 0, 1], "256"),
    ] {
        assert_eq!(read(&kind, bytes).unwrap(), expected, "{kind}");
        // In a field, a union, a list and a list of lists.
        let around = json!({"type": "record", "name": "r", "fields": [
            {"name": "a", "type": ["null", kind.clone()], "default": null},
            {"name": "b", "type": {"type": "array", "items": {"type": "array", "items": ["null", kind.clone()]}}},
        ]});
        let bytes = [&[2], bytes, &[2, 4, 2], bytes, &[0, 0, 0]].concat();
        assert_eq!(read(&around, &bytes).unwrap(), format!(r#"{{"a":{expected},"b":[[{expected},null]]}}"#));
    }
}

#[test]
fn named_types_are_known_wherever_they_were_defined() {
    let schema = json!({"type": "record", "name": "Row", "namespace": "a.b", "fields": [
        {"name": "price", "type": {
            "type": "record", "name": "VariableScaleDecimal", "namespace": "io.debezium.data",
            "connect.name": "io.debezium.data.VariableScaleDecimal",
            "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
        }},
        {"name": "prices", "type": {"type": "array", "items": "io.debezium.data.VariableScaleDecimal"}},
        {"name": "next", "type": ["null", "Row"], "default": null},
        {"name": "size", "type": {"type": "fixed", "name": "F", "size": 1, "logicalType": "decimal", "precision": 2, "scale": 1}},
        {"name": "other", "type": "F"},
    ]});
    let inner = [2, 2, 11, 0, 0, 15, 16];
    let outer = [&[2, 2, 11, 2, 4, 2, 12, 0, 2][..], &inner, &[15, 16]].concat();
    let inner = r#"{"price":1.1,"prices":[],"next":null,"size":1.5,"other":1.6}"#;
    let expected = format!(r#"{{"price":1.1,"prices":[0.12],"next":{inner},"size":1.5,"other":1.6}}"#);
    assert_eq!(read(&schema, &outer).unwrap(), expected);

    let references =
        ["F", "G"].map(|name| json!({"type": "fixed", "name": name, "namespace": "x", "size": 1}).to_string());
    let main = r#"{"type":"record","name":"R","fields":[{"name":"f","type":"x.F"},{"name":"g","type":"x.G"}]}"#;
    let schema = Schema::read(main, &references).unwrap();
    let scope = Scope { limits: Limits::default(), stays: &|_| false, is_wanted: &|_| true };
    assert_eq!(body::write(&schema, &[1, 2], scope).unwrap(), r#"{"f":"AQ==","g":"Ag=="}"#);
    assert!(Schema::read(main, &references[..1]).unwrap_err().contains("x.G"));
}

#[test]
fn a_default_that_connect_writes_in_its_own_way_does_not_spoil_a_schema() {
    let schema = json!({"type": "record", "name": "r", "fields": [{
        "name": "points", "default": "\u{0}",
        "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1, "connect.default": "\u{0}"},
    }, {"name": "default", "type": "int", "default": "seven"}]});
    assert_eq!(read(&schema, &[2, 15, 2]).unwrap(), r#"{"points":1.5,"default":1}"#);
}

fn row() -> Value {
    json!({"type": "record", "name": "Value", "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "city", "type": ["null", "bytes"]},
        {"name": "phonenumber", "type": {"type": "array", "items": {"type": "int", "logicalType": "date"}}},
        {"name": "nobodys", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ]})
}

const PLACEHOLDER: &[u8] = b"__debezium_unavailable_value";

/// Lengths and small numbers of bodies.
fn long(number: i64) -> Vec<u8> {
    encode(&json!("long"), Datum::Long(number))
}

fn block(items: &[Vec<u8>]) -> Vec<u8> {
    let count = if items.is_empty() { vec![] } else { long(i64::try_from(items.len()).unwrap()) };
    [count, items.concat(), vec![0]].concat()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [long(i64::try_from(bytes.len()).unwrap()), bytes.to_vec()].concat()
}

#[test]
fn values_that_were_not_sent_stay_unavailable_whatever_their_type() {
    let as_dates: Vec<Vec<u8>> = PLACEHOLDER.iter().map(|byte| long(i64::from(*byte))).collect();
    let body = [long(7), vec![2], bytes(PLACEHOLDER), vec![2], bytes(PLACEHOLDER), block(&as_dates), long(0)].concat();
    let (outcome, records) = decode(
        Registry::knowing([(3, &*row().to_string())]),
        &Message { value: Some(&framed(3, &body)), ..Message::default() },
    );
    assert_eq!((outcome, records.len()), (Outcome::Records, 1));
    assert_eq!(records[0].mapped.external_id.as_str(), "7");
    assert_eq!(records[0].mapped.attributes, "{}");
}

#[test]
fn a_value_that_cannot_be_exact_is_refused_by_the_name_of_its_column_if_anybody_reads_it() {
    let beyond = long(i64::MAX - 1);
    let body = |date: Vec<u8>, time: &[u8]| [long(7), vec![0, 0], block(&[date]), time.to_vec()].concat();
    let registry = || Registry::knowing([(3, &*row().to_string())]);
    let value = framed(3, &body(long(19_782), &beyond));
    let (outcome, records) = decode(registry(), &Message { value: Some(&value), ..Message::default() });
    assert_eq!(outcome, Outcome::Records, "nobody reads that column");
    assert!(records[0].mapped.attributes.contains(r#""phone":["2024-02-29"]"#), "{}", records[0].mapped.attributes);
    let kept = records[0].payload.as_deref().unwrap();
    assert!(kept.contains(r#""nobodys":9223372036854775806"#), "{kept}");
    let reject = rejected(registry(), &framed(3, &body(long(i64::from(i32::MAX)), &[0])));
    assert_eq!(
        (reject.reason, &*reject.detail),
        (Reason::BadValue, "column phonenumber is a date beyond the calendar")
    );
}

#[test]
fn what_is_no_framed_avro_is_refused_and_tombstones_are_tombstones_in_every_way() {
    let registry = || Registry::knowing([(3, "\"null\"")]).lacking(9);
    for value in [&b"{\"id\":1}"[..], b"Obj\x01", &[1, 0, 0, 0, 3], &[0], &[0, 0, 0, 3], &[0, 0, 0, 0, 3, 0]] {
        assert_eq!(rejected(registry(), value).reason, Reason::NotAvro, "{value:?}");
    }
    let unknown = rejected(registry(), &[0, 0, 0, 0, 9, 0]);
    assert_eq!((unknown.reason, &*unknown.detail), (Reason::UnknownSchema, "the schema registry has no schema 9"));
    let wrapped = br#"{"schema":null,"payload":null}"#;
    let tombstones = [None, Some(&b""[..]), Some(b"null"), Some(wrapped), Some(&[0, 0, 0, 0, 3])];
    for value in tombstones {
        let message = Message { value, key: Some(br#"{"id":7}"#), ..Message::default() };
        let (outcome, records) = decode(registry(), &message);
        assert_eq!((outcome, records[0].mapped.external_id.as_str()), (Outcome::Records, "7"), "{value:?}");
        assert_eq!(records[0].operation, model::Operation::Delete);
        let outcome = decode(registry(), &Message { value, ..Message::default() }).0;
        assert_eq!(outcome, Outcome::Skipped(Skip::TombstoneWithoutKey));
    }
}

#[test]
fn a_key_is_framed_avro_or_json_or_text() {
    let key = json!({"type": "record", "name": "Key", "fields": [{"name": "id", "type": {
        "type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 0,
    }}]});
    let schema = key.to_string();
    let decimal = framed(4, &bytes(&[0, 255, 255, 255, 255, 255, 255, 255, 255]));
    for (key, expected) in [
        (&decimal[..], "18446744073709551615"),
        (&framed(5, &[14]), "7"),
        (&framed(6, &bytes(b"x-1")), "x-1"),
        (br#"{"id":12}"#, "12"),
        (b"13", "13"),
        (b"x-14", "x-14"),
    ] {
        let registry = Registry::knowing([(4, &*schema), (5, "\"long\""), (6, "\"string\"")]);
        let (outcome, records) = decode(registry, &Message { key: Some(key), ..Message::default() });
        assert_eq!((outcome, records[0].mapped.external_id.as_str()), (Outcome::Records, expected), "{key:?}");
    }
}

/// A schema with everything that could run away: itself, things without bytes, decimals without end.
fn treacherous() -> Value {
    json!({"type": "record", "name": "T", "fields": [
        {"name": "id", "type": "int"},
        {"name": "self", "type": ["null", "T"]},
        {"name": "nulls", "type": {"type": "array", "items": "null"}},
        {"name": "selves", "type": {"type": "map", "values": ["T", "string", {"type": "array", "items": "T"}]}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "any", "type": {"type": "record", "name": "VariableScaleDecimal",
            "connect.name": "io.debezium.data.VariableScaleDecimal",
            "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": ["bytes", "T"]}]}},
        {"name": "big", "type": {"type": "bytes", "logicalType": "big-decimal"}},
        {"name": "empty", "type": {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}},
        {"name": "none", "type": {"type": "array", "items": {"type": "fixed", "name": "Z", "size": 0}}},
        {"name": "when", "type": {"type": "array", "items": ["null", {"type": "long", "logicalType": "timestamp-nanos"}]}},
    ]})
}

#[test]
fn counts_lengths_and_nesting_are_not_believed() {
    let nulls = json!({"type": "array", "items": "null"});
    let empties = json!({"type": "array", "items": {"type": "record", "name": "E", "fields": []}});
    let many = long(i64::MAX);
    assert_eq!(reason(read(&nulls, &many)), Reason::TooLarge);
    assert_eq!(reason(read(&empties, &many)), Reason::TooLarge);
    assert_eq!(reason(read(&nulls, &[long(i64::MIN), vec![0]].concat())), Reason::TooLarge);
    assert_eq!(read(&nulls, &[3, 0, 0]).unwrap(), "[null,null]", "a block that says how long it is");
    assert_eq!(reason(read(&json!("bytes"), &many)), Reason::NotAvro);
    assert_eq!(reason(read(&json!("string"), &long(-1))), Reason::NotAvro);
    assert_eq!(reason(read(&json!("string"), &[2, 0xff])), Reason::NotUtf8);
    assert_eq!(reason(read(&json!("long"), &[0x80; 11])), Reason::NotAvro);
    assert_eq!(
        reason(read(&json!("long"), &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])),
        Reason::NotAvro
    );
    assert_eq!(reason(read(&json!("int"), &long(1 << 31))), Reason::NotAvro);
    assert_eq!(reason(read(&json!("boolean"), &[2])), Reason::NotAvro);
    assert_eq!(reason(read(&json!(["null", "int"]), &[4])), Reason::NotAvro);
    assert_eq!(reason(read(&json!(["null", "int"]), &[1])), Reason::NotAvro);
    assert_eq!(reason(read(&json!("int"), &[0, 0])), Reason::NotAvro, "something is left");
    let symbols = json!({"type": "enum", "name": "E", "symbols": ["A"]});
    assert_eq!(reason(read(&symbols, &[2])), Reason::NotAvro);
    // One that is nothing but itself, and a chain of itself as long as there are bytes.
    let endless = json!({"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]});
    assert_eq!(reason(read(&endless, &[])), Reason::TooDeep);
    let chain = json!({"type": "record", "name": "A", "fields": [{"name": "a", "type": ["null", "A"]}]});
    assert_eq!(reason(read(&chain, &vec![2; 1 << 20])), Reason::TooDeep);
    // Two to the power of thirty of nothing.
    let mut fields = json!({"type": "record", "name": "R0", "fields": []});
    for level in 1..=30 {
        let (this, before) = (format!("R{level}"), format!("R{}", level - 1));
        fields = json!({"type": "record", "name": this, "fields": [{"name": "a", "type": fields}, {"name": "b", "type": before}]});
    }
    assert_eq!(reason(read(&fields, &[])), Reason::TooLarge);
    let decimal = json!({"type": "record", "name": "D", "connect.name": "io.debezium.data.VariableScaleDecimal",
        "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}]});
    for scale in [i32::MIN, -2_000_000, 2_000_000, i32::MAX] {
        assert_eq!(
            reason(read(&decimal, &[long(i64::from(scale)), bytes(&[1])].concat())),
            Reason::BadValue,
            "{scale}"
        );
    }
    assert_eq!(reason(read(&decimal, &[vec![0], bytes(&vec![1; 70_000])].concat())), Reason::BadValue);
}

static TREACHEROUS: LazyLock<Schema> = LazyLock::new(|| Schema::read(&treacherous().to_string(), &[]).unwrap());
static DECODER: LazyLock<Arc<Decoder>> = LazyLock::new(|| {
    let registry = Registry::knowing([(1, &*treacherous().to_string())]);
    Decoder::new(&settings(Format::Avro(registry)), "customers")
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_it_panic_or_take_more_than_its_caps(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..400),
            // Mostly small numbers: more of them mean something.
            proptest::collection::vec(0_u8..6, 0..400),
        ],
    ) {
        let limits = Limits { max_record_bytes: 4_000, max_depth: 20 };
        for is_wanted in [true, false] {
            let scope = Scope { limits, stays: &|_| false, is_wanted: &|_| is_wanted };
            match body::write(&TREACHEROUS, &body, scope) {
                Ok(json) => prop_assert!(serde_json::from_str::<Value>(&json).is_ok(), "{}", json),
                Err(reject) => prop_assert!(!reject.detail.is_empty()),
            }
        }
        let value = framed(1, &body);
        let message = Message { value: Some(&value), key: Some(&value), new_key: Some(&value), ..Message::default() };
        DECODER.decode(&message, &mut Seen::default(), 0, now(), &mut Vec::new());
    }
}
