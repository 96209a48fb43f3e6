//! Avro from end to end: a real broker, Confluent's own serializer, c360 as a process. Only the registry is a stand-in.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod messages;
mod registry;

use std::fs;

use c360_tests::program::Installation;
use c360_tests::stack::{Broker, Outgoing};
use embedded_postgres::test::until;
use serde_json::{Value, json};
use sqlx::PgPool;

use messages::{Message, customer, event, plain, produce, row, tombstone};
use registry::Registry;

const TOPIC: &str = "dbserver1.inventory.customers";
const CUSTOMERS: &str = "select count(*) from customer360.documents";
const PROGRESS: &str = "select coalesce(sum(next_offset), 0)::bigint from staging.kafka_offsets";
const TROUBLE: &str = "select count(*) from staging.sources where health ->> 'trouble' is not null";

struct World {
    broker: Broker,
    registry: Registry,
    pool: PgPool,
    installation: Installation,
}

impl World {
    async fn new() -> Self {
        let (broker, registry) = (Broker::start().await.unwrap(), Registry::start().await);
        broker.create_topic(TOPIC, 1).await.unwrap();
        let database = embedded_postgres::test::database().await;
        let config = format!(
            r#"
            [sources.home_delivery]
            kind = "kafka"
            brokers = "{}"
            topics = ["{TOPIC}"]
            format = "avro"
            schema_registry = "{}"
            schema_registry_user = "c360"
            schema_registry_password_file = "registry-password"
            [sources.home_delivery.customer]
            external_id = "id"
            email = "email"
            credential = "password"
            attributes = {{ name = "name", price = "price", balance = "balance", born = "born", seen = "seen", changed = "changed", joined = "joined", points = "points", photo = "photo", tags = "tags", phone = "phone" }}
            "#,
            broker.bootstrap(),
            registry.url()
        );
        let installation = Installation::new(&config).unwrap().with("C360__DATABASE__URL", &database.url);
        fs::write(installation.path().join("registry-password"), "registry-secret\n").unwrap();
        Self { broker, registry, pool: database.pool().await, installation }
    }

    async fn produce(&self, messages: &[Message]) -> Vec<Option<u64>> {
        produce(&self.broker, &self.registry.url(), TOPIC, messages).await
    }

    /// The profile of a customer, numbers with all their digits.
    async fn profile(&self, id: i64) -> Value {
        let profile: String =
            sqlx::query_scalar("select document ->> 'profile' from customer360.documents where email = $1")
                .bind(format!("c{id}@example.org"))
                .fetch_one(&self.pool)
                .await
                .unwrap();
        serde_json::from_str(&profile).unwrap()
    }

