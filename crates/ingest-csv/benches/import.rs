//! How fast a file is imported, publishing included, beside the same staging rows by one text COPY as `psql` does it.
//!
//! ROWS rows (1,000,000), RUNS times (3), on a throw-away cluster that waits for the disk like a real one.

#![expect(clippy::unwrap_used, reason = "a benchmark says what it measured, or panics")]

use std::time::Instant;

use embedded_postgres::{Cluster, Options};
use futures::TryStreamExt;
use ingest_csv::{ImportOptions, Outcome, Settings};
use model::mapping::{Context, CustomerMapping, Mapping};
use model::{Credentials, InstallationKey};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use staging::{DEFAULT_PARTITION_WIDTH, Lander, Seal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let (rows, runs) = (number("ROWS", 1_000_000), number("RUNS", 3));
    let durable = Options::temporary().durable(true).setting("wal_level", "replica").setting("max_wal_size", "8GB");
    let cluster = Cluster::start(&durable).unwrap();
    let options: PgConnectOptions = cluster.url().parse().unwrap();
    let mut connection = staging::connect(&options).await.unwrap();
    staging::migrate(&mut connection).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let row = |id| format!("{id},xrinn{id}.swd,Matthew{id},Groves,matthew.groves{id}@couchbase.com,{}\n", id % 1_000);
    let text = "id,password,firstName,lastName,email,points\n".to_owned() + &(0..rows).map(row).collect::<String>();
    std::fs::write(directory.path().join("loyalty_members_2026-01-31.csv"), text).unwrap();

    import(&options, &directory, rows).await;
    let text = copied_out(&mut connection).await;
    let (mut importing, mut copying) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        empty(&mut connection).await;
        copying.push(copy_in(&mut connection, &text).await);
        empty(&mut connection).await;
        importing.push(import(&options, &directory, rows).await);
    }
    let (importing, copying) = (median(importing), median(copying));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let rows = rows as f64;
    println!("imported   {:>9.0} rows/s", rows / importing);
    println!("text COPY  {:>9.0} rows/s", rows / copying);
    println!("ratio      {:>9.2}", copying / importing);
    connection.close().await.unwrap();
    cluster.stop().unwrap();
}

/// Seconds from the call to the published file.
async fn import(options: &PgConnectOptions, directory: &tempfile::TempDir, rows: u64) -> f64 {
    let mapping: CustomerMapping = serde_json::from_str(
        r#"{"external_id": "id", "email": "email", "credential": "password",
            "attributes": {"firstName": "firstName", "lastName": "lastName", "name": ["firstName", "lastName"],
                           "loyaltyPoints": "points"}}"#,
    )
    .unwrap();
    let key = InstallationKey::new([7; 32]);
    let context = Context { credentials: Credentials::digest(&key), timezone: chrono_tz::UTC };
    let settings = Settings::new("loyalty", directory.path(), "*.csv", Mapping::Customer(mapping), context);
    let lander = Lander::new(options.clone(), Seal::new(&key), DEFAULT_PARTITION_WIDTH);
    let file = directory.path().join("loyalty_members_2026-01-31.csv");
    let (import_options, cancel) = (ImportOptions::default(), CancellationToken::new());
    let since = Instant::now();
    let reports = ingest_csv::import(settings, options.clone(), lander, &[file], &import_options, &mut |_| {}, cancel)
        .await
        .unwrap();
    let seconds = since.elapsed().as_secs_f64();
    assert_eq!((reports[0].state, reports[0].rows, reports[0].dead_letters), (Outcome::Imported, rows, 0));
    seconds
}

/// What is landed, as text COPY writes it.
async fn copied_out(connection: &mut PgConnection) -> Vec<u8> {
    let rows = connection.copy_out_raw("copy (select * from staging.records) to stdout").await.unwrap();
    let text = rows.try_fold(Vec::new(), async |mut text, row| {
        text.extend_from_slice(&row);
        Ok(text)
    });
    text.await.unwrap()
}

/// Seconds for one COPY with its commit.
async fn copy_in(connection: &mut PgConnection, text: &[u8]) -> f64 {
    let since = Instant::now();
    let mut copy = connection.copy_in_raw("copy staging.records from stdin").await.unwrap();
    for chunk in text.chunks(256 << 10) {
        copy.send(chunk).await.unwrap();
    }
    copy.finish().await.unwrap();
    since.elapsed().as_secs_f64()
}

async fn empty(connection: &mut PgConnection) {
    let sql = "truncate staging.records, staging.batches, staging.dead_letters, staging.csv_imports; checkpoint";
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// The number in a variable, or this one where there is none.
fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() { default } else { text.parse().unwrap() }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
