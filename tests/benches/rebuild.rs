//! A rebuild that finds nothing to change, and one after direct damage to a tenth of the customers, beside a bare scan that
//! reads the same rows.
//!
//! ROWS cross-references (1,000,000) of ROWS / 3 people, whom three systems know, RUNS times (3).

use anyhow::{Result, ensure};
use c360_tests::bench::people::{Round, drain, rules, seal, stage};
use c360_tests::bench::{cluster, database, report, rows, runs, timed};
use chrono::Utc;
use consolidate::rebuild::{self, Changed};
use futures::TryStreamExt;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

/// One record each of everybody.
const SYSTEMS: [(&str, u64); 3] = [("home_delivery", 1), ("loyalty", 1), ("online_store", 1)];

/// What a rebuild looks at, each row once: cross-references, and the customers that they make.
const SCANS: [&str; 2] = [
    "select system, external_id, match_key, email, attributes::text, observed_at, customer_id, unmatched_reason
     from customer360.xrefs where deleted_at is null",
    "select customer_id, match_key, email, profile::text, provenance::text
     from customer360.customers where deleted_at is null",
];

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(bench())
}

async fn bench() -> Result<()> {
    let (rows, runs) = (rows(1_000_000), runs(3));
    let people = rows as u64 / SYSTEMS.len() as u64;
    let cluster = cluster()?;
    let (options, mut connection) = database(&cluster, "rebuild").await?;
    stage(&options, &SYSTEMS, &Round::repeated(0, 0..people)).await?;
    drain(&options).await?;
    let (mut scanned, mut consistent, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        sqlx::raw_sql("vacuum analyze").execute(&mut connection).await?;
        scanned.push(timed(async || scan(&mut connection).await).await?.0);
        let (seconds, changed) = timed(async || rebuild_all(&options, &mut connection).await).await?;
        ensure!(changed == Changed::default(), "nothing was to be changed: {changed:?}");
        consistent.push(seconds);
        let customers = damage(&mut connection).await?;
        let (seconds, changed) = timed(async || rebuild_all(&options, &mut connection).await).await?;
        ensure!(changed == Changed { changed: customers, ..Changed::default() }, "{customers} damaged: {changed:?}");
        damaged.push(seconds);
        println!(
            "run {run}: {:.2} s, after damage {:.2} s, bare scan {:.2} s",
            consistent[run], damaged[run], scanned[run]
        );
    }
    report("rebuild, nothing to change", rows, &consistent, "bare scan", &scanned, "no goal");
    report("rebuild, a tenth damaged", rows, &damaged, "bare scan", &scanned, "no goal");
    Ok(())
}

async fn rebuild_all(options: &PgConnectOptions, connection: &mut PgConnection) -> Result<Changed> {
    let rules = rules()?;
    let recorded = rebuild::record(connection, &rules, Utc::now()).await?;
    let (id, cancel) = (recorded.rebuild_id, CancellationToken::new());
    rebuild::carry_out(&rules, &seal(), options, id, &mut |_| {}, &cancel).await?;
    Ok(rebuild::changed(connection, id).await?)
}

async fn scan(connection: &mut PgConnection) -> Result<()> {
    for sql in SCANS {
        let mut rows = sqlx::query(sql).fetch(&mut *connection);
        while rows.try_next().await?.is_some() {}
    }
    Ok(())
}

/// Empties the profile of every tenth customer; returns how many that are.
async fn damage(connection: &mut PgConnection) -> Result<i64> {
    let damaged = sqlx::query(
        "update customer360.customers set profile = '{}', provenance = '{}' where hashtext(match_key) % 10 = 0",
    );
    Ok(i64::try_from(damaged.execute(connection).await?.rows_affected())?)
}
