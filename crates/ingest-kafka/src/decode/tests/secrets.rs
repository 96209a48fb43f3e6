//! No clear credential and no SQL of the source in what is kept, however the message is written.

use std::fmt::Write;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const CANARY: &str = "c4n4ry-s3cret";

/// The payload that is kept of a message.
fn payload(settings: &Settings, value: &str) -> String {
    let (outcome, mut records) =
        decode_with(settings, &Captured::of(Some(r#"{"id":1}"#), Some(value)), &mut Seen::default());
    assert_eq!(outcome, Outcome::Records, "{value}");
    let record = records.remove(0);
    assert!(!format!("{record:?}").contains(CANARY), "{record:?}");
    record.payload.unwrap()
}

fn digest() -> String {
    settings(Format::Json).context.credentials.replace(CANARY).unwrap()
}

#[test]
fn the_credential_is_replaced_in_before_and_after_and_nothing_else_changes() {
    let value = format!(
        r#" {{"before":{{"id":1,"password":"{CANARY}","n":1.50}},"after":{{"id":1,"password" : "{CANARY}","n":1e400}},"source":{{"lsn":1,"query":null}},"op":"u"}}"#
    );
    let expected = value.replace(CANARY, &digest());
    assert_eq!(payload(&settings(Format::Debezium), &value), expected);
}

#[test]
fn the_statement_of_the_source_is_removed() {
    let value = format!(
        r#"{{"after":{{"id":1}},"source":{{"lsn":1,"query":"update c set password = '{CANARY}'","pos":2}},"op":"u"}}"#
    );
    assert_eq!(
        payload(&settings(Format::Debezium), &value),
        r#"{"after":{"id":1},"source":{"lsn":1,"pos":2},"op":"u"}"#
    );
    let flattened = format!(r#"{{"id":1,"__op":"u","__source_query":"update c set password = '{CANARY}'"}}"#);
    assert_eq!(payload(&settings(Format::Debezium), &flattened), r#"{"id":1,"__op":"u","__source_query":null}"#);
}

#[test]
fn all_policies_and_kinds_of_values() {
    let with = |credentials: Credentials, value: &str| {
        let mut settings = settings(Format::Json);
        settings.context.credentials = credentials;
        let value = format!(r#"{{"id":1,"password":{value}}}"#);
        let (_, mut records) = decode_with(&settings, &Captured::of(None, Some(&value)), &mut Seen::default());
        let payload: Value = serde_json::from_str(&records.remove(0).payload.unwrap()).unwrap();
        payload["password"].clone()
    };
    let digest_of = |text: &str| json!(settings(Format::Json).context.credentials.replace(text).unwrap());
    let digest = || settings(Format::Json).context.credentials;
    assert_eq!(with(digest(), "12345"), digest_of("12345"));
    assert_eq!(with(digest(), r#"{"hash":"x"}"#), digest_of(r#"{"hash":"x"}"#));
    assert_eq!(with(digest(), r#""a\"b""#), digest_of("a\"b"));
    assert_eq!((with(digest(), "null"), with(digest(), r#""""#)), (Value::Null, json!("")));
    assert_eq!(with(Credentials::Drop, r#""secret""#), Value::Null);
    assert_eq!(with(Credentials::Keep, r#""secret""#), json!("secret"));
}

/// One string written with some of its characters as escapes.
fn escaped(text: &str, escapes: &[bool]) -> String {
    let letter = |(letter, escape): (char, &bool)| {
        if *escape { format!("\\u{:04x}", u32::from(letter)) } else { letter.to_string() }
    };
    format!("\"{}\"", text.chars().zip(escapes.iter().cycle()).map(letter).collect::<String>())
}

fn any_row() -> impl Strategy<Value = String> {
    let member = (0..4_u8, proptest::collection::vec(any::<bool>(), 1..5), 0..3_u8);
    proptest::collection::vec(member, 0..5).prop_map(|members| {
        let mut row = String::from(r#"{"id":1"#);
        for (kind, escapes, spaces) in members {
            let space = " ".repeat(spaces.into());
            let (name, value) = match kind {
                0 | 1 => (escaped("password", &escapes), escaped(CANARY, &escapes)),
                2 => (escaped("name", &escapes), r#""\"password\":\"x\"""#.to_owned()),
                _ => (escaped("other", &escapes), r#"{"password":7,"list":[{},"}"]}"#.to_owned()),
            };
            write!(row, "{space},{space}{name}{space}:{space}{value}").unwrap();
        }
        row + "}"
    })
}

proptest! {
    #[test]
    fn no_canary_survives_in_any_way_of_writing_a_message(
        rows in proptest::collection::vec(any_row(), 1..4),
        shape in 0..5_u8,
        query in any::<bool>(),
        op in prop_oneof![Just("c"), Just("u"), Just("d")],
    ) {
        let last = rows.last().unwrap();
        let source = if query { format!(r#"{{"lsn":1,"query":"{CANARY}","query":"{CANARY}"}}"#) } else { r#"{"lsn":1}"#.to_owned() };
        let repeated = |name: &str| rows.iter().map(|row| format!(r#""{name}":{row},"#)).collect::<Vec<_>>().concat();
        let envelope = |rows: &str| format!(r#"{{{rows}"source":{source},"source":{source},"op":"{op}"}}"#);
        let value = match shape {
            0 => envelope(&(repeated("before") + &repeated("after"))),
            1 => format!(r#"{{"schema":{{}},"payload":{}}}"#, envelope(&(repeated("after") + &repeated("before")))),
            2 => format!(
                r#"{{"payload":{},"schema":{{}},"payload":{}}}"#,
                envelope(&repeated("before")), envelope(&repeated("after").replace("after", "\\u0061fter"))
            ),
            3 => last.clone(),
            _ => format!(r#"{{{}"schema":{{}}}}"#, repeated("payload")),
        };
        let settings = settings(Format::Debezium);
        let (outcome, records) = decode_with(&settings, &Captured::of(Some(r#"{"id":1}"#), Some(&value)), &mut Seen::default());
        if shape == 2 && op == "d" {
            prop_assert_eq!(&outcome, &Outcome::Records);
        }
        for record in &records {
            let shown = format!("{record:?}");
            prop_assert!(!shown.contains(CANARY), "{}", shown);
            let parsed: Value = serde_json::from_str(record.payload.as_deref().unwrap()).unwrap();
            prop_assert!(!parsed.to_string().contains(CANARY), "{}", parsed);
        }
    }
}
