//! Resident memory of the whole daemon while it drains a backlog: the reference configuration with the API, a real broker,
//! the sample store, and a Postgres that waits for the disk. All of them are processes of their own and not counted.
//!
//! ROWS events (1,000,000), each of a customer of its own, RUNS times (1). The memory is looked at from the start of the
//! daemon until every event is landed and consolidated.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use c360_tests::bench::{Shape, Watch, cluster, database, produce, rate, rows, runs};
use c360_tests::program::{self, Installation, Running};
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use embedded_postgres::Cluster;
use sqlx::PgConnection;

const CONFIGURATION: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../c360.toml"));
const STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/online_store.json");
const LOG: &str = "c360.log";
/// Bytes; the limit that the memory is set beside.
const LIMIT: u64 = 150_000_000;
/// The longest time without any progress.
const PATIENCE: Duration = Duration::from_mins(10);

#[tokio::main]
async fn main() -> Result<()> {
    let (rows, runs) = (rows(1_000_000), runs(1));
    program::c360()?;
    let broker = Broker::start().await?;
    broker.create_topic(CUSTOMERS_TOPIC, 1).await?;
    produce(&broker.bootstrap(), CUSTOMERS_TOPIC, rows, 1, Shape::Envelopes)?;
    let home = Installation::new("")?;
    let (_store, store) = store(&home)?;
    let cluster = cluster()?;
    for run in 0..runs {
        drain(&broker, &store, &cluster, &format!("run_{run}"), rows).await?;
    }
    Ok(())
}

/// Drains the backlog into a new database, and prints what it took.
async fn drain(broker: &Broker, store: &str, cluster: &Cluster, name: &str, rows: usize) -> Result<()> {
    let (_, mut connection) = database(cluster, name).await?;
    let installation = Installation::new(CONFIGURATION)?
        .with("C360__DATABASE__URL", &cluster.url_for(name))
        .with("C360__HTTP__LISTEN", "127.0.0.1:0")
        .with("C360__SOURCES__HOME_DELIVERY__BROKERS", &broker.bootstrap())
        .with("C360__SOURCES__ONLINE_STORE__BASE_URL", store);
    std::fs::create_dir_all(installation.path().join("drop/loyalty"))?;

    let mut daemon = installation.start(&["run"], LOG)?;
    let watch = Watch::begin(daemon.id());
    let done = drained(&mut connection, &mut daemon, rows).await;
    let (landed, consolidated) = done.with_context(|| log(&installation))?;
    let resident = watch.end()?;

    let customers: i64 =
        sqlx::query_scalar("select count(*) from customer360.customers").fetch_one(&mut connection).await?;
    ensure!(usize::try_from(customers)? == rows, "{customers} customers of {rows} events");
    let (code, _) = daemon.terminate()?;
    ensure!(code == Some(0), "the daemon ended with {code:?}\n{}", log(&installation));
    println!("{name}: {resident}; limit {} MB, ratio {:.2}", LIMIT / 1_000_000, share(resident.most()));
    println!(
        "{name}: {rows} events landed after {landed:.1} s ({:.0} rows/s), landed and consolidated after {consolidated:.1} s \
         ({:.0} rows/s)",
        rate(rows, landed),
        rate(rows, consolidated)
    );
    Ok(())
}

/// Waits until every event is landed and consolidated; the seconds until the one and the other.
async fn drained(connection: &mut PgConnection, daemon: &mut Running, rows: usize) -> Result<(f64, f64)> {
    let (began, rows) = (Instant::now(), i64::try_from(rows)?);
    let (mut landed, mut before, mut moved) = (None, None, began);
    loop {
        // Step 1 marks keys in the transaction that ends a batch, so nothing is between the two.
        let progress: (i64, i64, bool) = sqlx::query_as(
            "select (select coalesce(sum(next_offset), 0)::bigint from staging.kafka_offsets),
                    (select count(*) from staging.batches where consolidated_at is null and abandoned_at is null),
                    exists (select from customer360.dirty_marks)",
        )
        .fetch_one(&mut *connection)
        .await?;
        let seconds = began.elapsed().as_secs_f64();
        if progress.0 == rows {
            let landed = *landed.get_or_insert(seconds);
            if (progress.1, progress.2) == (0, false) {
                return Ok((landed, seconds));
            }
        }
        if before.replace(progress) != Some(progress) {
            moved = Instant::now();
        }
        ensure!(moved.elapsed() < PATIENCE, "nothing moved within {PATIENCE:?}: {progress:?}");
        ensure!(daemon.is_running(), "the daemon has ended");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Starts the sample store; where it is.
fn store(home: &Installation) -> Result<(Running, String)> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let running = home.start(&["sample-store", "--listen", &address, "--data", STORE], "store.log")?;
    Ok((running, format!("http://{address}")))
}

/// The end of what the daemon said.
fn log(installation: &Installation) -> String {
    let text = std::fs::read_to_string(installation.path().join(LOG)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^53")]
fn share(most: u64) -> f64 {
    most as f64 / LIMIT as f64
}
