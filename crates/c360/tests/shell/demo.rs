//! `c360 demo` as a shell sees it: on embedded parts, from any directory.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::OnceLock;

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::support;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");
/// Everything that our own code has to say.
const OURS: &str = "warn,c360=trace,model=trace,staging=trace,ingest_kafka=trace,ingest_csv=trace,poll_rest=trace,\
                    consolidate=trace,serve=trace,embedded_postgres=trace";

/// Runs the demo in an empty directory, where the environment names a database that is not there: it must not be used.
fn demo(arguments: &[&str], log: &str) -> Output {
    let empty = tempfile::tempdir().expect("a directory");
    let mut command = Command::from_std(support::c360());
    let nowhere = "postgres://nobody@127.0.0.1:1/none";
    command.env("DATABASE_URL", nowhere).env("C360__DATABASE__URL", nowhere).env("C360_LOG", log);
    let ran = command.current_dir(&empty).arg("demo").args(arguments).assert().code(0);
    assert_eq!(std::fs::read_dir(&empty).expect("a directory").count(), 0, "the demo leaves nothing behind");
    ran.get_output().clone()
}

/// One demo for all tests that look at its documents.
fn json_demo() -> &'static Output {
    static RAN: OnceLock<Output> = OnceLock::new();
    RAN.get_or_init(|| demo(&["--once", "--json"], OURS))
}

/// Standard output, which is JSON documents and nothing else.
fn documents(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Takes the passes out of a customer's document.
fn without_passes(mut document: Value) -> Value {
    for xref in document["xrefs"].as_array_mut().into_iter().flatten() {
        xref.as_object_mut().expect("an object").remove("pass");
    }
    document
}

/// The values of all keys of this name, anywhere in the recordings.
fn strings(value: &Value, keys: &[&str], found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str() {
                    Some(text) if keys.contains(&key.as_str()) => found.push(text.to_owned()),
                    _ => strings(value, keys, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, keys, found)),
        _ => {}
    }
}

/// Every password and every email of the three systems.
fn secrets() -> Vec<String> {
    let keys = ["email", "password", "Email", "Password"];
    let mut found = Vec::new();
    let store = std::fs::read(format!("{FIXTURES}/online_store.json")).expect("a fixture");
    strings(&serde_json::from_slice(&store).expect("JSON"), &keys, &mut found);
    for line in std::fs::read_to_string(format!("{FIXTURES}/home_delivery/customers.jsonl")).expect("a fixture").lines()
    {
        let message: Value = serde_json::from_str(line).expect("JSON");
        if let Some(value) = message["value"].as_str() {
            strings(&serde_json::from_str(value).expect("JSON"), &keys, &mut found);
        }
    }
    let night = std::fs::read(format!("{FIXTURES}/loyalty/loyalty_members_2026-11-19.csv")).expect("a fixture");
    for row in String::from_utf8_lossy(&night).lines().skip(1) {
        found.extend(row.split(',').nth(1).map(str::to_owned));
        found.extend(row.split(',').filter(|cell| cell.contains('@')).map(str::to_owned));
    }
    found.retain(|secret| secret.trim().len() > 6);
    found
}

#[test]
fn three_systems_become_exactly_the_document_of_the_reference_scenario() {
    let mut all = documents(json_demo()).into_iter();
    let reference = all.find(|document| document["xrefs"][0]["external_ID"] == 1029).unwrap();
    assert_eq!(
        without_passes(reference.clone()),
        json!({
            "type": "user",
            "profile": {
                "name": "Matthew Groves", "firstName": "Matthew", "lastName": "Groves",
                "address1": "600 Sporer Curve", "address2": "Suite 528", "city": "West Evertchester", "state": "NH",
                "zipcode": "04006", "phone": "811.128.4320 x4808", "loyaltyPoints": "47",
            },
            "xrefs": [
                {"external_system": "home_delivery", "external_ID": 1029},
                {"external_system": "loyalty", "external_ID": "27"},
                {"external_system": "online_store", "external_ID": 1},
            ],
        })
    );
    for xref in reference["xrefs"].as_array().unwrap() {
        let pass = xref["pass"].as_str().unwrap();
        assert!(pass.len() == 64 && pass.bytes().all(|byte| byte.is_ascii_hexdigit()), "{xref}");
    }
}

#[test]
fn standard_output_is_customers_and_then_orders_one_document_a_line() {
    let all = documents(json_demo());
    let customers = all.iter().take_while(|document| document["type"] == "user").count();
    assert!(customers > 250, "{customers} customers");
    let orders = &all[customers..];
    assert!(orders.iter().all(|order| order["OrderId"].is_number()), "{orders:?}");
    assert!(orders.len() > 200, "{} orders", orders.len());
    let his: Vec<&Value> = orders.iter().filter(|order| order["CustomerId"] == 1).collect();
    assert_eq!(his.iter().map(|order| &order["OrderId"]).collect::<Vec<_>>(), [&json!(1), &json!(2)]);
    // As received, with the dot missing.
    assert_eq!(his[0]["PurchaseDate"], "2019-04-25T15:15:5800838522");
}

#[test]
fn two_demos_give_the_same_documents_under_different_keys() {
    let again = demo(&["--once", "--json"], "warn");
    let (once, again) = (documents(json_demo()), documents(&again));
    let passes = |documents: &[Value]| documents[0]["xrefs"].clone();
    assert_ne!(passes(&once), passes(&again), "every demo has a key of its own");
    let plain = |documents: Vec<Value>| documents.into_iter().map(without_passes).collect::<Vec<_>>();
    let (once, again) = (plain(once), plain(again));
    for (once, again) in once.iter().zip(&again) {
        assert_eq!(once, again);
    }
    assert_eq!(once.len(), again.len());
}

#[test]
fn no_password_and_no_email_is_logged_or_printed_in_clear() {
    let output = json_demo();
    let (log, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let secrets = secrets();
    assert!(secrets.len() > 800 && secrets.iter().any(|secret| secret == "xrinn5xp.swd"), "{}", secrets.len());
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    for secret in secrets {
        assert!(!log.contains(&secret), "the log holds {secret}");
        assert!(!printed.contains(&secret), "the result holds {secret}");
    }
}

#[test]
fn people_see_every_source_arrive_and_what_became_of_it() {
    let output = demo(&["--once"], "warn");
    let (told, printed) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
    let arrivals: BTreeMap<&str, usize> = ["1. home_delivery", "2. loyalty", "3. online_store", "mock Kafka"]
        .into_iter()
        .map(|part| (part, told.find(part).unwrap_or_else(|| panic!("{part} is missing in {told}"))))
        .collect();
    assert!(
        arrivals["1. home_delivery"] < arrivals["2. loyalty"] && arrivals["2. loyalty"] < arrivals["3. online_store"]
    );
    assert_eq!(told.matches("customers so far").count(), 3, "{told}");
    assert!(told.contains("2 dead letters"), "{told}");
    for part in ["\"loyaltyPoints\": \"47\"", "\"external_ID\": \"27\"", "order 1 of online_store", "190.57", "155.46"]
    {
        assert!(printed.contains(part), "{part} is missing in {printed}");
    }
    for part in
        ["known to 3 systems", "no_email", "home_delivery: not_utf8", "home_delivery: too_deep", "loyalty: ragged_row"]
    {
        assert!(printed.contains(part), "{part} is missing in {printed}");
    }
    assert!(!told.contains('\u{1b}') && !printed.contains('\u{1b}'), "no escapes off a terminal");
}
