//! `c360 dead-letters` as a shell sees it, on a real Postgres: what could not be landed is seen, repaired and landed.

use std::process::{Child, Stdio};
use std::time::Duration;

use assert_cmd::assert::Assert;
use embedded_postgres::test::look_until;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::{Value, json};

use crate::support::{Home, stderr, stdout};

const TOPIC: &str = "shop.customers";

/// One Kafka source and one of files; what is wrong with the configuration is mended by replacing a part of it.
const CONFIG: &str = r#"
[sources.home_delivery]
kind = "kafka"
brokers = "BROKERS"
topics = ["shop.customers"]
[sources.home_delivery.customer]
external_id = "id"
email = "email"
credential = "password"
attributes = { name = "name" }

[sources.loyalty]
kind = "csv"
directory = "drop"
pattern = "members*.csv"
settle = "10ms"
full_export = true
[sources.loyalty.customer]
external_id = "id"
email = "email"
credential = "password"
attributes = { city = "city" }
"#;

/// An installation on a database of its own.
struct Place {
    home: Home,
    kafka: MockCluster<'static, DefaultProducerContext>,
}

impl Place {
    async fn new() -> Self {
        let kafka: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
        kafka.create_topic(TOPIC, 1, 1).unwrap();
        let home = Home::new("").await.with("C360_LOG", "trace");
        std::fs::create_dir(home.path("drop")).unwrap();
        let place = Self { home, kafka };
        place.configure("", "");
        place
    }

    /// Writes the configuration, with a part of it replaced.
    fn configure(&self, part: &str, by: &str) {
        let config = CONFIG.replace("BROKERS", &self.kafka.bootstrap_servers());
        let config = if part.is_empty() { config } else { config.replace(part, by) };
        self.home.write("c360.toml", config);
    }

    fn dead_letters(&self, arguments: &[&str]) -> Assert {
        self.home.c360(&[&["dead-letters"], arguments].concat())
    }

    /// The one JSON document that a command prints.
    fn json(&self, arguments: &[&str], code: i32) -> Value {
        serde_json::from_str(&stdout(&self.dead_letters(arguments).code(code))).unwrap()
    }

