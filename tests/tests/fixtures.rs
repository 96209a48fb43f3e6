//! What is recorded in `fixtures/` is what the recorder would record.

use std::{fs, path::Path};

use c360_tests::{
    people::{System, all},
    stack::{CUSTOMERS_TOPIC, Message},
};

fn recorded(file: &str) -> Vec<Message> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/home_delivery").join(file);
    let text = fs::read_to_string(path).expect("a recording");
    text.lines().map(|line| serde_json::from_str(line).expect("a message")).collect()
}

#[test]
fn the_recorded_customers_are_the_cast() {
    let messages = recorded("customers.jsonl");
    assert!(messages.iter().all(|message| message.topic == CUSTOMERS_TOPIC && message.partition == 0));
    for person in all() {
        let key = format!(r#"{{"id":{}}}"#, person.id(System::HomeDelivery));
        let first = messages.iter().find(|message| message.key.as_deref() == Some(&key)).expect("an event for each");
        let row = &first.json().unwrap().unwrap()["after"];
        assert_eq!(row["name"], person.name());
        assert_eq!(row["email"].as_str(), person.home_delivery_email().as_deref());
        assert_eq!(row["password"], person.password(System::HomeDelivery));
    }
}

#[test]
fn the_reference_customer_comes_first() {
    let first = recorded("customers.jsonl").remove(0).json().unwrap().unwrap();
    assert_eq!(first["after"]["id"].as_u64(), Some(1029));
    assert_eq!(first["after"]["email"], "matthew.groves@couchbase.com");
    assert_eq!(first["after"]["address_line_1"], "600 Sporer Curve");
}

#[test]
fn every_shape_is_recorded() {
    let messages = recorded("shapes.jsonl");
    let has = |topic: &str, matches: &dyn Fn(&Message) -> bool| {
        messages.iter().any(|message| message.topic.starts_with(topic) && matches(message))
    };
    let contains = |text: &'static str| {
        move |message: &Message| message.value.as_deref().is_some_and(|value| value.contains(text))
    };
    for topic in ["schemas_on.", "schemas_off."] {
        for operation in [r#""op":"r""#, r#""op":"c""#, r#""op":"u""#, r#""op":"d""#, r#""op":"t""#] {
            assert!(has(topic, &contains(operation)), "{topic} {operation}");
        }
        assert!(has(topic, &|message| message.value.is_none()));
        assert!(has(topic, &|message| message.key.is_none()));
    }
    assert!(has("flat_rewrite.", &contains(r#""__deleted":"true""#)));
    assert!(has("flat_rewrite_schemas_on.", &contains(r#""__deleted":"true""#)));
    assert!(has("flat_tombstone.", &|message| message.value.as_deref() == Some("null")));
    assert!(has("flat_delete_to_tombstone.", &|message| message.value.is_none()));
    assert!(has("schemas_off", &contains("tableChanges")));
    assert!(has("__debezium-heartbeat.", &contains("ts_ms")));
}
