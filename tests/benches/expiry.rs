//! Expiry while somebody lands, beside dropping the same partitions bare while somebody lands.
//!
//! ROWS consolidated records (10,000,000) whose time is over, in partitions of an hour, RUNS times (1). The load is a lander
//! that never pauses. It also says how many dead rows expiry leaves behind in `staging.records`.

use std::time::Duration;

use anyhow::{Result, ensure};
use c360_tests::bench::people::{record, seal};
use c360_tests::bench::{cluster, database, rows, runs, timed};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use staging::offsets::{Advance, Progress};
use staging::{Batch, Checkpoint, Lander};
use tokio_util::sync::CancellationToken;

/// The records were landed in this many different hours.
const HOURS: i64 = 24;
const TTL: Duration = Duration::from_hours(1);

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(bench())
}

async fn bench() -> Result<()> {
    let (rows, runs) = (rows(10_000_000), runs(1));
    let cluster = cluster()?;
    for run in 0..runs {
        let (options, mut connection) = old(&cluster, &format!("bare_{run}"), rows).await?;
        let (bare, landed_beside_bare) = beside_a_load(&options, async || drop_bare(&mut connection).await).await?;
        let (options, mut connection) = old(&cluster, &format!("ours_{run}"), rows).await?;
        let (ours, landed) = beside_a_load(&options, async || expire(&mut connection).await).await?;
        let dead = dead_rows(&mut connection).await?;
        println!(
            "expiry of {rows} rows: {ours:.2} s, beside {landed:.0} rows/s landing; bare drop: {bare:.2} s, beside \
             {landed_beside_bare:.0} rows/s; {:.2} times as long (goal 2); {dead} dead rows (goal 0)",
            ours / bare
        );
    }
    Ok(())
}

/// A database with records whose time is over, and which are consolidated.
async fn old(
    cluster: &embedded_postgres::Cluster,
    name: &str,
    rows: usize,
) -> Result<(PgConnectOptions, PgConnection)> {
    let (options, mut connection) = database(cluster, name).await?;
    let now = Utc::now();
    for hour in 0..HOURS {
        let landed_at = now - TimeDelta::hours(hour + 3);
        land(&options, &format!("old {hour}"), rows / usize::try_from(HOURS)?, landed_at, None).await?;
    }
    sqlx::raw_sql("update staging.batches set consolidated_at = now()").execute(&mut connection).await?;
    sqlx::raw_sql("vacuum analyze staging.batches").execute(&mut connection).await?;
    Ok((options, connection))
}

/// Lands records as of a time, until there are so many, or until it is told to stop; returns how many.
async fn land(
    options: &PgConnectOptions,
    topic: &str,
    most: usize,
    now: DateTime<Utc>,
    cancel: Option<&CancellationToken>,
) -> Result<usize> {
    let mut lander = Lander::new(options.clone(), seal(), staging::DEFAULT_PARTITION_WIDTH);
    let (mut count, mut batch) = (0, Batch::new("home_delivery", TTL));
    let mut stored = None;
    while count < most && !cancel.is_some_and(CancellationToken::is_cancelled) {
        batch.push(&record("home_delivery", count as u64, 0, now));
        count += 1;
        if batch.is_full() || count == most {
            let next_offset = i64::try_from(count)?;
            let advance = Advance {
                progress: Progress::Source,
                epoch: 0,
                topic: topic.to_owned(),
                partition: 0,
                expected: stored.replace(next_offset),
                next_offset,
                last_seen: None,
                last_message: None,
            };
            lander.land(&mut batch, &json!({}), &Checkpoint::Kafka(advance), now).await?;
            batch = Batch::new("home_delivery", TTL);
        }
    }
    Ok(count)
}

/// Seconds that the work takes while somebody lands, and rows a second that are landed meanwhile.
async fn beside_a_load(options: &PgConnectOptions, work: impl AsyncFnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let cancel = CancellationToken::new();
    let (load, stop) = (options.clone(), cancel.clone());
    let load =
        tokio::spawn(
            async move { timed(async || land(&load, "new", usize::MAX, Utc::now(), Some(&stop)).await).await },
        );
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (seconds, ()) = timed(work).await?;
    cancel.cancel();
    let (landing, landed) = load.await??;
    Ok((seconds, c360_tests::bench::rate(landed, landing)))
}

async fn expire(connection: &mut PgConnection) -> Result<()> {
    let expired = staging::expire(connection, Utc::now()).await?;
    ensure!(expired.dropped >= usize::try_from(HOURS)?, "{expired:?}");
    Ok(())
}

/// What expiry comes down to: the statement alone, for each partition that is over.
async fn drop_bare(connection: &mut PgConnection) -> Result<()> {
    let over: Vec<String> = sqlx::query_scalar(
        "select format('drop table %s', inhrelid::regclass) from pg_inherits
         where inhparent = 'staging.records'::regclass
         order by inhrelid
         limit $1",
    )
    .bind(HOURS)
    .fetch_all(&mut *connection)
    .await?;
    for statement in over {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn dead_rows(connection: &mut PgConnection) -> Result<i64> {
    let sql = "select coalesce(sum(n_dead_tup), 0)::bigint from pg_stat_user_tables
               where schemaname = 'staging' and relname like 'records%'";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}
