//! Claiming: what the consolidator gets, in which order, and what it says about it.

use model::{Entity, ExternalId, Reason, Record};
use serde_json::{Value, json};
use sqlx::Row;
use staging::Batch;

use crate::support::{DAY, SOURCE, TOPIC, TTL, advance, noon, origin, record, seal, staged};

#[tokio::test]
async fn claims_the_oldest_first_whatever_clocks_said() {
    let staged = staged().await;
    let first = staged.land(0, 1, TTL, noon() + DAY).await;
    // By a host whose clock is behind.
    let second = staged.land(1, 1, TTL, noon()).await;
    let third = staged.land(2, 1, TTL, noon()).await;
    assert_eq!(staged.claimed(100).await, [first, second, third]);
}

#[tokio::test]
async fn claims_about_as_many_records_as_wanted_and_at_least_one_batch() {
    let staged = staged().await;
    let mut batches = Vec::new();
    for part in 0..4 {
        batches.push(staged.land(part * 10, 10, TTL, noon()).await);
    }
    assert_eq!(staged.claimed(1).await, batches[..1]);
    assert_eq!(staged.claimed(10).await, batches[..1]);
    assert_eq!(staged.claimed(11).await, batches[..2]);
    assert_eq!(staged.claimed(1_000).await, batches);
}

#[tokio::test]
async fn what_is_finished_or_abandoned_is_not_claimed() {
    let staged = staged().await;
    let first = staged.land(0, 1, TTL, noon()).await;
    let second = staged.land(1, 1, TTL, noon()).await;
    let third = staged.land(2, 1, TTL, noon()).await;
    staged.finish(&[first], noon() + DAY).await;
    staged.run(&format!("update staging.batches set abandoned_at = now() where batch_id = {second}")).await;
    assert_eq!(staged.claimed(100).await, [third]);
    let consolidated_at: Value =
        staged.ask(&format!("select to_jsonb(consolidated_at) from staging.batches where batch_id = {first}")).await;
    assert_eq!(consolidated_at, json!("2026-03-02T12:00:00+00:00"));
}

#[tokio::test]
async fn a_failed_batch_says_so_and_stays_claimable() {
    let staged = staged().await;
    let batch_id = staged.land(0, 1, TTL, noon()).await;
    staging::fail(&staged.pool, &[batch_id], "SQLSTATE 22003").await.unwrap();
    staging::fail(&staged.pool, &[batch_id], "SQLSTATE 22P02").await.unwrap();
    let claimed = staging::claim(&staged.pool, 10, &[]).await.unwrap();
    assert_eq!((claimed[0].batch_id, claimed[0].attempts), (batch_id, 2));
    assert_eq!(staged.ask::<String>("select last_error from staging.batches").await, "SQLSTATE 22P02");
    staged.finish(&[batch_id], noon()).await;
    assert_eq!(staged.ask::<Option<String>>("select last_error from staging.batches").await, None);
}

