//! Expiry: partitions that are past and done with, and nothing else.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use embedded_postgres::test::until_waiting;
use sqlx::Row;
use staging::imports::{self, File};
use staging::{Batch, Checkpoint, Expired, Landing, expire};

use crate::support::{DAY, HOUR, SOURCE, Staged, TTL, advance, batch, dead_letter, noon, origin, record, staged};

async fn expired(staged: &Staged, now: DateTime<Utc>) -> Expired {
    expire(&mut staged.connection().await, now).await.unwrap()
}

fn dropped(dropped: usize, held_back: usize, locked: usize) -> Expired {
    Expired { dropped, held_back, locked }
}

#[tokio::test]
async fn invariant_6_expiry_never_drops_what_is_not_consolidated() {
    let staged = staged().await;
    let done = staged.land(0, 2, HOUR, noon()).await;
    let not_done = staged.land(2, 3, HOUR, noon()).await;
    let later = staged.land(5, 1, HOUR * 4, noon()).await;
    staged.finish(&[done, later], noon()).await;

    assert_eq!(expired(&staged, noon() + HOUR * 20).await, dropped(3, 1, 0));
    assert_eq!(staged.count("records").await, 5);
    assert_eq!(staging::read(&staged.pool, &[not_done]).await.unwrap().len(), 3);

    staged.finish(&[not_done], noon()).await;
    assert_eq!(expired(&staged, noon() + HOUR * 20).await, dropped(1, 0, 0));
    assert_eq!(staged.count("records").await, 0);
}

#[tokio::test]
async fn a_partition_goes_when_it_is_wholly_past_and_not_before() {
    let staged = staged().await;
    let batch_id = staged.land(0, 1, HOUR, noon() + TimeDelta::seconds(1)).await;
    staged.finish(&[batch_id], noon()).await;
    let end = noon() + HOUR * 2;
    assert_eq!(expired(&staged, end - TimeDelta::seconds(1)).await, dropped(0, 0, 0));
    assert_eq!(staged.count("records").await, 1);
    assert_eq!(expired(&staged, end).await, dropped(1, 0, 0));
}

#[tokio::test]
async fn abandoned_batches_and_parked_dead_letters_hold_nothing_back() {
    let staged = staged().await;
    let mut batch = Batch::new(SOURCE, HOUR);
    batch.push(&record(0));
    batch.push_dead_letter(dead_letter(1, b"["));
    staged.lander().land(&mut batch, &origin(0), &advance(None, 2), noon()).await.unwrap();
    staged.run("update staging.batches set abandoned_at = landed_at").await;
    assert_eq!(expired(&staged, noon() + HOUR * 3).await, dropped(2, 0, 0));
    assert_eq!(staged.count("dead_letters").await, 1);
}

/// The last batch of a full export looks back at the ids of all its rows.
#[tokio::test]
async fn a_file_that_is_not_consolidated_as_a_whole_keeps_all_of_its_rows_and_batches() {
    let staged = staged().await;
    let file = File {
        directory: "drop".to_owned(),
        source: SOURCE.to_owned(),
        file_name: "members.csv".to_owned(),
        as_of: noon(),
        mtime: noon(),
        dated: false,
        full_export: true,
        sha256: "00".to_owned(),
    };
    let import_id = imports::begin(&staged.pool, &file, noon()).await.unwrap();
    let mut lander = staged.lander();
    for (part, hours) in [(0, 0), (1, 5)] {
        let checkpoint = Checkpoint::Csv { import_id, rows_before: part, rows: 1 };
        let now = noon() + TimeDelta::hours(hours);
        lander.land(&mut batch(part, 1, HOUR), &origin(part), &checkpoint, now).await.unwrap();
    }
    imports::publish(&mut staged.connection().await, import_id, 2, HOUR, noon()).await.unwrap();
    let claimed = staged.claimed(10).await;
    staged.finish(&claimed[..1], noon()).await;

    // Of four partitions two were only made ahead.
    assert_eq!(expired(&staged, noon() + DAY * 9).await, dropped(2, 2, 0));
    assert_eq!((staged.count("records").await, staged.count("batches").await), (2, 2));
    let mut transaction = staged.pool.begin().await.unwrap();
    staging::note_members(&mut transaction, import_id).await.unwrap();
    let members: i64 =
        sqlx::query_scalar("select count(*) from export_members").fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(members, 2);
    transaction.rollback().await.unwrap();

    staged.finish(&claimed[1..], noon()).await;
    assert_eq!(expired(&staged, noon() + DAY * 9).await, dropped(2, 0, 0));
}

