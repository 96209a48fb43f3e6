//! Coming to rest: nothing is sent any more, everything is landed and merged, and then it is looked at.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use embedded_postgres::test::{eventually, until};
use sqlx::PgPool;
use tokio::task::block_in_place;

use crate::actions::Stage;
use crate::world::{PROCESSES, STORE_CUSTOMERS, World};
use crate::{files, golden, landing, model, topic};

/// What a killed process was asking the store is asked again when its lease is over, after two minutes.
const PATIENCE: Duration = Duration::from_secs(150);
/// More than this no process may ever have resident.
const MOST_MEMORY: u64 = 150 << 20;
/// What is in every value that is somebody's, and in no word of ours.
const PERSONAL: [&str; 4] = ["canary", "Canary", "soak.example", "Soak.Example"];

/// Waits until the first customers are there.
pub(crate) async fn until_something_is_merged(pool: &PgPool) {
    until(pool, "select least(count(*), 1) from customer360.customers", 1).await;
}

/// That all processes run: whatever happened, none of them has ended.
pub(crate) fn all_run(world: &mut World) -> Result<()> {
    for process in 0..PROCESSES {
        let runs = world.processes[process].as_mut().is_some_and(c360_tests::program::Running::is_running);
        ensure!(runs, "c360 number {process} has ended:\n{}", tail(world, &format!("c360-{process}.log")));
    }
    Ok(())
}

pub(crate) async fn settle_and_compare(mut stage: Stage, note: &mut impl FnMut(String)) -> Result<()> {
    stage.nights.next(&stage.world.drop_directory())?;
    let ledger = stage.feed.stop().await?;
    let world = &mut stage.world;
    let bootstrap = world.broker.bootstrap();
    let logs = block_in_place(|| topic::read(&bootstrap, &ledger))?;
    note(format!("{} messages were sent", ledger.0.len()));
    settle(&world.pool, &logs, &stage.nights.dropped.last().context("a night")?.file).await?;
    note("at rest".to_owned());
    crate::actions::retry(world, 128).await?;
    settle(&world.pool, &logs, &stage.nights.dropped.last().context("a night")?.file).await?;
    all_run(world)?;
    eventually("the process that serves is ready", async || world.is_ready().await == Some(true)).await;

    let messages = landing::compare(&world.pool, &logs, &ledger, &stage.replayed).await.context("I1, I2")?;
    let imports = files::compare(&world.pool, &stage.nights).await.context("I1 of files")?;
    let (xrefs, orders) = model::living(&logs, &ledger, stage.nights.members());
    let story = |customer: &str| topic::story(&logs, &ledger, customer);
    let (customers, orders) = golden::compare(&world.pool, &xrefs, &orders, story).await.context("I3, I4, I5")?;
    note(format!("{messages} messages, {imports} files, {customers} customers and {orders} orders are right"));

    for process in 0..PROCESSES {
        let memory = world.process(process)?.peak_memory()?;
        note(format!("c360 number {process} had {} MiB at most", memory >> 20));
        ensure!(memory < MOST_MEMORY, "c360 number {process} had {} MiB resident", memory >> 20);
        world.terminate(process).with_context(|| format!("c360 number {process}"))?;
    }
    nothing_is_said_that_must_not_be(world)
}

/// Waits until all is landed and merged, and the store has been asked about those whom it knows.
async fn settle(pool: &PgPool, logs: &topic::Logs, newest_file: &str) -> Result<()> {
    let ends: i64 = logs.values().map(|log| log.end).sum();
    let waiting = async || -> Result<Vec<(&str, i64)>> {
        let (landed, files, batches, marks, polls): (i64, i64, i64, i64, i64) = sqlx::query_as(
            "select (select coalesce(sum(next_offset), 0)::bigint from staging.kafka_offsets),
                    (select count(*) from staging.csv_imports where file_name = $1 and state = 'imported'),
                    (select count(*) from staging.batches
                     where consolidated_at is null and abandoned_at is null and published_at is not null),
                    (select count(*) from customer360.dirty_marks),
                    $2 - (select count(*) from staging.polls where state = 'known')
                        + (select count(*) from staging.polled_products where checked_at is null)",
        )
        .bind(newest_file)
        .bind(i64::from(STORE_CUSTOMERS))
        .fetch_one(pool)
        .await?;
        let waiting = [
            ("messages", ends - landed),
            ("the last file", 1 - files),
            ("batches", batches),
            ("dirty marks", marks),
            ("customers of the store", polls),
        ];
        Ok(waiting.into_iter().filter(|(_, count)| *count != 0).collect())
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match waiting().await {
            Ok(waiting) if waiting.is_empty() => return Ok(()),
            Ok(waiting) if Instant::now() > deadline => bail!("still waiting after {PATIENCE:?}: {waiting:?}"),
            Err(error) if Instant::now() > deadline => return Err(error),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// I6 and I7: nobody has panicked, and no log has anything of anybody.
fn nothing_is_said_that_must_not_be(world: &World) -> Result<()> {
    for entry in std::fs::read_dir(&world.logs)? {
        let path = entry?.path();
        let log = std::fs::read_to_string(&path)?;
        for line in log.lines() {
            let told = PERSONAL.iter().find(|word| line.contains(*word));
            ensure!(told.is_none(), "{} says {told:?}: {line}", path.display());
            ensure!(!line.contains("panicked"), "{}: {line}", path.display());
        }
    }
    Ok(())
}

fn tail(world: &World, log: &str) -> String {
    let text = std::fs::read_to_string(world.logs.join(log)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
