//! Consolidating staged records, into empty tables and again with everything known, beside bare SQL statements that write
//! the same rows from the same staged records.
//!
//! ROWS records (1,000,000) of ROWS / 5 people: each has a home-delivery and a loyalty id with two records, and an
//! online-store id with one.

use std::time::Duration;

use anyhow::Result;
use c360_tests::bench::{cluster, database, report, rows, runs, timed};
use chrono::{DateTime, Utc};
use consolidate::Consolidator;
use model::{
    Entity, ExternalId, Guards, InstallationKey, LogPosition, Mapped, Operation, Position, Record, Survivorship,
};
use serde_json::json;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use staging::{Batch, Checkpoint, Lander, Seal};
use tokio_util::sync::CancellationToken;

const TTL: Duration = Duration::from_hours(7 * 24);
const SYSTEMS: [(&str, u64); 3] = [("home_delivery", 2), ("loyalty", 2), ("online_store", 1)];

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(bench())
}

async fn bench() -> Result<()> {
    let (rows, runs) = (rows(1_000_000), runs(3));
    let cluster = cluster()?;
    let (mut ours, mut bare, mut ours_again, mut bare_again) = (vec![], vec![], vec![], vec![]);
    for run in 0..runs {
        let (options, mut connection) = database(&cluster, &format!("ours_{run}")).await?;
        stage(&options, rows, 0).await?;
        ours.push(timed(async || drain(&options).await).await?.0);
        stage(&options, rows, 1).await?;
        ours_again.push(timed(async || drain(&options).await).await?.0);
        let profiles: i64 =
            sqlx::query_scalar("select count(*) from customer360.customers").fetch_one(&mut connection).await?;
        drop(connection);

        let (options, mut connection) = database(&cluster, &format!("bare_{run}")).await?;
        sqlx::raw_sql("create table customer360.changes_all partition of customer360.changes default")
            .execute(&mut connection)
            .await?;
        stage(&options, rows, 0).await?;
        bare.push(timed(async || bare_sql(&mut connection).await).await?.0);
        bare_again.push(timed(async || bare_sql(&mut connection).await).await?.0);
        let expected: i64 =
            sqlx::query_scalar("select count(*) from customer360.customers").fetch_one(&mut connection).await?;
        assert_eq!(profiles, expected, "both must write the same customers");
        println!(
            "run {run}: ours {:.2} s, bare {:.2} s; again: ours {:.2} s, bare {:.2} s",
            ours[run], bare[run], ours_again[run], bare_again[run]
        );
    }
    let speed_up = c360_tests::bench::median(&ours) / c360_tests::bench::median(&ours_again);
    report("consolidate into empty", rows, &ours, "bare SQL", &bare, "goal 0.85, at least 0.6");
    report("consolidate again", rows, &ours_again, "bare SQL", &bare_again, "no goal");
    println!("a replay in which nothing changed: {speed_up:.1} times as fast as the first (at least 3)");
    Ok(())
}

/// Lands the records, the second time as another set of batches with the same positions.
async fn stage(options: &PgConnectOptions, rows: usize, round: i64) -> Result<()> {
    let seal = Seal::new(&InstallationKey::new([1; 32]));
    let mut lander = Lander::new(options.clone(), seal, staging::DEFAULT_PARTITION_WIDTH);
    let now = Utc::now();
    let people = rows as u64 / SYSTEMS.iter().map(|(_, records)| records).sum::<u64>();
    for (system, versions) in SYSTEMS {
        let mut batch = Batch::new(system, TTL);
        let mut stored = round * 1_000_000_000;
        let mut covered = stored;
        for version in 0..versions {
            for person in 0..people {
                batch.push(&record(system, person, version, now));
                covered += 1;
                if batch.is_full() || (version, person) == (versions - 1, people - 1) {
                    let advance = staging::offsets::Advance {
                        progress: staging::offsets::Progress::Source,
                        epoch: 0,
                        topic: format!("t{round}"),
                        partition: 0,
                        expected: (stored != round * 1_000_000_000).then_some(stored),
                        next_offset: covered,
                        last_seen: None,
                    };
                    lander.land(&mut batch, &json!({}), &Checkpoint::Kafka(advance), now).await?;
                    batch = Batch::new(system, TTL);
                    stored = covered;
                }
            }
        }
    }
    Ok(())
}

fn record(system: &str, person: u64, version: u64, now: DateTime<Utc>) -> Record {
    let email = format!("person.{person}@example.com");
    let attributes = match system {
        "home_delivery" => json!({
            "name": format!("Person Number{person}"), "address1": format!("{} Sporer Curve", person % 997),
            "address2": "Suite 528", "city": "West Evertchester", "state": "NH", "zipcode": "04006",
            "phone": format!("811.128.{:04} x{version}", person % 10_000)}),
        "loyalty" => json!({
            "firstName": "Person", "lastName": format!("Number{person}"), "name": format!("Person Number{person}"),
            "loyaltyPoints": (person % 500 + version).to_string()}),
        _ => json!({ "name": format!("P. Number{person}") }),
    };
    let log = LogPosition { file: 1, pos: person * 10 + version, streamed: true, row: 0 };
    Record {
        operation: Operation::Upsert,
        mapped: Mapped {
            entity: Entity::Customer,
            external_id: ExternalId::from_parts((person + 1).to_string(), system != "loyalty"),
            email: Some(email),
            credential: Some(format!("{person:064x}")),
            attributes: attributes.to_string(),
        },
        position: Position::kafka(0, log, 0),
        observed_at: now,
        moved_to: None,
        payload: Some(json!({"before": null, "after": attributes, "op": "u"}).to_string()),
    }
}

async fn drain(database: &PgConnectOptions) -> Result<()> {
    let rules = consolidate::Rules {
        survivorship: Survivorship {
            prefer: ["home_delivery", "online_store", "loyalty"].map(str::to_owned).to_vec(),
            groups: vec![["address1", "address2", "city", "state", "zipcode"].map(str::to_owned).to_vec()],
            attributes: [("loyaltyPoints".to_owned(), vec!["loyalty".to_owned()])].into(),
        },
        guards: Guards::new(&["n/a", "none", "test@*"], 10)?,
        polled_sources: vec![],
    };
    let seal = Seal::new(&InstallationKey::new([1; 32]));
    let mut consolidator = Consolidator::connect(database).await?;
    while !consolidator.try_begin().await? {}
    consolidator.drain(&rules, &seal, &CancellationToken::new()).await?;
    Ok(())
}

/// The same rows by the shortest SQL that writes them.
async fn bare_sql(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(include_str!("bare.sql")).execute(connection).await?;
    Ok(())
}
