//! How fast a backlog gets from Kafka into Postgres, beside Debezium's own sink connector for JDBC: the same broker, topic
//! and cluster.
//!
//! ROWS events (300,000) on PARTITIONS partitions (4), as rows with their schemas, which the sink cannot do without. The sink
//! has as many tasks as there are partitions, batches and statements as large as it can make them, and a JVM for long work.
//! Its time is from the first batch that it has committed to the last, so its start is a gift; c360's is all of it.
//! RUNS times (1).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use c360_tests::bench::{Shape, cluster, database, number, produce, rate, rows, runs, timed};
use c360_tests::source;
use c360_tests::stack::{Broker, Connect};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Executor, PgConnection};
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "customers";
const DATABASE: &str = "sink";
/// How long the sink may take for a batch.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How the sink writes.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// Rows are appended, as c360 lands records; a message that comes twice is there twice.
    Insert,
    /// By primary key, so that a message may come twice.
    Upsert,
}

#[tokio::main]
async fn main() -> Result<()> {
    let (rows, partitions) = (rows(300_000), number("PARTITIONS", 4));
    let broker = Broker::start().await?;
    broker.create_topic(TOPIC, u16::try_from(partitions)?).await?;
    produce(&broker.bootstrap(), TOPIC, rows, partitions, Shape::RowsWithSchemas)?;
    let connect = Connect::start_for_long_work(&broker).await?;
    let cluster = cluster()?;
    let (options, mut connection) = database(&cluster, DATABASE).await?;

    for run in 0..runs(1) {
        connection.execute("truncate staging.kafka_offsets, staging.batches, staging.records; checkpoint").await?;
        let (seconds, ()) = timed(async || land(&broker, &options, rows).await).await?;
        println!("run {run}: c360 landed {rows} rows: {:.0} rows/s ({seconds:.2} s)", rate(rows, seconds));
        for mode in [Mode::Insert, Mode::Upsert] {
            connection.execute("drop table if exists sunk; checkpoint").await?;
            let name = format!("sink_{mode:?}_{run}").to_lowercase();
            let url = cluster.tcp_url_for(DATABASE).context("the cluster has no port")?;
            connect.register(&name, &mode.config(&url, partitions)?).await?;
            let (sunk, sink_seconds) = sink(&mut connection, rows).await?;
            connect.remove(&name).await?;
            let theirs = rate(sunk, sink_seconds);
            println!(
                "run {run}: Debezium JDBC sink, {mode:?}: {theirs:.0} rows/s; ratio {:.2} (goal 3)",
                rate(rows, seconds) / theirs
            );
        }
    }
    Ok(())
}

async fn land(broker: &Broker, options: &PgConnectOptions, rows: usize) -> Result<()> {
    let mapping = source::customer("id", &["name"]);
    let settings = source::kafka("home_delivery", &broker.bootstrap(), &[TOPIC], mapping);
    let landing = ingest_kafka::catch_up(settings, options.clone(), source::lander(options), CancellationToken::new());
    let done = tokio::spawn(landing).await??;
    ensure!(done.records == rows as u64, "{done:?}");
    Ok(())
}

/// Waits until all rows are there. How many came after the first batch, and in how many seconds.
async fn sink(connection: &mut PgConnection, rows: usize) -> Result<(usize, f64)> {
    let mut seen = (0, Instant::now());
    let mut first = None;
    loop {
        let is_there: bool =
            sqlx::query_scalar("select to_regclass('sunk') is not null").fetch_one(&mut *connection).await?;
        let count = if is_there {
            usize::try_from(
                sqlx::query_scalar::<_, i64>("select count(*) from sunk").fetch_one(&mut *connection).await?,
            )?
        } else {
            0
        };
        if count > seen.0 {
            seen = (count, Instant::now());
            first.get_or_insert(seen);
        }
        if let Some((first_count, since)) = first.filter(|_| count >= rows) {
            return Ok((count - first_count, since.elapsed().as_secs_f64()));
        }
        ensure!(seen.1.elapsed() < PATIENCE, "the sink has stopped at {count} rows");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Mode {
    fn config(self, url: &str, tasks: usize) -> Result<Value> {
        let url: reqwest::Url = url.parse()?;
        let (host, port) = (url.host_str().context("a host")?, url.port().context("a port")?);
        let (insert_mode, key_mode) = match self {
            Self::Insert => ("insert", "none"),
            Self::Upsert => ("upsert", "record_key"),
        };
        Ok(json!({
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "tasks.max": tasks.to_string(),
            "topics": TOPIC,
            // One statement for many rows, in place of one for each.
            "connection.url": format!("jdbc:postgresql://{host}:{port}{}?reWriteBatchedInserts=true", url.path()),
            "connection.username": url.username(),
            "connection.password": url.password().unwrap_or_default(),
            "collection.name.format": "sunk",
            "schema.evolution": "basic",
            "insert.mode": insert_mode,
            "primary.key.mode": key_mode,
            "use.reduction.buffer": matches!(self, Self::Upsert).to_string(),
            "batch.size": "5000",
            "consumer.override.max.poll.records": "5000",
            "consumer.override.fetch.min.bytes": "1048576",
            "consumer.override.fetch.max.wait.ms": "100",
            "consumer.override.max.partition.fetch.bytes": "8388608",
            "consumer.override.auto.offset.reset": "earliest",
        }))
    }
}
