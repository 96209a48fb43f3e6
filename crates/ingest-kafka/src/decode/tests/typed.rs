//! Messages that carry their schema: values of every type, and schemas that are read once.

use model::ExternalId;
use serde_json::{Value, json};

use super::*;

/// Every column of the table, under its own name.
fn all_columns(captured: &Captured) -> Settings {
    let value: Value = serde_json::from_str(captured.value.as_deref().unwrap()).unwrap();
    let row = [&value["payload"]["after"], &value["payload"]["before"]].into_iter().find_map(Value::as_object).unwrap();
    let mut settings = settings(Format::Debezium);
    let Mapping::Customer(customer) = &mut settings.mappings[0] else { unreachable!() };
    customer.attributes = row.keys().map(|name| (name.clone(), Columns::One(name.clone()))).collect();
    settings
}

/// What a row became, by the text of each value; nulls left out.
fn attributes(captured: &Captured) -> BTreeMap<String, String> {
    let (outcome, records) = decode_with(&all_columns(captured), captured, &mut Seen::default());
    assert_eq!(outcome, Outcome::Records, "line {}", captured.line);
    let attributes: BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(&records[0].mapped.attributes).unwrap();
    let text = attributes.into_iter().map(|(name, value)| (name, value.get().to_owned()));
    text.filter(|(_, value)| value != "null").collect()
}

