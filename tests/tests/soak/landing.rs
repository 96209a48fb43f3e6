//! I1 and I2 for Kafka: every message is in staging exactly once, as what it is, and progress is at the ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result, ensure};
use model::Position;
use sqlx::{PgPool, Row};

use crate::actions::Stretch;
use crate::ledger::{CUSTOMERS, Fate, Kind, Ledger};
use crate::topic::Logs;

/// A landing transaction.
#[derive(Debug, Default)]
struct Batch {
    topic: String,
    partition: i32,
    first: i64,
    last: i64,
    counts: [i64; 3],
    records: Vec<i64>,
    letters: Vec<i64>,
}

/// Compares what is staged with what lies on the broker; how many messages there are.
pub(crate) async fn compare(pool: &PgPool, logs: &Logs, ledger: &Ledger, replayed: &[Stretch]) -> Result<usize> {
    progress_is_at_the_ends(pool, logs).await?;
    let batches = batches(pool).await?;
    let mut landed: BTreeMap<(&str, i32, i64), usize> = BTreeMap::new();
    for (id, batch) in &batches {
        let log = logs.get(&(batch.topic.clone(), batch.partition)).context("a batch of a partition")?;
        let mut expected: [Vec<i64>; 3] = Default::default();
        for (offset, number) in log.messages.range(batch.first..=batch.last) {
            expected[ledger.0[*number].fate() as usize].push(*offset);
            *landed.entry((&batch.topic, batch.partition, *offset)).or_default() += 1;
        }
        let [records, letters, skips] = &expected;
        ensure!(records == &batch.records, "batch {id}: {batch:?} and not records {records:?}");
        ensure!(letters == &batch.letters, "batch {id}: {batch:?} and not letters {letters:?}");
        let counts = [records.len(), letters.len(), skips.len()].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        ensure!(counts == batch.counts, "batch {id}: {batch:?} and not counts {counts:?}");
    }
    let mut messages = 0;
    for ((topic, partition), log) in logs {
        for offset in log.messages.keys() {
            messages += 1;
            let times = landed.get(&(topic.as_str(), *partition, *offset)).copied().unwrap_or(0);
            let again = replayed.iter().filter(|stretch| {
                topic == CUSTOMERS && stretch.partition == *partition && stretch.offsets.contains(offset)
            });
            let (ended, begun) = again.fold((0, 0), |sum, stretch| (sum.0 + stretch.ended, sum.1 + stretch.begun));
            ensure!(
                (1 + ended..=1 + begun).contains(&times),
                "{topic}/{partition} at {offset} was landed {times} times, and {begun} replays have begun there"
            );
        }
    }
    letters_are_one_each(pool, logs, ledger).await?;
    Ok(messages)
}

async fn progress_is_at_the_ends(pool: &PgPool, logs: &Logs) -> Result<()> {
    let stored: Vec<(String, i32, i64)> =
        sqlx::query_as("select topic, partition, next_offset from staging.kafka_offsets").fetch_all(pool).await?;
    let stored: BTreeMap<(String, i32), i64> =
        stored.into_iter().map(|(topic, of, next)| ((topic, of), next)).collect();
    for (partition, log) in logs {
        let next = stored.get(partition).copied().unwrap_or(0);
        ensure!(next == log.end, "{partition:?} ends at {}, and {next} is stored", log.end);
    }
    Ok(())
}

/// Batches of messages, with the offsets of what is in them.
async fn batches(pool: &PgPool) -> Result<HashMap<i64, Batch>> {
    let rows = sqlx::query(
        "select batch_id, origin ->> 'topic', (origin ->> 'partition')::integer, (origin ->> 'first_offset')::bigint,
                (origin ->> 'last_offset')::bigint, record_count::bigint, dead_letter_count::bigint,
                skipped_count::bigint
         from staging.batches
         where source = 'home_delivery' and origin ? 'topic'",
    );
    let rows = rows.fetch_all(pool).await?;
    let batch = |row: &sqlx::postgres::PgRow| Batch {
        topic: row.get(1),
        partition: row.get(2),
        first: row.get(3),
        last: row.get(4),
        counts: [row.get(5), row.get(6), row.get(7)],
        ..Batch::default()
    };
    let mut batches: HashMap<i64, Batch> = rows.iter().map(|row| (row.get(0), batch(row))).collect();
    let records: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select batch_id, position from staging.records where source = 'home_delivery'")
            .fetch_all(pool)
            .await?;
    for (id, position) in records {
        let (_, _, offset) = Position::from(position).as_kafka().context("a position of Kafka")?;
        // What is retried has a batch of its own.
        if let Some(batch) = batches.get_mut(&id) {
            batch.records.push(offset);
        }
    }
    let letters: Vec<(i64, i64)> = sqlx::query_as(
        "select batch_id, (origin ->> 'offset')::bigint from staging.dead_letters
         where source = 'home_delivery' and batch_id is not null",
    )
    .fetch_all(pool)
    .await?;
    for (id, offset) in letters {
        batches.get_mut(&id).context("a letter of a batch")?.letters.push(offset);
    }
    for batch in batches.values_mut() {
        batch.records.sort_unstable();
        batch.letters.sort_unstable();
    }
    Ok(batches)
}

/// What cannot be read is parked once, however often it was landed; what could be read in the end is parked no more, and
/// has a record.
async fn letters_are_one_each(pool: &PgPool, logs: &Logs, ledger: &Ledger) -> Result<()> {
    let parked: Vec<(String, i32, i64)> = sqlx::query_as(
        "select origin ->> 'topic', (origin ->> 'partition')::integer, (origin ->> 'offset')::bigint
         from staging.dead_letters where source = 'home_delivery' and state = 'parked' order by 1, 2, 3",
    )
    .fetch_all(pool)
    .await?;
    let mut expected = Vec::new();
    let mut deep = BTreeSet::new();
    for ((topic, partition), log) in logs {
        for (offset, number) in &log.messages {
            let entry = &ledger.0[*number];
            match entry.kind {
                Kind::Poison => expected.push((topic.clone(), *partition, *offset)),
                Kind::Customer { id, .. } if entry.fate() == Fate::Letter => {
                    deep.insert((id, entry.log.context("a place")?.1, *offset));
                }
                _ => {}
            }
        }
    }
    ensure!(parked == expected, "parked are {parked:?} and not {expected:?}");
    let retried: Vec<(String, Vec<u8>)> = sqlx::query_as(
        "select external_id, position from staging.records r join staging.batches b using (batch_id)
         where b.source = 'home_delivery' and not b.origin ? 'topic'",
    )
    .fetch_all(pool)
    .await?;
    let mut found = BTreeSet::new();
    for (id, position) in retried {
        let (_, log, offset) = Position::from(position).as_kafka().context("a position of Kafka")?;
        found.insert((id.parse()?, log.pos, offset));
    }
    ensure!(found == deep, "retried are {found:?} and not {deep:?}");
    Ok(())
}