#[tokio::test]
async fn reads_records_back_as_they_were_landed() {
    let staged = staged().await;
    let order = Record {
        moved_to: Some(ExternalId::from_text("a\"b").unwrap()),
        payload: Some(r#"{"OrderId": 1,  "n": 1.10}"#.to_owned()),
        mapped: model::Mapped { entity: Entity::Order, email: Some(String::new()), ..record(1).mapped },
        ..record(1)
    };
    let mut batch = Batch::new(SOURCE, TTL);
    batch.push(&record(0));
    batch.push(&order);
    staged.lander().land(&mut batch, &origin(0), &advance(None, 2), noon()).await.unwrap();
    let batch_ids = staged.claimed(10).await;
    let records = staging::read(&staged.pool, &batch_ids).await.unwrap();
    for (read, landed) in records.iter().zip([record(0), order]) {
        assert_eq!((read.batch_id, read.source.as_str()), (batch_ids[0], SOURCE));
        assert_eq!((read.entity, read.operation), (landed.mapped.entity, landed.operation));
        assert_eq!(
            (&read.external_id, &read.email, &read.credential, &read.attributes),
            (&landed.mapped.external_id, &landed.mapped.email, &landed.mapped.credential, &landed.mapped.attributes)
        );
        assert_eq!((&read.position, read.observed_at), (&landed.position, landed.observed_at));
        assert_eq!(read.moved_to, landed.moved_to);
        // Customers are merged from their columns; their payload stays where it is.
        assert_eq!(read.payload, landed.payload.filter(|_| landed.mapped.entity == Entity::Order));
    }
    assert_eq!(records.len(), 2);
}

#[tokio::test]
async fn reads_batches_in_the_order_asked_and_records_in_the_order_landed() {
    let staged = staged().await;
    let first = staged.land(0, 3, TTL, noon()).await;
    // In another partition, before the one of the first.
    let second = staged.land(3, 2, TTL / 5, noon()).await;
    let read = async |batch_ids: &[i64]| {
        let records = staging::read(&staged.pool, batch_ids).await.unwrap();
        records.iter().map(|record| record.external_id.as_str().parse().unwrap()).collect::<Vec<i64>>()
    };
    assert_eq!(read(&[first, second]).await, [0, 1, 2, 3, 4]);
    assert_eq!(read(&[second, first]).await, [3, 4, 0, 1, 2]);
    assert_eq!(read(&[second]).await, [3, 4]);
    assert_eq!(read(&[]).await, Vec::<i64>::new());
}

#[tokio::test]
async fn invariant_9_an_excluded_record_leaves_its_neighbours_and_becomes_a_sealed_dead_letter() {
    let staged = staged().await;
    let batch_id = staged.land(0, 3, TTL, noon()).await;
    let records = staging::read(&staged.pool, &[batch_id]).await.unwrap();
    let mut connection = staged.connection().await;
    staging::exclude(&mut connection, &seal(), &records[1], "SQLSTATE 22003", noon()).await.unwrap();

    let left = staging::read(&staged.pool, &[batch_id]).await.unwrap();
    assert_eq!(left.iter().map(|record| record.ordinal).collect::<Vec<_>>(), [0, 2]);
    let counts = sqlx::query("select record_count, dead_letter_count, excluded from staging.batches")
        .fetch_one(&staged.pool)
        .await
        .unwrap();
    assert_eq!((counts.get::<i32, _>(0), counts.get::<i32, _>(1)), (2, 1));
    assert_eq!(counts.get::<Vec<i32>, _>(2), [1]);

    let letter = sqlx::query("select reason, detail, external_id, origin, payload from staging.dead_letters")
        .fetch_one(&staged.pool)
        .await
        .unwrap();
    assert_eq!(letter.get::<&str, _>(0), Reason::CannotConsolidate.as_str());
    assert_eq!((letter.get::<&str, _>(1), letter.get::<&str, _>(2)), ("SQLSTATE 22003", "1"));
    let origin = json!({"topic": TOPIC, "partition": 0, "offset": 1, "ordinal": 1});
    assert_eq!(letter.get::<Value, _>(3), origin, "a replay of this message supersedes it");
    let opened = seal().open(SOURCE, letter.get(4)).unwrap();
    assert_eq!(String::from_utf8(opened).unwrap(), record(1).payload.unwrap());
}

#[tokio::test]
async fn an_exclusion_that_is_rolled_back_never_was() {
    let staged = staged().await;
    let batch_id = staged.land(0, 2, TTL, noon()).await;
    let records = staging::read(&staged.pool, &[batch_id]).await.unwrap();
    let mut transaction = staged.pool.begin().await.unwrap();
    staging::exclude(&mut transaction, &seal(), &records[0], "", noon()).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(staging::read(&staged.pool, &[batch_id]).await.unwrap().len(), 2);
    assert_eq!(staged.count("dead_letters").await, 0);
}