    fn produce(&self, events: &[(&str, &[u8])]) {
        let producer: ThreadedProducer<DefaultProducerContext> =
            rdkafka::ClientConfig::new().set("bootstrap.servers", self.kafka.bootstrap_servers()).create().unwrap();
        for (key, value) in events {
            let record = BaseRecord::to(TOPIC).key(*key).payload(*value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    }

    fn run_once(&self) {
        self.home.c360(&["run", "--once", "--no-http"]).code(0);
    }

    async fn ids(&self, reason: &str) -> Vec<String> {
        let ids: Vec<i64> = self
            .home
            .ask(&format!(
                "select array_agg(dead_letter_id order by dead_letter_id) from staging.dead_letters where reason = '{reason}'"
            ))
            .await;
        ids.iter().map(i64::to_string).collect()
    }

    async fn profile(&self, email: &str) -> Value {
        self.home
            .ask::<Option<Value>>(&format!(
                "select (select profile from customer360.customers where email = '{email}' and deleted_at is null)"
            ))
            .await
            .unwrap_or_default()
    }
}

/// A change event whose `id` no mapping takes, and which has a better one as `no`.
fn event(pos: u32, id: &str, no: u32, name: &str) -> String {
    format!(
        r#"{{"before":null,"after":{{"id":{id},"no":{no},"name":"{name}","email":"{no}@x.example","password":"s3cret"}},"source":{{"file":"bin.000003","pos":{pos},"query":"insert 's3cret'"}},"op":"u","ts_ms":1700000000000}}"#
    )
}

#[tokio::test]
async fn what_a_message_lacks_is_mended_in_the_configuration_and_lands_at_its_own_place() {
    let place = Place::new().await;
    // Of 7 the older message is bad, of 8 there is only a bad one.
    place.produce(&[
        (r#"{"id":7.5}"#, event(100, "7.5", 7, "Old Ann").as_bytes()),
        (r#"{"id":7}"#, event(200, "7", 7, "New Ann").as_bytes()),
        (r#"{"id":8.5}"#, event(300, "8.5", 8, "Bob").as_bytes()),
        (r#"{"id":9}"#, b"{\"after\":"),
    ]);
    place.run_once();
    assert_eq!(place.profile("7@x.example").await, json!({"name": "New Ann"}));

    // Seen.
    let page = stdout(&place.dead_letters(&["list"]).code(0));
    for part in [
        "3 parked dead letters:\n",
        "bad_external_id  2",
        "not_json         1",
        "shop.customers/0 offset 2",
        "column id is neither an integer nor a string",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let bad = place.ids("bad_external_id").await;
    let listed = stdout(&place.dead_letters(&["list", "--json", "--reason", "bad_external_id"]).code(0));
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["origin"], json!({"topic": TOPIC, "partition": 0, "offset": 2}), "the newest first");
    assert_eq!((&listed[0]["state"], &listed[0]["source"]), (&json!("parked"), &json!("home_delivery")));

    // What is not mended yet is still bad, and a look changes nothing.
    let looked = place.json(&["retry", "--dry-run", "--json"], 65);
    assert_eq!((&looked["landed"], &looked["still_bad"]), (&json!(0), &json!({"bad_external_id": 2, "not_json": 1})));
    place.configure(
        "external_id = \"id\"\nemail = \"email\"\ncredential = \"password\"\nattributes = { name",
        "external_id = \"no\"\nemail = \"email\"\ncredential = \"password\"\nattributes = { name",
    );
    let looked = place.json(&["retry", "--dry-run", "--json", "--reason", "bad_external_id"], 0);
    assert_eq!((&looked["landed"], &looked["records"], &looked["dry_run"]), (&json!(2), &json!(2), &json!(true)));
    assert_eq!(place.home.ask::<i64>("select count(*) from staging.dead_letters where state = 'parked'").await, 3);

    // Mended.
    let retried = place.json(&["retry", "--json"], 65);
    assert_eq!((&retried["landed"], &retried["still_bad"]), (&json!(2), &json!({"not_json": 1})));
    assert_eq!(retried["sources"]["home_delivery"]["records"], 2);
    assert_eq!(place.profile("8@x.example").await, json!({"name": "Bob"}));
    assert_eq!(place.profile("7@x.example").await, json!({"name": "New Ann"}), "a retry never beats what is newer");
    let again = stdout(&place.dead_letters(&["retry", &bad[0], &bad[1]]).code(0));
    assert_eq!(again, "There is no parked dead letter to retry.\n");
    assert_eq!(place.home.ask::<i64>("select count(*) from staging.records where external_id = '8'").await, 1);

    // Given up.
    let left = place.ids("not_json").await;
    let discarded = place.json(&["discard", &left[0], "--dry-run", "--json"], 0);
    assert_eq!((&discarded["discarded"], &discarded["dry_run"]), (&json!(1), &json!(true)));
    assert!(
        stderr(&place.dead_letters(&["discard", &left[0]]).code(2))
            .contains("1 parked dead letter would be discarded and wiped: say --yes")
    );
    assert_eq!(place.json(&["discard", &left[0], "--yes", "--json"], 0)["discarded"], 1);
    assert_eq!(stdout(&place.dead_letters(&["list"]).code(0)), "There are no parked dead letters to show.\n");
    let shown = place.dead_letters(&["show", &left[0], &bad[0]]).code(0);
    assert!(stdout(&shown).contains("Not shown: it was retried or discarded, and what it held is wiped."));
    let all = stdout(&place.dead_letters(&["list", "--state", "all", "--limit", "2"]).code(0));
    assert!(all.contains("not_json discarded") && all.contains("bad_external_id retried"), "{all}");
    let held: i64 = place.home.ask("select count(*) from staging.dead_letters where octet_length(payload) > 0").await;
    assert_eq!(held, 0);
}

#[tokio::test]
async fn a_letter_is_opened_without_its_password_and_without_its_values_unless_they_are_asked_for() {
    let place = Place::new().await;
    let broken: &[u8] = b"{\"after\":{\"name\":\"Canary\",\"password\":\"s3cret\"\xff";
    place.produce(&[(r#"{"id":"ann@x.example"}"#, event(100, "78125.4375", 7, "Canary").as_bytes()), ("k", broken)]);
    place.run_once();
    let (bad, unreadable) = (place.ids("bad_external_id").await, place.ids("not_utf8").await);
    let (bad, unreadable) = (bad[0].as_str(), unreadable[0].as_str());

    let show = place.dead_letters(&["show", bad]).code(0);
    let page = stdout(&show);
    for part in [
        "reason            bad_external_id: column id is neither an integer nor a string",
        "\"name\": \"[text, 6 characters]\"",
        "\"id\": \"[number]\"",
        "\"password\": \"[credential]\"",
        "\"query\": \"[credential]\"",
        "\"pos\": 100",
        "\"op\": \"u\"",
        "--values shows all of them but the credential",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let values = place.json(&["show", bad, "--values", "--json"], 0);
    assert_eq!(
        (&values["payload"]["after"]["name"], &values["payload"]["after"]["id"]),
        (&json!("Canary"), &json!(78125.4375))
    );
    assert_eq!(values["key"]["id"], "ann@x.example");
    let raw = place.dead_letters(&["show", bad, "--raw"]).code(0);
    let expected = event(100, "78125.4375", 7, "Canary")
        .replace("\"s3cret\"", "\"[credential]\"")
        .replace("\"insert 's3cret'\"", "\"[credential]\"");
    assert_eq!(stdout(&raw), expected, "otherwise the bytes as they came");

    let hidden = place.dead_letters(&["show", unreadable, "--values"]).code(0);
    assert!(stdout(&hidden).contains("these bytes cannot be read") && stdout(&hidden).contains("--raw shows them all"));
    let bytes = place.dead_letters(&["show", unreadable, "--raw"]).code(0);
    assert_eq!(bytes.get_output().stdout, broken);

    let list = place.dead_letters(&["list"]).code(0);
    let retry = place.dead_letters(&["retry"]).code(65);
    let document = place.dead_letters(&["show", bad, "--json"]).code(0);
    for quiet in [&show, &list, &retry, &document, &hidden] {
        for secret in ["Canary", "s3cret", "ann@", "78125.4375"] {
            assert!(!stdout(quiet).contains(secret), "{secret}\n{}", stdout(quiet));
        }
    }
    for loud in [&show, &raw, &bytes, &list, &retry, &document, &hidden] {
        for secret in ["Canary", "s3cret", "ann@"] {
            assert!(!stderr(loud).contains(secret), "nothing is logged, not even at trace: {secret}\n{}", stderr(loud));
        }
    }
}

#[tokio::test]
async fn two_operators_beside_a_daemon_land_every_letter_once() {
    let place = Place::new().await;
    place.home.c360(&["migrate"]).code(0);
    let _daemon = place.home.start(&["run", "--no-http"], "daemon.log");
    let events: Vec<String> = (0..700).map(|no| event(100 + no, &format!("{no}.5"), no, "Ann")).collect();
    place.produce(&events.iter().map(|event| ("k", event.as_bytes())).collect::<Vec<_>>());
    let parked =
        async || place.home.ask::<i64>("select count(*) from staging.dead_letters where state = 'parked'").await;
    look_until("all are parked", parked, |parked| *parked == 700).await;
    place.configure(
        "external_id = \"id\"\nemail = \"email\"\ncredential = \"password\"\nattributes = { name",
        "external_id = \"no\"\nemail = \"email\"\ncredential = \"password\"\nattributes = { name",
    );
    let retry = || {
        let mut command = place.home.command(&["dead-letters", "retry", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let told = |operator: Child| {
        let output = operator.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let operators = [retry(), retry()].map(told);
    let landed: i64 = operators.iter().map(|told| told["landed"].as_i64().unwrap()).sum();
    assert_eq!(landed, 700, "{operators:?}");
    let records: Value =
        place.home.ask("select jsonb_build_array(count(*), count(distinct external_id)) from staging.records").await;
    assert_eq!(records, json!([700, 700]));
    let living =
        async || place.home.ask::<i64>("select count(*) from customer360.customers where deleted_at is null").await;
    look_until("all are customers", living, |living| *living == 700).await;
}

#[tokio::test]
async fn rows_in_another_encoding_land_once_it_is_configured() {
    let place = Place::new().await;
    let file = b"id,email,city,password\n1,ann@x.example,Rome,pw-1\n2,bob@x.example,K\xf6ln,pw-2\n3,eve@x.example\n";
    place.home.write("drop/members_2026-03-01.csv", file);
    place.home.c360(&["import", "loyalty"]).code(4);
    let letters = place.ids("not_utf8").await;
    let id = letters[0].as_str();
    let listed = place.json(&["list", "--json", id], 0);
    assert_eq!(listed["origin"], json!({"file": "members_2026-03-01.csv", "line": 3, "byte_offset": 49}));
    let hidden = stdout(&place.dead_letters(&["show", id]).code(0));
    assert!(hidden.contains("these bytes cannot be read"), "{hidden}");

    place.configure("full_export = true", "full_export = true\nencoding = \"windows-1252\"");
    let shown = place.json(&["show", id, "--values", "--json"], 0)["payload"].clone();
    assert_eq!(shown, json!({"id": "2", "email": "bob@x.example", "city": "Köln", "password": "[credential]"}));
    assert_eq!(stdout(&place.dead_letters(&["show", id, "--raw"]).code(0)), "2,bob@x.example,Köln,[credential]");
    let page = stdout(&place.dead_letters(&["retry"]).code(65));
    assert_eq!(page, "loyalty: 2 dead letters\n  1 landed, as 1 record\n  1 still bad: ragged_row\n");
    assert_eq!(place.profile("bob@x.example").await, json!({"city": "Köln"}));

    // The next night has come: what is left of the one before says nothing any more.
    place.home.write("drop/members_2026-03-02.csv", "id,email,city,password\n1,ann@x.example,Rome,p\n");
    place.home.c360(&["import", "loyalty"]).code(0);
    assert_eq!(place.profile("bob@x.example").await, Value::Null);
    let broken = b"id,email,city,password\n1,ann@x.example,Rome,p\n2,bob@x.example,K\x81ln,p\n";
    place.home.write("drop/members_2026-03-03.csv", broken);
    place.configure("", "");
    place.home.c360(&["import", "loyalty"]).code(4);
    let gone = "id,email,city,password\n1,ann@x.example,Rome,p\n";
    place.home.write("drop/members_2026-03-04.csv", gone);
    place.home.c360(&["import", "loyalty"]).code(0);
    place.configure("full_export = true", "full_export = true\nencoding = \"macintosh\"");
    let retried = place.json(&["retry", "--json", "--reason", "not_utf8"], 0);
    assert_eq!((&retried["skipped"], &retried["records"]), (&json!(1), &json!(0)), "bob has left since");
    assert_eq!(place.profile("bob@x.example").await, Value::Null);
}

#[tokio::test]
async fn what_is_not_there_or_not_said_is_an_error_of_its_own() {
    let place = Place::new().await;
    let unmigrated = place.dead_letters(&["list"]).code(78);
    assert!(stderr(&unmigrated).contains("not migrated yet"), "{}", stderr(&unmigrated));
    place.home.c360(&["migrate"]).code(0);
    assert_eq!(stdout(&place.dead_letters(&["list"]).code(0)), "There are no parked dead letters to show.\n");
    assert_eq!(stdout(&place.dead_letters(&["list", "--json"]).code(0)), "");
    assert!(stderr(&place.dead_letters(&["list", "4711"]).code(66)).contains("there is no dead letter 4711"));
    assert!(
        stderr(&place.dead_letters(&["retry", "--source", "loyal"]).code(66)).contains("no source is called loyal")
    );
    place.dead_letters(&["show", "4711"]).code(66);
    place.dead_letters(&["retry"]).code(0);
    place.dead_letters(&["discard"]).code(2);
    place.dead_letters(&["discard", "--all", "--source", "loyalty"]).code(2);
    place.dead_letters(&["discard", "--all", "--yes"]).code(0);
    place.dead_letters(&["show", "1", "--raw", "--values"]).code(2);
    place.dead_letters(&["list", "--since", "yesterday"]).code(2);
    let key = place.home.path("data/installation.key");
    std::fs::write(&key, "07".repeat(32)).unwrap();
    for command in [&["show", "1"][..], &["retry"]] {
        let refused = stderr(&place.dead_letters(command).code(78));
        assert!(refused.contains("another installation key") && refused.contains("security.key_file"), "{refused}");
    }
    place.dead_letters(&["list"]).code(0);
}
