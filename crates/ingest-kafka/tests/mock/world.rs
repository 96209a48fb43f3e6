//! What the tests of landing share: librdkafka's mock cluster, a database of their own, and a source between them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test without its world can only fail")]

use std::time::Duration;

use ingest_kafka::{CaughtUp, DEFAULT_FLATTENED_PREFIX, DEFAULT_PLACEHOLDER, Error, Format, Settings};
use model::mapping::{Context, Mapping};
use model::{Credentials, InstallationKey, Limits};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use staging::{DEFAULT_PARTITION_WIDTH, Lander, Seal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const TOPIC: &str = "customers";
pub(crate) const SOURCE: &str = "home_delivery";

pub(crate) struct World {
    pub(crate) cluster: MockCluster<'static, DefaultProducerContext>,
    pub(crate) pool: PgPool,
    pub(crate) database: PgConnectOptions,
    producer: FutureProducer,
}

impl World {
    /// A cluster with one topic, and a migrated database.
    pub(crate) async fn new(partitions: i32) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, partitions, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let database = embedded_postgres::test::database().await;
        let pool = database.pool().await;
        staging::migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
        Self { cluster, pool, database: database.url.parse().unwrap(), producer: config.create().unwrap() }
    }

    pub(crate) fn settings(&self) -> Settings {
        let customer = json!({
            "external_id": "id", "email": "email", "credential": "password", "attributes": {"name": "name"},
        });
        Settings {
            name: SOURCE.to_owned(),
            brokers: self.cluster.bootstrap_servers(),
            topics: vec![TOPIC.to_owned()],
            group_id: "c360".to_owned(),
            format: Format::Debezium,
            mappings: vec![Mapping::Customer(serde_json::from_value(customer).unwrap())],
            context: Context {
                credentials: Credentials::digest(&InstallationKey::new([7; 32])),
                timezone: chrono_tz::Tz::UTC,
            },
            limits: Limits::default(),
            ttl: Duration::from_hours(168),
            placeholder: DEFAULT_PLACEHOLDER.to_owned(),
            flattened_prefix: DEFAULT_FLATTENED_PREFIX.to_owned(),
            // The mock cluster makes a group that lost a member wait for a whole session.
            properties: [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")]
                .map(|(property, value)| (property.to_owned(), value.to_owned()))
                .into(),
        }
    }

    /// Writes one message; returns when the cluster has it.
    pub(crate) async fn produce(&self, partition: i32, key: &str, value: &[u8]) {
        let record = FutureRecord::to(TOPIC).partition(partition).key(key).payload(value);
        self.producer.send(record, Duration::from_secs(10)).await.unwrap();
    }

    /// Writes inserts of these ids.
    pub(crate) async fn produce_inserts(&self, partition: i32, ids: impl IntoIterator<Item = u32>) {
        let events: Vec<(String, String)> =
            ids.into_iter().map(|id| (format!(r#"{{"id":{id}}}"#), insert(id))).collect();
        let sent = events.iter().map(|(key, value)| {
            let record = FutureRecord::to(TOPIC).partition(partition).key(key).payload(value);
            self.producer.send_result(record).map_err(|(error, _)| error).unwrap()
        });
        for delivery in sent.collect::<Vec<_>>() {
            delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
        }
    }

    pub(crate) fn run(&self) -> Running {
        self.run_with(self.settings())
    }

    pub(crate) fn run_with(&self, settings: Settings) -> Running {
        let cancel = CancellationToken::new();
        let daemon = ingest_kafka::run(settings, self.database.clone(), lander(&self.database), cancel.clone());
        Running { cancel, daemon: tokio::spawn(daemon) }
    }

    pub(crate) async fn catch_up(&self) -> Result<CaughtUp, Error> {
        let (settings, lander) = (self.settings(), lander(&self.database));
        ingest_kafka::catch_up(settings, self.database.clone(), lander, CancellationToken::new()).await
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Landed ids, sorted; repeated where landed twice.
    pub(crate) async fn ids(&self) -> Vec<u32> {
        let ids: Vec<String> =
            sqlx::query_scalar("select external_id from staging.records order by external_id::integer")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }
}

pub(crate) fn lander(database: &PgConnectOptions) -> Lander {
    Lander::new(database.clone(), Seal::new(&InstallationKey::new([7; 32])), DEFAULT_PARTITION_WIDTH)
}

/// A daemon.
pub(crate) struct Running {
    cancel: CancellationToken,
    daemon: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Stops it as SIGTERM does, within its time.
    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(9), self.daemon).await.expect("stops in time").unwrap().unwrap();
    }

    /// The error that it ends with by itself.
    pub(crate) async fn end(self) -> Error {
        self.daemon.await.unwrap().unwrap_err()
    }

    /// Ends it as a crash does: nothing is finished.
    pub(crate) async fn abort(self) {
        self.daemon.abort();
        let _ = self.daemon.await;
    }
}

pub(crate) fn insert(id: u32) -> String {
    format!(
        r#"{{"before":null,"after":{{"id":{id},"name":"Ann {id}","email":"ann{id}@example.org","password":"p{id}"}},"source":{{"file":"mysql-bin.000001","pos":{},"row":0,"snapshot":"false","ts_ms":1700000000000,"query":null}},"op":"c"}}"#,
        1000 + id
    )
}

pub(crate) const NEXT: &str = "select coalesce(sum(next_offset), 0)::bigint from staging.kafka_offsets";
pub(crate) const RECORDS: &str = "select count(*) from staging.records";
