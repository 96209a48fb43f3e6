//! How long a source stands still when the daemon is killed and started again at once: from `kill -9` to the next row that is
//! committed in staging. A real broker, and a Postgres that waits for the disk; both are processes of their own.
//!
//! RUNS times (10), on PARTITIONS partitions (6). Each time ROWS events (100) wait that came while nobody read.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use c360_tests::bench::{Shape, cluster, database, median, number, produce, rows, runs};
use c360_tests::program::{self, Installation, Running};
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use sqlx::PgConnection;

const CONFIGURATION: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../c360.toml"));
const LOG: &str = "c360.log";
/// Seconds.
const GOAL: f64 = 1.5;
const PATIENCE: Duration = Duration::from_mins(2);
const NOWHERE: &str = "http://127.0.0.1:1";

#[tokio::main]
async fn main() -> Result<()> {
    let (rows, runs, partitions) = (rows(100), runs(10), number("PARTITIONS", 6));
    program::c360()?;
    let broker = Broker::start().await?;
    broker.create_topic(CUSTOMERS_TOPIC, u16::try_from(partitions)?).await?;
    let cluster = cluster()?;
    let (_, mut connection) = database(&cluster, "restarted").await?;
    let installation = Installation::new(CONFIGURATION)?
        .with("C360__DATABASE__URL", &cluster.url_for("restarted"))
        .with("C360__SOURCES__HOME_DELIVERY__BROKERS", &broker.bootstrap())
        .with("C360__SOURCES__ONLINE_STORE__BASE_URL", NOWHERE);
    std::fs::create_dir_all(installation.path().join("drop/loyalty"))?;

    let more = || produce(&broker.bootstrap(), CUSTOMERS_TOPIC, rows, partitions, Shape::Envelopes);
    more()?;
    let mut daemon = start(&installation)?;
    let mut expected = i64::try_from(rows)?;
    landed(&mut connection, expected).await.with_context(|| log(&installation))?;
    let mut figures = Vec::new();
    for run in 0..runs {
        let began = Instant::now();
        daemon.kill()?;
        let writing = Instant::now();
        more()?;
        let wrote = writing.elapsed();
        daemon = start(&installation)?;
        landed(&mut connection, expected + 1).await.with_context(|| log(&installation))?;
        // What waits was written by this benchmark, while the daemon could have been starting.
        figures.push(began.elapsed().saturating_sub(wrote).as_secs_f64());
        expected += i64::try_from(rows)?;
        landed(&mut connection, expected).await.with_context(|| log(&installation))?;
        println!("run {run}: {:.2} s", figures[run]);
    }
    let (code, _) = daemon.terminate()?;
    ensure!(code == Some(0), "the daemon ended with {code:?}\n{}", log(&installation));
    let most = figures.iter().copied().fold(0.0, f64::max);
    println!(
        "kill -9 to the next committed row, partitions: {partitions}: {:.2} s, at most {most:.2} s of {runs} times; goal \
         {GOAL} s, ratio {:.2}",
        median(&figures),
        median(&figures) / GOAL
    );
    Ok(())
}

fn start(installation: &Installation) -> Result<Running> {
    installation.start(&["run", "--no-http"], LOG)
}

/// Waits until at least so many events are landed.
async fn landed(connection: &mut PgConnection, expected: i64) -> Result<()> {
    let began = Instant::now();
    loop {
        let landed: i64 = sqlx::query_scalar("select coalesce(sum(next_offset), 0)::bigint from staging.kafka_offsets")
            .fetch_one(&mut *connection)
            .await?;
        if landed >= expected {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{landed} of {expected} events within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The end of what the daemon said.
fn log(installation: &Installation) -> String {
    let text = std::fs::read_to_string(installation.path().join(LOG)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
