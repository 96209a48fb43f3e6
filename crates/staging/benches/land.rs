//! How fast records land, beside the same rows by text COPY as `psql` does it: one statement, one commit, rendered ahead.
//!
//! ROWS records (200,000), RUNS times (3), on a throw-away cluster that waits for the disk like a real one. Landing pays for
//! encoding, the batch row, the offset and a commit for each batch; the text COPY pays for none of it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark says what it measured, or panics")]

use std::time::{Duration, Instant};

use chrono::Utc;
use embedded_postgres::{Cluster, Options};
use futures::TryStreamExt;
use model::{Entity, ExternalId, InstallationKey, LastSeen, LogPosition, Mapped, Operation, Position, Record};
use sqlx::postgres::{PgConnectOptions, PgPoolCopyExt};
use sqlx::{Connection, PgConnection, PgPool};
use staging::offsets::{Advance, Progress};
use staging::{Batch, Checkpoint, DEFAULT_PARTITION_WIDTH, Lander, Landing, Seal};

const SOURCE: &str = "bench";
const TTL: Duration = Duration::from_hours(25);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (rows, runs) = (number("ROWS", 200_000), number("RUNS", 3));
    let durable = Options::temporary().durable(true).setting("wal_level", "replica").setting("max_wal_size", "4GB");
    let cluster = Cluster::start(&durable).unwrap();
    let options: PgConnectOptions = cluster.url().parse().unwrap();
    let mut connection = staging::connect(&options).await.unwrap();
    staging::migrate(&mut connection).await.unwrap();

    let records: Vec<Record> = (0..i64::try_from(rows).unwrap()).map(record).collect();
    let bytes: usize = records.iter().map(|record| record.payload.as_ref().unwrap().len()).sum();
    println!("{} records, {} bytes of payload each", records.len(), bytes / records.len());
    land(&options, &records).await;
    let text = copied_out(&options).await;

    let (mut landing, mut copying) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        empty(&mut connection).await;
        copying.push(copy_in(&mut connection, &text).await);
        empty(&mut connection).await;
        landing.push(land(&options, &records).await);
    }
    let count = u32::try_from(records.len()).unwrap();
    let rate = |seconds: f64| f64::from(count) / seconds;
    let (landing, copying) = (median(landing), median(copying));
    println!("landed     {:>9.0} records/s", rate(landing));
    println!("text COPY  {:>9.0} rows/s", rate(copying));
    println!("ratio      {:>9.2}", copying / landing);
    connection.close().await.unwrap();
    cluster.stop().unwrap();
}

/// A customer of a Debezium topic, about 800 bytes on the wire.
fn record(offset: i64) -> Record {
    let columns = format!(
        r#"{{"id":{offset},"name":"Matthew Groves {offset}","email":"person{offset}@example.com","address_line_1":"600 Sporer Curve","address_line_2":"Suite 528","city":"West Evertchester","state":"NH","zipcode":"04006","phonenumber":"811.128.4320 x4808","password":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}"#
    );
    Record {
        operation: Operation::Upsert,
        mapped: Mapped {
            entity: Entity::Customer,
            external_id: ExternalId::from_parts(offset.to_string(), true),
            email: Some(format!("person{offset}@example.com")),
            credential: Some("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned()),
            attributes: format!(
                r#"{{"name":"Matthew Groves {offset}","address1":"600 Sporer Curve","address2":"Suite 528","city":"West Evertchester","state":"NH","zipcode":"04006","phone":"811.128.4320 x4808"}}"#
            ),
        },
        position: Position::kafka(0, log_position(offset), offset),
        observed_at: Utc::now(),
        moved_to: None,
        payload: Some(format!(
            r#"{{"before":null,"after":{columns},"source":{{"version":"3.0.0","connector":"mysql","name":"dbserver1","ts_ms":1740000000000,"db":"inventory","table":"customers","server_id":223344,"file":"binlog.000003","pos":{offset},"row":0}},"op":"c","ts_ms":1740000000123}}"#
        )),
    }
}

fn log_position(offset: i64) -> LogPosition {
    LogPosition { file: 3, pos: offset.unsigned_abs(), streamed: true, row: 0 }
}

/// Seconds for encoding and landing, batch by batch.
async fn land(options: &PgConnectOptions, records: &[Record]) -> f64 {
    let seal = Seal::new(&InstallationKey::new([7; 32]));
    let mut lander = Lander::new(options.clone(), seal, DEFAULT_PARTITION_WIDTH);
    let since = Instant::now();
    let mut batch = Batch::new(SOURCE, TTL);
    let mut stored = None;
    for (record, next_offset) in records.iter().zip(1..) {
        batch.push(record);
        if batch.is_full() || next_offset == i64::try_from(records.len()).unwrap() {
            let topic = "topic".to_owned();
            let last_seen = Some(LastSeen { position: log_position(next_offset), snapshot: None });
            let advance = Advance {
                progress: Progress::Source,
                epoch: 0,
                topic,
                partition: 0,
                expected: stored,
                next_offset,
                last_seen,
                last_message: None,
            };
            let origin = serde_json::json!({"topic": "topic", "partition": 0});
            let landing = lander.land(&mut batch, &origin, &Checkpoint::Kafka(advance), Utc::now()).await.unwrap();
            assert!(matches!(landing, Landing::Landed { .. }));
            batch = Batch::new(SOURCE, TTL);
            stored = Some(next_offset);
        }
    }
    since.elapsed().as_secs_f64()
}

/// What is landed, as text COPY writes it.
async fn copied_out(options: &PgConnectOptions) -> Vec<u8> {
    let pool = PgPool::connect_with(options.clone()).await.unwrap();
    let rows = pool.copy_out_raw("copy (select * from staging.records) to stdout").await.unwrap();
    let text = rows.try_fold(Vec::new(), async |mut text, row| {
        text.extend_from_slice(&row);
        Ok(text)
    });
    let text = text.await.unwrap();
    pool.close().await;
    text
}

/// Seconds for the rows by text COPY.
async fn copy_in(connection: &mut PgConnection, text: &[u8]) -> f64 {
    let since = Instant::now();
    let mut copy = connection.copy_in_raw("copy staging.records from stdin").await.unwrap();
    for chunk in text.chunks(1 << 20) {
        copy.send(chunk).await.unwrap();
    }
    copy.finish().await.unwrap();
    since.elapsed().as_secs_f64()
}

/// Both begin with empty tables and nothing left to write.
async fn empty(connection: &mut PgConnection) {
    let sql = "truncate staging.records, staging.batches, staging.kafka_offsets; checkpoint";
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// The number in a variable, or this one where there is none.
fn number(name: &str, default: usize) -> usize {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() { default } else { text.parse().unwrap() }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