fn expected(values: &Value) -> BTreeMap<String, String> {
    let values = values.as_object().unwrap().iter();
    values.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

#[test]
fn values_of_mariadb_are_exact() {
    let row = json!({
        "id": "-1", "price": "12.50", "big": "-12345678901234567890123456789012345.012345678901234567890123456789",
        "f": "1.1", "d": "1.0E308", "day": "\"9999-12-31\"", "dt": "\"1000-01-01T00:00:00\"",
        "dt3": "\"2024-02-29T23:59:59.120\"", "dt6": "\"2024-02-29T23:59:59.123456\"",
        "ts": "\"2024-02-29T23:59:59Z\"", "ts6": "\"2024-02-29T23:59:59.000001Z\"", "t": "\"-838:59:59\"",
        "t6": "\"25:00:00.500\"", "y": "2155", "u": "-1", "i": "9007199254740993", "ti": "2", "bo": "1", "bits": "5",
        "b1": "true", "bin": "\"AP8Q\"", "bl": "\"AP8Q\"", "en": "\"b\"", "st": "\"x,y\"", "js": "\"{\\\"a\\\": 1.10}\"",
        // What the connector makes of the zero date where there may be no null.
        "zd": "\"1970-01-01\"", "zt": "\"2020-01-01T00:00:00Z\"", "defs": "\"x\"",
    });
    assert_eq!(attributes(&line(TYPES, 2)), expected(&row));
}

#[test]
fn values_of_postgres_are_exact() {
    let row = json!({
        "id": "18446744073709551615", "price": "12.50", "neg": "123500", "big": "1.1", "m": "12.34", "r": "1.5",
        "d": "1.0E308", "day": "\"infinity\"", "ts": "\"infinity\"", "ts3": "\"-infinity\"", "tz": "\"infinity\"",
        "t": "\"24:00:00\"", "t3": "\"23:59:59.500\"", "ttz": "\"08:00:00.5Z\"", "iv": "37091106789000",
        "i8": "9007199254740993", "b": "true", "by_": "\"AP8Q\"", "bt": "5", "b1": "true", "vb": "2",
        "ia": "[1,null,3]", "ta": "[\"a\",\"with,comma\",null]", "na": "[1.10,2.00]", "nva": "[1.1,2.22]",
        "da": "[\"2024-02-29\"]", "tsa": "[\"2024-02-29T01:02:03\"]", "ba": "[\"AP8=\"]", "a2": "[null,null]",
        "js": "\"{\\\"k\\\": [1, 2.50], \\\"k\\\":2}\"", "jb": "\"{\\\"k\\\": 2.50}\"",
        "u": "\"123e4567-e89b-12d3-a456-426614174000\"", "x": "\"<a/>\"", "rng": "\"[1,5)\"", "ip": "\"10.0.0.1/24\"",
        "h": "\"x\"",
    });
    assert_eq!(attributes(&line(TYPES, 3)), expected(&row));
    let extremes = json!({
        "id": "1", "r": "\"NaN\"", "d": "\"Infinity\"", "day": "\"-infinity\"", "ts": "\"-4713-11-24T00:00:00\"",
        "bt": "0", "vb": "0",
    });
    assert_eq!(attributes(&line(TYPES, 4)), expected(&extremes));
    // The end of Postgres' calendar is no time that chrono, or anybody who reads the profile, could handle.
    let beyond = line(TYPES, 5);
    let (outcome, _) = decode_with(&all_columns(&beyond), &beyond, &mut Seen::default());
    let Outcome::Rejected(reject) = outcome else { panic!("{outcome:?}") };
    assert_eq!((reject.reason, &*reject.detail), (Reason::BadValue, "column day is a date beyond the calendar"));
    assert_eq!(record(&beyond).mapped.external_id.as_str(), "2", "nobody wants that column");
}

#[test]
fn a_key_that_is_a_decimal_names_the_row_that_its_value_names() {
    for (captured, id, moved_to) in [(line(TYPES, 9), "18446744073709551615", None), (line(TYPES, 6), "1", Some("3"))] {
        let delete = record(&captured);
        assert_eq!((delete.operation, delete.mapped.external_id.as_str()), (Operation::Delete, id));
        assert_eq!(delete.moved_to.as_ref().map(ExternalId::as_str), moved_to);
        let mut tombstone = captured.clone();
        tombstone.value = None;
        assert_eq!(record(&tombstone).mapped.external_id.as_str(), id);
        // By `before`, where the key does not have the column.
        let mut keyless = captured;
        keyless.key = None;
        assert_eq!(record(&keyless).mapped.external_id.as_str(), id);
    }
}

/// Decodes messages one after the other with one decoder, and each with one of its own: nobody must see a difference.
fn assert_same_as_alone(settings: &Settings, values: &[&str]) {
    let (together, mut records, mut alone) = (Decoder::new(settings, "customers"), Vec::new(), Vec::new());
    for value in values {
        let captured = Captured::of(Some(r#"{"id":1}"#), Some(value));
        let outcome = together.decode(&captured.message(), &mut Seen::default(), 3, now(), &mut records);
        let fresh = Decoder::new(settings, "customers");
        let expected = fresh.decode(&captured.message(), &mut Seen::default(), 3, now(), &mut alone);
        assert_eq!((outcome, &records), (expected, &alone), "{value:.200}");
    }
}

#[test]
fn a_message_that_begins_like_the_one_before_it_is_read_as_if_it_were_the_first() {
    let events =
        [WRAPPED, TYPES].map(|events| events.lines().map(|event| serde_json::from_str::<Captured>(event).unwrap()));
    let values: Vec<String> = events.into_iter().flatten().filter_map(|event| event.value).collect();
    let first = values.iter().find(|value| value.contains("\"payload\":{\"before\":null")).unwrap();
    let (start, payload) = first.split_at(first.find("{\"before\":null").unwrap());
    let deep =
        format!("{{\"before\":null,\"after\":{{\"id\":1,\"a\":{}1{}}},\"op\":\"c\"}}", "[".repeat(61), "]".repeat(61));
    let deeper = deep.replace("[1]", "[[1]]");
    let long = format!("{{\"id\":1,\"name\":\"{}\"}}", "x".repeat(1 << 20));
    let payload = &payload[..payload.len() - 1];
    let ends = [
        payload,
        " null",
        "null ",
        "",
        "7",
        "{",
        "{}}",
        "{\"id\":1}",
        " {\"id\":1} ",
        "{\"id\":1,}",
        "{\"id\":1},\"payload\":{\"id\":2}",
        "{\"id\":1},\"other\":2",
        "{\"id\":1}}, {\"id\":2}",
        "{\"id\":1,\"name\":\"\\u0000\"}",
        "{\"id\":1,\"name\":\"\\ud800\"}",
        &deep,
        &deeper,
        &long,
        "{\"id\":1,\"password\":\"secret\"}",
    ];
    let crafted: Vec<String> =
        ends.iter().flat_map(|end| [format!("{start}{end}}}"), format!("{start}{end}}} \n")]).collect();
    let mut all: Vec<&str> = vec![first];
    all.extend(values.iter().chain(&crafted).map(String::as_str));
    for format in [Format::Debezium, Format::Json] {
        assert_same_as_alone(&settings(format.clone()), &all);
        all.reverse();
        assert_same_as_alone(&settings(format), &all);
    }
}
