//! Consolidating staged records into empty tables, once more with everything known, as a replay, with news of every tenth person,
//! and with news of everybody, beside bare SQL statements that write the same rows from the same staged records.
//!
//! ROWS records (1,000,000) of ROWS / 5 people: each has a home-delivery and a loyalty id with two records, and an
//! online-store id with one.

use anyhow::Result;
use c360_tests::bench::people::{Round, SYSTEMS, drain, people, stage};
use c360_tests::bench::{cluster, database, median, report, rows, runs, timed};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

/// What each round is called, whether somebody asked for it again, and every how many people it has news of one.
const ROUNDS: [(&str, bool, Option<u64>, &str); 5] = [
    ("consolidate into empty", false, None, "goal 0.85, at least 0.6"),
    ("consolidate again", false, None, "no goal"),
    ("consolidate a replay", true, None, "no goal"),
    ("consolidate, news of every tenth", false, Some(10), "no goal"),
    ("consolidate, news of everybody", false, Some(1), "goal 0.85"),
];

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(bench())
}

async fn bench() -> Result<()> {
    let (rows, runs) = (rows(1_000_000), runs(3));
    let cluster = cluster()?;
    let (mut ours, mut bare): ([Vec<f64>; ROUNDS.len()], [Vec<f64>; ROUNDS.len()]) = Default::default();
    for run in 0..runs {
        let (options, mut connection) = database(&cluster, &format!("ours_{run}")).await?;
        for (number, round) in (0..).zip(rounds(rows)) {
            stage(&options, &SYSTEMS, &round).await?;
            ours[number].push(timed(async || drain(&options).await).await?.0);
        }
        let profiles = written(&mut connection).await?;
        drop(connection);

        let (options, mut connection) = database(&cluster, &format!("bare_{run}")).await?;
        sqlx::raw_sql("create table customer360.changes_all partition of customer360.changes default")
            .execute(&mut connection)
            .await?;
        for (number, round) in (0..).zip(rounds(rows)) {
            bare[number].push(bare_sql(&options, &mut connection, &round).await?);
        }
        assert_eq!(profiles, written(&mut connection).await?, "both must write the same customers");
        let figures = ours.iter().zip(&bare).map(|(ours, bare)| format!("{:.2} s, bare {:.2} s", ours[run], bare[run]));
        println!("run {run}: {}", figures.collect::<Vec<_>>().join("; "));
    }
    for ((what, .., goal), (ours, bare)) in ROUNDS.iter().zip(ours.iter().zip(&bare)) {
        report(what, rows, ours, "bare SQL", bare, goal);
    }
    let faster = |round: usize| median(&ours[0]) / median(&ours[round]);
    println!("what comes twice: {:.1} times as fast as the first (at least 3); a replay: {:.1}", faster(1), faster(2));
    Ok(())
}

fn rounds(rows: usize) -> impl Iterator<Item = Round> {
    let round = move |(number, (_, is_again, news_every, _))| Round {
        number,
        people: 0..people(rows),
        step: 1,
        is_again,
        news_every,
    };
    (0..).zip(ROUNDS).map(round)
}

/// How many customers there are, and how long their profiles are together.
async fn written(connection: &mut PgConnection) -> Result<(i64, i64)> {
    let sql = "select count(*), coalesce(sum(length(profile::text)), 0)::bigint from customer360.customers";
    Ok(sqlx::query_as(sql).fetch_one(connection).await?)
}

/// The same rows by the shortest SQL that writes them; it reads what is staged, so that is this round alone.
async fn bare_sql(options: &PgConnectOptions, connection: &mut PgConnection, round: &Round) -> Result<f64> {
    sqlx::raw_sql("truncate staging.records, staging.batches").execute(&mut *connection).await?;
    stage(options, &SYSTEMS, round).await?;
    let (seconds, ()) = timed(async || {
        sqlx::raw_sql(include_str!("bare.sql")).execute(connection).await?;
        Ok(())
    })
    .await?;
    Ok(seconds)
}