    /// The exit code of a command, and what it printed.
    fn c360(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.installation.run(arguments).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.c360(&["status", "--json"]).1).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.installation.path().join("c360.log")).unwrap()
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn change_events_and_rows_become_profiles_with_exact_values() {
    let world = World::new().await;
    world.registry.want_password(true);
    let (old, new) = (row(&[]), row(&["phone"]));
    let full = json!({
        "id": 1029, "name": "Ann", "email": "c1029@example.org", "password": "in-clear",
        "price": {"$decimal": "12.50"}, "balance": {"scale": 3, "value": {"$bytes": "BOI="}}, "born": -25_567,
        "seen": 1_709_251_199_123_456_i64, "changed": "2024-02-29T23:59:59Z", "joined": {"$time": "2024-02-29T23:59:59.500+00:00"},
        "points": 9_007_199_254_740_993_i64, "photo": {"$bytes": "AP8Q"}, "tags": ["a", "b\"c"],
    });
    let mut updated = full.clone();
    updated["name"] = Value::Null;
    updated["price"] = json!({"$decimal": "-0.01"});
    updated["photo"] = json!({"$bytes": "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="});
    let mut evolved = customer(2, "Bob B.");
    evolved["phone"] = "811.128.4320 x4808".into();
    world
        .produce(&[
            event(&old, "r", 1, 1029, &Value::Null, &full),
            event(&old, "c", 2, 2, &Value::Null, &customer(2, "Bob")),
            event(&old, "c", 3, 3, &Value::Null, &customer(3, "Gone")),
            event(&old, "u", 4, 1029, &full, &updated),
            // The table has another column from here on.
            event(&new, "u", 5, 2, &customer(2, "Bob"), &evolved),
            event(&new, "d", 6, 3, &customer(3, "Gone"), &Value::Null),
            tombstone(3),
            plain(4, "Flat", Some("c")),
            plain(5, "Flat and gone", Some("c")),
            plain(5, "Flat and gone", Some("d")),
            plain(6, "Plain", None),
        ])
        .await;
    let (code, _, said) = world.c360(&["run", "--once"]);
    assert_eq!(code, Some(0), "{said}");
    let found: Vec<(String, bool)> =
        sqlx::query_as("select external_id, deleted_at is null from customer360.xrefs order by external_id::integer")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    let expected = [("2", true), ("3", false), ("4", true), ("5", false), ("6", true), ("1029", true)];
    assert_eq!(found, expected.map(|(id, lives)| (id.to_owned(), lives)));
    let expected = json(
        r#"{"price": -0.01, "balance": 1.250, "born": "1900-01-01", "seen": "2024-02-29T23:59:59.123456",
            "changed": "2024-02-29T23:59:59Z", "joined": "2024-02-29T23:59:59.500Z", "points": 9007199254740993,
            "photo": "AP8Q", "tags": ["a", "b\"c"]}"#,
    );
    assert_eq!(world.profile(1029).await, expected);
    assert_eq!(world.profile(2).await, json!({"name": "Bob B.", "phone": "811.128.4320 x4808"}));
    assert_eq!(world.profile(6).await, json!({"name": "Plain"}));
    let clear: i64 = sqlx::query_scalar("select count(*) from staging.records where payload like '%in-clear%'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(clear, 0, "no password, and no statement that shows one");
    // Two of rows with envelopes, two without; the key of deletes and tombstones; of plain rows none is needed.
    assert!(world.registry.asked() <= 6, "each is asked for once, not {} times", world.registry.asked());

    let (code, done, said) = world.c360(&["replay", "home_delivery", "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&json(&done)["records"], &json(&done)["news"]), (&json!(11), &json!(0)), "{done}");
    sqlx::raw_sql("delete from customer360.customers; delete from customer360.xrefs")
        .execute(&world.pool)
        .await
        .unwrap();
    let (code, _, said) = world.c360(&["replay", "home_delivery"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.profile(1029).await["points"], expected["points"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_schema_or_is_no_avro_is_parked_and_lands_once_its_schema_has_come() {
    let world = World::new().await;
    let (known, elsewhere) = (row(&[]), row(&["phone"]));
    let ids = world
        .produce(&[
            event(&known, "c", 1, 1, &Value::Null, &customer(1, "Ann")),
            event(&elsewhere, "c", 2, 2, &Value::Null, &customer(2, "Bob")),
            event(&known, "c", 3, 3, &Value::Null, &customer(3, "Cleo")),
        ])
        .await;
    let unknown = ids[1].unwrap();
    world.registry.forget(unknown);
    let good = u32::try_from(ids[0].unwrap()).unwrap().to_be_bytes();
    let cut_off = [&[0], &good[..], &[2, 2]].concat();
    for garbage in [&b"{\"id\": 9}"[..], b"\x00\x01", &cut_off, &[0xff; 200]] {
        world
            .broker
            .produce(Outgoing { topic: TOPIC, key: Some(b"9"), value: Some(garbage), ..Outgoing::default() })
            .await
            .unwrap();
    }
    let daemon = world.installation.start(&["run", "--no-http"], "c360.log").unwrap();
    until(&world.pool, PROGRESS, 7).await;
    until(&world.pool, CUSTOMERS, 2).await;
    until(&world.pool, "select count(*) from staging.dead_letters where reason = 'not_avro'", 4).await;
    let status = world.status();
    let letters = &status["sources"]["home_delivery"]["dead_letters"];
    assert_eq!(letters, &json!({"not_avro": 4, "unknown_schema": 1}), "{status:#}");
    assert!(!world.log().contains("Ann") && !world.log().contains("registry-secret"), "{}", world.log());

    let id: i64 = sqlx::query_scalar("select dead_letter_id from staging.dead_letters where reason = 'unknown_schema'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    let show = || json(&world.c360(&["dead-letters", "show", "--json", "--values", &id.to_string()]).1);
    assert!(
        show()["hidden"].is_string() && show()["detail"].to_string().contains(&format!("schema {unknown}")),
        "{}",
        show()
    );
    let retry = ["dead-letters", "retry", "--json", "--reason", "unknown_schema"];
    let (code, done, _) = world.c360(&retry);
    assert_eq!((code, &json(&done)["still_bad"]), (Some(65), &json!({"unknown_schema": 1})), "{done}");

    world.registry.remember(unknown);
    let shown = show();
    assert_eq!(shown["payload"]["after"]["name"], "Bob", "{shown:#}");
    assert_eq!((&shown["payload"]["after"]["password"], &shown["key"]["id"]), (&json!("[credential]"), &json!(2)));
    let (code, done, said) = world.c360(&retry);
    assert_eq!((code, &json(&done)["landed"]), (Some(0), &json!(1)), "{done} {said}");
    assert_eq!(world.profile(2).await, json!({"name": "Bob"}));
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_or_refuses_us_is_waited_for_and_nothing_is_skipped() {
    let mut world = World::new().await;
    let names: Vec<String> = (1..=20).map(|id| format!("Ann {id}")).collect();
    let messages: Vec<Message> =
        (1..).zip(&names).map(|(id, name)| event(&row(&[]), "c", id, id, &Value::Null, &customer(id, name))).collect();
    world.produce(&messages).await;
    world.registry.stop().await;
    let daemon = world.installation.start(&["run", "--no-http"], "c360.log").unwrap();
    until(&world.pool, TROUBLE, 1).await;
    let status = world.status();
    let trouble = &status["sources"]["home_delivery"]["trouble"];
    assert_eq!(trouble, "the schema registry does not answer", "{status:#}");
    until(&world.pool, PROGRESS, 0).await;

    // Beside it, and for as long as brokers are waited for.
    let (code, _, said) = world.c360(&["run", "--once"]);
    assert_eq!(code, Some(69), "{said}");

    world.registry.want_password(true);
    fs::write(world.installation.path().join("registry-password"), "wrong").unwrap();
    world.registry.restart().await;
    until(&world.pool, PROGRESS, 20).await;
    until(&world.pool, CUSTOMERS, 20).await;
    until(&world.pool, TROUBLE, 0).await;
    until(&world.pool, "select count(*) from staging.dead_letters", 0).await;
    assert!(world.log().contains("answers again"), "{}", world.log());
    assert_eq!(daemon.terminate().unwrap().0, Some(0));

    // What it knows it need not ask; another process does, with a password that is wrong by now.
    world.produce(&[event(&row(&[]), "u", 21, 1, &Value::Null, &customer(1, "Ann again"))]).await;
    let daemon = world.installation.start(&["run", "--no-http"], "c360.log").unwrap();
    until(&world.pool, "select count(*) from staging.sources where health ->> 'trouble' like '%refuses us%'", 1).await;
    world.registry.want_password(false);
    until(&world.pool, PROGRESS, 21).await;
    until(&world.pool, TROUBLE, 0).await;
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}
