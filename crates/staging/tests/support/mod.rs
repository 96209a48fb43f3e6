//! A migrated database, and what is landed in it.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use embedded_postgres::test::TestDatabase;
use model::{
    Entity, ExternalId, InstallationKey, LastSeen, LogPosition, Mapped, Operation, Position, Reason, Record, Reject,
};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use staging::imports::Refusal;
use staging::offsets::{Advance, LastMessage, Progress};
use staging::{Batch, Checkpoint, DEFAULT_PARTITION_WIDTH, DeadLetter, Lander, Landing, Seal};

pub(crate) const SOURCE: &str = "home_delivery";
pub(crate) const TOPIC: &str = "dbserver1.inventory.customers";
pub(crate) const HOUR: Duration = DEFAULT_PARTITION_WIDTH;
pub(crate) const DAY: Duration = Duration::from_hours(24);
pub(crate) const TTL: Duration = Duration::from_hours(25);

/// A database with the schema in it.
pub(crate) struct Staged {
    pub(crate) database: TestDatabase,
    pub(crate) pool: PgPool,
}

pub(crate) async fn staged() -> Staged {
    let database = embedded_postgres::test::database().await;
    let pool = database.pool().await;
    let staged = Staged { database, pool };
    staging::migrate(&mut staged.connection().await).await.unwrap();
    staged
}

impl Staged {
    pub(crate) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::from_str(&self.database.url).unwrap()
    }

    /// A connection as c360 opens them.
    pub(crate) async fn connection(&self) -> PgConnection {
        staging::connect(&self.options()).await.unwrap()
    }

    pub(crate) fn lander(&self) -> Lander {
        Lander::new(self.options(), seal(), HOUR)
    }

    /// The one value that a query gives.
    pub(crate) async fn ask<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.ask(&format!("select count(*) from staging.{table}")).await
    }

    /// Lands `records` records of offset `from` onwards, at `now`.
    pub(crate) async fn land(&self, from: i64, records: i64, ttl: Duration, now: DateTime<Utc>) -> i64 {
        let expected =
            self.ask(&format!("select max(next_offset) from staging.kafka_offsets where source = '{SOURCE}'")).await;
        let mut batch = batch(from, records, ttl);
        let landing = self.lander().land(&mut batch, &origin(from), &advance(expected, from + records), now).await;
        match landing.unwrap() {
            Landing::Landed { batch_id: Some(batch_id) } => batch_id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn finish(&self, batch_ids: &[i64], now: DateTime<Utc>) {
        staging::finish(&self.pool, batch_ids, now).await.unwrap();
    }

    /// The claimable batches.
    pub(crate) async fn claimed(&self, max_records: i64) -> Vec<i64> {
        let batches = staging::claim(&self.pool, max_records, &[]).await.unwrap();
        batches.iter().map(|batch| batch.batch_id).collect()
    }
}

pub(crate) fn refusal(reason: &str) -> Refusal {
    Refusal { reason: reason.to_owned(), may_be_accepted: true }
}

pub(crate) fn seal() -> Seal {
    Seal::new(&InstallationKey::new([7; 32]))
}

/// On a whole hour, so that partitions of an hour begin there.
pub(crate) fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn origin(from: i64) -> Value {
    json!({"topic": TOPIC, "partition": 0, "first_offset": from, "last_offset": from})
}

pub(crate) fn advance(expected: Option<i64>, next_offset: i64) -> Checkpoint {
    Checkpoint::Kafka(Advance {
        progress: Progress::Source,
        epoch: 0,
        topic: TOPIC.to_owned(),
        partition: 0,
        expected,
        next_offset,
        last_seen: Some(last_seen(next_offset)),
        last_message: Some(last_message(next_offset)),
    })
}

pub(crate) fn last_message(next_offset: i64) -> LastMessage {
    LastMessage { offset: next_offset - 1, timestamp_ms: 1_700_000_000_000 + next_offset }
}

pub(crate) fn last_seen(pos: i64) -> LastSeen {
    LastSeen { position: log_position(pos), snapshot: None }
}

fn log_position(pos: i64) -> LogPosition {
    LogPosition { file: 3, pos: pos.unsigned_abs(), streamed: true, row: 0 }
}

/// The record of one offset.
pub(crate) fn record(offset: i64) -> Record {
    Record {
        operation: Operation::Upsert,
        mapped: Mapped {
            entity: Entity::Customer,
            external_id: ExternalId::from_parts(offset.to_string(), true),
            email: Some(format!("person{offset}@example.com")),
            credential: None,
            attributes: format!(r#"{{"name":"Person {offset}"}}"#),
        },
        position: Position::kafka(0, log_position(offset), offset),
        observed_at: noon(),
        moved_to: None,
        payload: Some(format!(r#"{{"op":"c","after":{{"id":{offset}}}}}"#)),
    }
}

pub(crate) fn batch(from: i64, records: i64, ttl: Duration) -> Batch {
    let mut batch = Batch::new(SOURCE, ttl);
    for offset in from..from + records {
        batch.push(&record(offset));
    }
    batch
}

pub(crate) fn dead_letter(offset: i64, payload: &[u8]) -> DeadLetter {
    let reject = Reject::new(Reason::NotJson, "value ends too early");
    DeadLetter::new(json!({"topic": TOPIC, "partition": 0, "offset": offset}), reject, payload)
}