#[tokio::test]
async fn batches_stay_a_day_longer_than_their_records_and_become_daily_counts() {
    let staged = staged().await;
    let mut offset = 0;
    for (day, records) in [(0, 3), (0, 4), (1, 5)] {
        let stored = (offset > 0).then_some(offset);
        let mut batch = batch(offset, records, HOUR);
        batch.push_dead_letter(dead_letter(offset, b"["));
        batch.skip();
        batch.skip();
        let now = noon() + TimeDelta::days(day);
        offset += records;
        staged.lander().land(&mut batch, &origin(offset), &advance(stored, offset), now).await.unwrap();
    }
    let claimed = staged.claimed(100).await;
    staged.finish(&claimed, noon()).await;
    let counts = async || {
        let rows = sqlx::query(
            "select day::text, batch_count, record_count, dead_letter_count, skipped_count
             from staging.daily_counts where source = $1 order by day",
        )
        .bind(SOURCE)
        .fetch_all(&staged.pool)
        .await
        .unwrap();
        let numbers = |row: &sqlx::postgres::PgRow| (1..5).map(|column| row.get(column)).collect::<Vec<i64>>();
        rows.iter().map(|row| (row.get::<String, _>(0), numbers(row))).collect::<Vec<_>>()
    };

    expired(&staged, noon() + HOUR * 3).await;
    assert_eq!((staged.count("batches").await, counts().await), (3, vec![]), "the records are gone, the batches not");
    expired(&staged, noon() + HOUR * 26).await;
    let first_day = ("2026-03-01".to_owned(), vec![2, 7, 2, 4]);
    assert_eq!((staged.count("batches").await, counts().await), (1, vec![first_day.clone()]));
    expired(&staged, noon() + DAY * 4).await;
    let second_day = ("2026-03-02".to_owned(), vec![1, 5, 1, 2]);
    assert_eq!((staged.count("batches").await, counts().await), (0, vec![first_day, second_day.clone()]));

    // More of a day that is counted already.
    let late = staged.land(offset, 10, HOUR, noon() + DAY).await;
    staged.finish(&[late], noon()).await;
    expired(&staged, noon() + DAY * 4).await;
    assert_eq!(counts().await[1], (second_day.0, vec![2, 15, 1, 2]));
}

#[tokio::test]
async fn batches_of_a_partition_that_stays_stay_too() {
    let staged = staged().await;
    let done = staged.land(0, 1, HOUR, noon()).await;
    let not_done = staged.land(1, 1, HOUR, noon()).await;
    staged.finish(&[done], noon()).await;
    assert_eq!(expired(&staged, noon() + DAY * 9).await, dropped(1, 1, 0));
    assert_eq!(staged.count("batches").await, 2);
    staged.finish(&[not_done], noon() + DAY * 9).await;
    expired(&staged, noon() + DAY * 9).await;
    assert_eq!(staged.count("batches").await, 1, "what was consolidated just now can be looked at for a day");
    expired(&staged, noon() + DAY * 11).await;
    assert_eq!(staged.count("batches").await, 0);
}

#[tokio::test]
async fn an_analysts_open_transaction_holds_expiry_up_for_two_seconds_and_landing_not_for_good() {
    let staged = staged().await;
    for part in 0..5 {
        let batch_id = staged.land(part, 1, HOUR, noon() + HOUR * u32::try_from(part).unwrap() * 3).await;
        staged.finish(&[batch_id], noon()).await;
    }
    let mut analyst = staged.pool.begin().await.unwrap();
    sqlx::query("select count(*) from staging.records").execute(&mut *analyst).await.unwrap();
    let since = Instant::now();
    let (held_up, _) = tokio::join!(expired(&staged, noon() + DAY), staged.land(5, 1, TTL, noon() + DAY));
    assert_eq!(held_up, dropped(0, 0, 10));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    analyst.rollback().await.unwrap();
    assert_eq!(expired(&staged, noon() + DAY).await, dropped(10, 0, 0));
    assert_eq!(staged.count("records").await, 1);
}

/// A landing that takes long, or whose clock is slow, commits into a partition that is past already.
#[tokio::test]
async fn a_batch_that_is_still_landing_into_a_past_partition_holds_it_back() {
    let staged = staged().await;
    let mut lander = staged.lander();
    // Held up behind its copy: a share lock lets nobody write dead letters.
    let mut rival = staged.pool.begin().await.unwrap();
    sqlx::query("lock table staging.dead_letters in share mode").execute(&mut *rival).await.unwrap();
    let mut slow = batch(0, 3, HOUR);
    slow.push_dead_letter(dead_letter(3, b"["));
    let (origin, checkpoint) = (origin(0), advance(None, 4));
    let let_go = async {
        until_waiting(&staged.pool, 2).await;
        rival.rollback().await.unwrap();
    };
    let expiring = async {
        until_waiting(&staged.pool, 1).await;
        expired(&staged, noon() + DAY).await
    };
    let (landing, expired, ()) = tokio::join!(lander.land(&mut slow, &origin, &checkpoint, noon()), expiring, let_go);
    assert!(matches!(landing.unwrap(), Landing::Landed { .. }));
    assert_eq!((expired.held_back, expired.locked), (1, 0), "{expired:?}");
    assert_eq!(staging::read(&staged.pool, &staged.claimed(10).await).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_landing_whose_partition_is_dropped_before_its_copy_makes_it_again() {
    let staged = staged().await;
    let first = staged.land(0, 1, HOUR, noon()).await;
    staged.finish(&[first], noon()).await;
    let mut lander = staged.lander();
    let mut rival = staged.pool.begin().await.unwrap();
    sqlx::query("select from staging.kafka_offsets for update").execute(&mut *rival).await.unwrap();
    let (mut batch, origin, checkpoint) = (batch(1, 3, HOUR), origin(1), advance(Some(1), 4));
    let expiring = async {
        until_waiting(&staged.pool, 1).await;
        assert_eq!(expired(&staged, noon() + DAY).await, dropped(2, 0, 0));
        rival.rollback().await.unwrap();
    };
    let (landing, ()) = tokio::join!(lander.land(&mut batch, &origin, &checkpoint, noon()), expiring);
    assert!(matches!(landing.unwrap(), Landing::Landed { .. }));
    assert_eq!(staged.count("records").await, 3);
}
