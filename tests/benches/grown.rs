//! The same batch into a large base and into a small one: does consolidation stay as fast when customers have become many?
//!
//! ROWS records (100,000), news of as many people, into a base of that many people and into one of 20 times as many, taking
//! turns, RUNS times (3). Postgres has memory for the pages of the large base, and what filling them left to be written is
//! written.

use anyhow::Result;
use c360_tests::bench::people::{ONE_SYSTEM, Round, drain, stage};
use c360_tests::bench::{cluster_with, database, report, rows, runs, timed};
use sqlx::postgres::PgConnectOptions;

/// How many times as many people the large base has.
const TIMES: u64 = 20;

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(bench())
}

async fn bench() -> Result<()> {
    let (rows, runs) = (rows(100_000), runs(3));
    let people = rows as u64;
    let cluster = cluster_with("6GB")?;
    let mut bases = Vec::new();
    for (name, many) in [("small", people), ("large", people * TIMES)] {
        let (options, mut connection) = database(&cluster, name).await?;
        stage(&options, &ONE_SYSTEM, &Round::repeated(0, 0..many)).await?;
        drain(&options).await?;
        sqlx::raw_sql("vacuum analyze").execute(&mut connection).await?;
        println!("{name}: {many} people");
        bases.push(options);
    }
    sqlx::raw_sql("checkpoint").execute(&mut staging::connect(&bases[0]).await?).await?;
    let (mut small, mut large) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let number = u32::try_from(run + 1)?;
        small.push(news(&bases[0], number, people, 1).await?);
        large.push(news(&bases[1], number, people, TIMES).await?);
        println!("run {run}: {:.2} s into the small base, {:.2} s into the large one", small[run], large[run]);
    }
    report("the same batch into 20 times as many people", rows, &large, "into as many", &small, "goal 0.8");
    Ok(())
}

/// Seconds that consolidating news of so many people takes: from everywhere in the base, not from one end of its tables.
async fn news(options: &PgConnectOptions, number: u32, people: u64, times: u64) -> Result<f64> {
    let step = usize::try_from(times)?;
    let round = Round { number, people: 0..people * times, step, is_again: false, news_every: Some(1) };
    stage(options, &ONE_SYSTEM, &round).await?;
    Ok(timed(async || drain(options).await).await?.0)
}
