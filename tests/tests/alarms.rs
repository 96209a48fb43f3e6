//! Alarms that wait for a decision, and the commands that they name: a real broker, a daemon that keeps running, and an
//! operator who does what `c360 status` says.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use c360_tests::event::{self, Event};
use c360_tests::program::Installation;
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use embedded_postgres::test::{look_until, until};
use serde_json::{Value, json};
use sqlx::PgPool;

struct World {
    broker: Broker,
    pool: PgPool,
    installation: Installation,
}

/// What Debezium says of a customer: id, place in the log, time, name.
fn event(id: i64, (file, pos): (u32, i64), at: i64, name: &str) -> Event {
    let source = json!({"file": format!("mysql-bin.{file:06}"), "pos": pos, "ts_ms": at});
    event::change(id, &json!({"after": {"name": name}, "source": source, "op": "u"}))
}

impl World {
    async fn new() -> Self {
        let broker = Broker::start().await.unwrap();
        broker.create_topic(CUSTOMERS_TOPIC, 1).await.unwrap();
        let database = embedded_postgres::test::database().await;
        let installation = Installation::reference(&database.url, &broker.bootstrap()).unwrap();
        Self { broker, pool: database.pool().await, installation }
    }

    async fn produce(&self, events: &[Event]) {
        self.broker.send_all(CUSTOMERS_TOPIC, events.to_vec()).await.unwrap();
    }

    /// Waits until so many customers have this name.
    async fn until_named(&self, name: &str, expected: i64) {
        let sql = format!("select count(*) from customer360.documents where document->'profile'->>'name' = '{name}'");
        until(&self.pool, &sql, expected).await;
    }

    /// Waits until so many messages are landed and merged.
    async fn until_landed(&self, messages: i64) {
        let sql = "select coalesce(sum(next_offset), 0)::bigint
                       - 1000 * (select count(*) from staging.batches where consolidated_at is null)
                   from staging.kafka_offsets";
        until(&self.pool, sql, messages).await;
    }

    fn status(&self) -> Value {
        let output = self.installation.run(&["status", "--json"]).unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The commands that status names for the source.
    fn named(&self) -> Vec<String> {
        let status = self.status();
        let looks = status["looks"].as_array().unwrap().iter().filter(|look| look["source"] == "home_delivery");
        looks.map(|look| look["command"].as_str().unwrap().to_owned()).collect()
    }

    async fn until_told(&self, command: &str) {
        look_until("the command is named", async || self.named(), |named| *named == [command]).await;
    }

    /// Types a command, and what it takes off a terminal; returns what it prints.
    fn follow(&self, command: &str, more: &[&str]) -> Value {
        let arguments: Vec<&str> = command.split(' ').skip(1).chain(more.iter().copied()).collect();
        let output = self.installation.run(&arguments).unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_does_what_status_says_puts_a_log_that_begins_again_and_an_emptied_table_right() {
    let world = World::new().await;
    let daemon = world.installation.start(&["run", "--no-http"], "c360.log").unwrap();
    // MariaDB's clock counts seconds.
    let now = chrono::Utc::now().timestamp() * 1_000;
    let ago = |hours: i64| now - hours * 3_600_000;
    let life = |file, at, name| (0..5).map(|id| event(id, (file, 100 + id), at, name)).collect::<Vec<_>>();
    let before = [life(9, ago(200), "First"), life(10, ago(100), "Second")].concat();
    world.produce(&before).await;
    world.until_named("Second", 5).await;
    // What a killed worker publishes twice, and a replay of everything.
    world.produce(&before).await;
    world.until_landed(20).await;
    world.follow("c360 replay home_delivery", &[]);
    assert_eq!(world.named(), [""; 0], "nobody is woken for what is ordinary");

    // The database is restored on another server.
    let restored = [
        event(77, (1, 4), ago(50), "Third"),
        event(1, (1, 90), ago(50) + 9_000, "Third"),
        event(2, (1, 99), ago(40), "Third"),
    ];
    world.produce(&restored).await;
    let command = "c360 replay home_delivery --from-offset 21 --new-epoch";
    world.until_told(command).await;
    world.until_named("Third", 1).await;
    let parts = &world.status()["sources"]["home_delivery"]["log_restarts"];
    assert_eq!((&parts[0]["topic"], &parts[0]["first_offset"]), (&json!(CUSTOMERS_TOPIC), &json!(21)));
    world.follow(command, &[]);
    world.until_named("Third", 3).await;
    assert_eq!(world.named(), [""; 0], "it is answered");
    world.produce(&[event(3, (1, 200), ago(30), "Third")]).await;
    world.until_named("Third", 4).await;

    // And somebody empties the table and begins to fill it again.
    let emptied = json!({
        "before": null, "after": null, "op": "t",
        "source": {"file": "mysql-bin.000001", "pos": 300, "row": 0, "snapshot": "false", "ts_ms": ago(2)},
    });
    world.produce(&[Event::without_key(&emptied), event(1, (1, 400), ago(1), "Fourth")]).await;
    let at = chrono::DateTime::from_timestamp_millis(ago(2)).unwrap();
    let command = format!(
        "c360 source retire home_delivery --before {}",
        at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    );
    world.until_told(&command).await;
    world.until_named("Fourth", 1).await;
    world.until_named("Third", 3).await;
    let looked_at = world.follow(&command, &["--dry-run", "--json"]);
    assert_eq!((&looked_at["cross_references"], &looked_at["profiles"]["vanish"]), (&json!(5), &json!(5)));
    world.until_named("Third", 3).await;
    let done = world.follow(&command, &["--yes", "--json"]);
    assert_eq!((&done["cross_references"], &done["finished"]), (&json!(5), &json!(true)));
    assert_eq!(world.named(), [""; 0], "it is answered");
    world.until_named("Third", 0).await;

    // Nothing of it comes back when it is landed again, in part or from before the log began again.
    for again in ["c360 replay home_delivery --from-offset 21", "c360 replay home_delivery"] {
        world.follow(again, &[]);
        let living: Vec<(String, String)> =
            sqlx::query_as("select email, document->'profile'->>'name' from customer360.documents")
                .fetch_all(&world.pool)
                .await
                .unwrap();
        assert_eq!(living, [("ann1@example.org".to_owned(), "Fourth".to_owned())], "{again}");
        assert_eq!(world.named(), [""; 0], "{again}");
    }
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}
