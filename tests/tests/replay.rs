//! `c360 replay` as an operator gives it: a real broker, a daemon that keeps running, and the command beside it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use c360_tests::program::Installation;
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use embedded_postgres::test::{eventually, until};
use serde_json::{Value, json};
use sqlx::PgPool;

const CUSTOMERS: &str = "select count(*) from customer360.documents";
const PROGRESS: &str = "select coalesce(sum(next_offset), 0)::bigint from staging.kafka_offsets";

struct World {
    broker: Broker,
    pool: PgPool,
    installation: Installation,
}

impl World {
    async fn new() -> Self {
        let broker = Broker::start().await.unwrap();
        broker.create_topic(CUSTOMERS_TOPIC, 2).await.unwrap();
        let database = embedded_postgres::test::database().await;
        let installation = Installation::reference(&database.url, &broker.bootstrap()).unwrap();
        Self { broker, pool: database.pool().await, installation }
    }

    async fn produce(&self, ids: std::ops::Range<i32>) {
        self.produce_to(CUSTOMERS_TOPIC, ids).await;
    }

    async fn produce_to(&self, topic: &str, ids: std::ops::Range<i32>) {
        self.broker.insert(topic, 2, ids).await.unwrap();
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// The exit code, the line on standard output, and what was said beside it.
    fn replay(&self, arguments: &[&str]) -> (Option<i32>, Value, String) {
        let output = self.installation.run(&[&["replay"], arguments].concat()).unwrap();
        let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), document, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_comes_back_by_a_replay_beside_the_daemon() {
    let world = World::new().await;
    let mut daemon = world.installation.start(&["run", "--no-http"], "c360.log").unwrap();
    world.produce(0..100).await;
    until(&world.pool, CUSTOMERS, 100).await;
    // Kafka keeps times by milliseconds.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let since = chrono::Utc::now().to_rfc3339();
    world.produce(100..150).await;
    until(&world.pool, CUSTOMERS, 150).await;

    let (code, nothing, said) = world.replay(&["home_delivery", "--from", &since, "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&nothing["records"], &nothing["news"]), (&json!(50), &json!(0)), "{nothing:#}");

    sqlx::raw_sql(
        "delete from customer360.customers where email ~ '^ann1..@';
         delete from customer360.xrefs where external_id ~ '^1..$';
         update customer360.xrefs set position = '\\x00', attributes = '{\"name\": \"Nobody\"}' where external_id = '7';
         insert into customer360.dirty_marks (match_keys, cause, marked_at)
         values (array['ann7@example.org'], 'test', now());",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    until(&world.pool, "select count(*) from customer360.customers where profile ->> 'name' = 'Nobody'", 1).await;
    let (code, lost, said) = world.replay(&["home_delivery", "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(lost["records"], 150);
    assert_eq!(lost["news"], 51);
    assert_eq!(lost["profiles"], json!({"appear": 50, "vanish": 0, "change": 1}));
    assert!(!lost.to_string().contains("Ann") && !lost.to_string().contains("Nobody"), "{lost}");
    assert_eq!(world.count(CUSTOMERS).await, 100);

    let progress = world.count(PROGRESS).await;
    let (code, done, said) = world.replay(&["home_delivery", "--from", &since]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&done["records"], &done["finished"]), (&json!(50), &json!(true)), "{done:#}");
    assert_eq!(world.count(CUSTOMERS).await, 150);
    assert_eq!(world.count(PROGRESS).await, progress);
    let (code, _, said) = world.replay(&["home_delivery"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.count("select count(*) from customer360.customers where profile ->> 'name' = 'Nobody'").await, 0);

    world.produce(150..160).await;
    until(&world.pool, CUSTOMERS, 160).await;
    assert!(daemon.is_running());

    for (arguments, code, words) in [
        (&["home_delivery", "--from-offset", "3"][..], 2, "--partition"),
        (&["home_delivery", "--partition", "0", "--from-offset", "9999"], 2, "begins at 0"),
        (&["loyalty"], 2, "c360 import loyalty --again"),
        (&["nobody"], 66, "no source is called nobody"),
        (&["home_delivery", "--from", "yesterday"], 2, "2026-11-20"),
    ] {
        let (found, _, said) = world.replay(arguments);
        assert!(found == Some(code) && said.contains(words), "{arguments:?}: {found:?} {said}");
    }
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_at_a_time_and_keeps_to_one_of_several_topics() {
    let mut world = World::new().await;
    world.broker.create_topic("others", 2).await.unwrap();
    let topics = format!("[\"{CUSTOMERS_TOPIC}\", \"others\"]");
    world.installation = world.installation.with("C360__SOURCES__HOME_DELIVERY__TOPICS", &topics);
    world.produce(0..100).await;
    // Kafka keeps times by milliseconds.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let until = chrono::Utc::now().to_rfc3339();
    tokio::time::sleep(Duration::from_millis(5)).await;
    world.produce(100..150).await;
    world.produce_to("others", 150..180).await;
    assert_eq!(world.installation.run(&["run", "--once"]).unwrap().status.code(), Some(69), "nobody is the store");
    assert_eq!(world.count(CUSTOMERS).await, 180);

    let records = |arguments: &[&str]| {
        let (code, done, said) = world.replay(&[&["home_delivery"], arguments].concat());
        assert_eq!(code, Some(0), "{said}");
        let topics = done["parts"].as_array().unwrap().iter().map(|part| part["topic"].as_str().unwrap().to_owned());
        (done["records"].as_i64().unwrap(), topics.collect::<std::collections::BTreeSet<_>>())
    };
    let these = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(records(&["--to", &until]), (100, these(&[CUSTOMERS_TOPIC])), "the other topic is younger");
    assert_eq!(records(&["--from", &until]), (80, these(&[CUSTOMERS_TOPIC, "others"])));
    assert_eq!(records(&["--topic", "others"]), (30, these(&["others"])));
    assert_eq!(records(&[]).0, 180);
    let (code, _, said) = world.replay(&["home_delivery", "--topic", "nobodys"]);
    assert!(code == Some(66) && said.contains("others"), "{code:?} {said}");
    let (code, _, said) = world.replay(&["home_delivery", "--partition", "77"]);
    assert!(code == Some(2) && said.contains("others/1"), "{code:?} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_ctrl_c_stops_is_finished_by_the_same_command() {
    const MESSAGES: i32 = 30_000;
    const DONE: &str = "select coalesce(sum(next_offset - first_offset), 0)::bigint from staging.replays";
    let world = World::new().await;
    world.produce(0..MESSAGES).await;
    assert_eq!(world.installation.run(&["run", "--once"]).unwrap().status.code(), Some(69), "nobody is the store");

    let replay = world.installation.start(&["replay", "home_delivery"], "replay.log").unwrap();
    eventually("it begins", async || world.count(DONE).await != 0).await;
    assert_eq!(replay.interrupt().unwrap(), Some(1));
    let log = std::fs::read_to_string(world.installation.path().join("replay.log")).unwrap();
    assert!(log.contains("stopped; the same command goes on from here"), "{log}");
    let stopped: Value = log.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap();
    let first = stopped["records"].as_i64().unwrap();
    assert_eq!(stopped["finished"], false, "it was done before it was stopped");
    assert_eq!(world.count(DONE).await, first, "what is landed is what is noted");

    let (code, done, said) = world.replay(&["home_delivery"]);
    assert_eq!((code, &done["finished"]), (Some(0), &json!(true)), "{said}");
    assert_eq!(first + done["records"].as_i64().unwrap(), i64::from(MESSAGES), "no message is landed again twice");
    assert_eq!(world.count("select count(*) from staging.replays").await, 0);
    assert_eq!(world.count(CUSTOMERS).await, i64::from(MESSAGES));
}
