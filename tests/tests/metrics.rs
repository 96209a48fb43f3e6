//! What `/metrics` of a running process says of Kafka, while it is so: lag and its age, batches that are fenced, a partition
//! that is stopped.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::net::TcpListener;
use std::ops::Range;

use c360_tests::program::Installation;
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use embedded_postgres::test::look_until;
use serde_json::Value;

const LAG: &str = "c360_kafka_lag_messages";
const OLDEST: &str = "c360_kafka_oldest_unlanded_seconds";
const STOPPED: &str = "c360_kafka_stopped_partitions";
const RECORDS: &str = "c360_kafka_records_total";
const FENCED: &str = "c360_kafka_fenced_batches_total";

struct World {
    broker: Broker,
    installation: Installation,
    listen: String,
}

impl World {
    async fn new(database_url: &str) -> Self {
        let broker = Broker::start().await.unwrap();
        broker.create_topic(CUSTOMERS_TOPIC, 1).await.unwrap();
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let installation = Installation::reference(database_url, &broker.bootstrap())
            .unwrap()
            .with("C360__HTTP__LISTEN", &listen)
            .with("C360__SOURCES__HOME_DELIVERY__LATE_AFTER", "1s");
        Self { broker, installation, listen }
    }

    async fn produce(&self, ids: Range<i32>) {
        self.broker.insert(CUSTOMERS_TOPIC, 1, ids).await.unwrap();
    }

    /// The value of a metric of the source; `None` while there is none.
    async fn metric(&self, name: &str) -> Option<i64> {
        let text = reqwest::get(format!("http://{}/metrics", self.listen)).await.ok()?.text().await.ok()?;
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{source=\"home_delivery\"}}")))?;
        line.rsplit_once(' ')?.1.split('.').next()?.parse().ok()
    }

    async fn until(&self, name: &str, holds: impl Fn(i64) -> bool) {
        look_until(name, async || self.metric(name).await, |value| value.is_some_and(&holds)).await;
    }

    /// What needs a look at the source, and the exit code of `--check`.
    fn looks(&self) -> (Vec<String>, Option<i32>) {
        let output = self.installation.run(&["status", "--json", "--check"]).unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let looks = document["looks"].as_array().unwrap().iter().filter(|look| look["source"] == "home_delivery");
        (looks.map(|look| look["problem"].as_str().unwrap().to_owned()).collect(), output.status.code())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_fenced_batches_and_a_stopped_partition_show_in_the_metrics_of_a_running_process() {
    let database = embedded_postgres::test::database().await;
    let pool = database.pool().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new(&database.url).await;
    let daemon = world.installation.start(&["run"], "c360.log").unwrap();
    world.produce(0..100).await;
    world.until(RECORDS, |records| records == 100).await;
    for name in [LAG, OLDEST, STOPPED] {
        world.until(name, |value| value == 0).await;
    }

    // Nothing can be landed.
    let mut locked = pool.begin().await.unwrap();
    sqlx::query("lock table staging.kafka_offsets in exclusive mode").execute(&mut *locked).await.unwrap();
    world.produce(100..150).await;
    world.until(LAG, |lag| lag == 50).await;
    world.until(OLDEST, |seconds| seconds > 2).await;
    let (looks, code) = world.looks();
    assert_eq!(code, Some(1));
    assert!(looks.iter().any(|look| look.contains("50 messages wait to be landed, the oldest for")), "{looks:?}");
    locked.rollback().await.unwrap();
    for name in [LAG, OLDEST] {
        world.until(name, |value| value == 0).await;
    }
    assert_eq!(world.looks().0, [""; 0]);

    // As if somebody else had landed ten messages.
    sqlx::query("update staging.kafka_offsets set next_offset = next_offset + 10").execute(&pool).await.unwrap();
    world.produce(150..170).await;
    world.until(FENCED, |batches| batches >= 1).await;
    world.until(RECORDS, |records| records == 160).await;
    assert_eq!(daemon.terminate().unwrap().0, Some(0));

    // Retention passes its progress while nobody reads.
    world.produce(170..240).await;
    world.broker.delete_records(CUSTOMERS_TOPIC, 0, 200).await.unwrap();
    let daemon = world.installation.start(&["run"], "c360.log").unwrap();
    world.until(STOPPED, |partitions| partitions == 1).await;
    world.until(LAG, |lag| lag == 70).await;
    // None of them was ever fetched.
    world.until(OLDEST, |seconds| seconds > 2).await;
    let (looks, code) = world.looks();
    assert_eq!(code, Some(1));
    assert!(looks.len() == 1 && looks[0].contains("retention has passed it"), "{looks:?}");
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}
