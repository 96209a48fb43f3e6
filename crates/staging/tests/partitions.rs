//! Partitions of `staging.records`: there before they are needed, and nobody has to wait for a reader.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use staging::{Lander, Landing};

use crate::support::{DAY, HOUR, Staged, TTL, advance, batch, noon, origin, seal, staged};

/// The bounds in seconds from noon, by the catalogue.
async fn partitions(staged: &Staged) -> Vec<(i64, i64)> {
    let names: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'staging.records'::regclass order by 1",
    )
    .fetch_all(&staged.pool)
    .await
    .unwrap();
    let bound = |text: &str| text.parse::<i64>().unwrap() - noon().timestamp();
    let parts = names.iter().map(|name| name.strip_prefix("records_").unwrap().split_once('_').unwrap());
    parts.map(|(start, end)| (bound(start), bound(end))).collect()
}

#[tokio::test]
async fn the_partition_of_a_batch_and_the_next_one_are_made_aligned_to_the_width() {
    let staged = staged().await;
    staged.land(0, 1, HOUR * 2, noon() + TimeDelta::seconds(1_234)).await;
    assert_eq!(partitions(&staged).await, [(7_200, 10_800), (10_800, 14_400)]);
    let bounds: String = staged
        .ask(
            "select pg_get_expr(c.relpartbound, c.oid) from pg_inherits i join pg_class c on c.oid = i.inhrelid
             where i.inhparent = 'staging.records'::regclass order by c.relname limit 1",
        )
        .await;
    assert_eq!(bounds, "FOR VALUES FROM ('2026-03-01 14:00:00+00') TO ('2026-03-01 15:00:00+00')");
}

#[tokio::test]
async fn a_partition_has_the_index_of_its_parent() {
    let staged = staged().await;
    staged.land(0, 1, TTL, noon()).await;
    let attached: i64 =
        staged.ask("select count(*) from pg_inherits where inhparent = 'staging.records_batch'::regclass").await;
    assert_eq!(attached, 2);
}

#[tokio::test]
async fn a_width_that_changes_later_fits_between_what_is_there() {
    let staged = staged().await;
    staged.land(0, 1, HOUR, noon()).await;
    for (from, width, at) in [(1, 7_200, 5_400), (2, 600, 12_600), (3, 1, 14_999), (4, 7_200, 25_000)] {
        let mut lander = Lander::new(staged.options(), seal(), Duration::from_secs(width));
        let now = noon() + TimeDelta::seconds(at);
        let mut batch = batch(from, 1, Duration::ZERO);
        let landing = lander.land(&mut batch, &origin(from), &advance(Some(from), from + 1), now).await;
        assert!(matches!(landing.unwrap(), Landing::Landed { .. }));
    }
    assert_eq!(staged.count("records").await, 5);
    let made = partitions(&staged).await;
    let expected = [
        (3_600, 7_200),
        (7_200, 10_800),
        // Of two hours one was taken.
        (10_800, 14_400),
        (14_999, 15_000),
        (15_000, 15_001),
        (21_600, 28_800),
        (28_800, 36_000),
    ];
    assert_eq!(made, expected);
}

#[tokio::test]
async fn landers_that_need_the_same_new_partition_at_once_all_land() {
    let staged = staged().await;
    let landing = (0..8).map(|partition| {
        let mut lander = staged.lander();
        tokio::spawn(async move {
            let mut batch = batch(0, 1, TTL);
            let mut checkpoint = advance(None, 1);
            if let staging::Checkpoint::Kafka(advance) = &mut checkpoint {
                advance.partition = partition;
            }
            lander.land(&mut batch, &origin(0), &checkpoint, noon()).await.map(|_| ())
        })
    });
    for landed in landing.collect::<Vec<_>>() {
        landed.await.unwrap().unwrap();
    }
    assert_eq!(staged.count("records").await, 8);
    assert_eq!(partitions(&staged).await.len(), 2);
}

#[tokio::test]
async fn an_analysts_open_transaction_does_not_stop_landing_into_new_partitions() {
    let staged = staged().await;
    staged.land(0, 1, TTL, noon()).await;
    let mut analyst = staged.pool.begin().await.unwrap();
    let seen: i64 = sqlx::query_scalar("select count(*) from staging.records").fetch_one(&mut *analyst).await.unwrap();
    assert_eq!(seen, 1);
    let later = noon() + DAY * 3;
    let landing = tokio::time::timeout(Duration::from_secs(10), staged.land(1, 1, TTL, later));
    landing.await.expect("nobody waits for the analyst");
    assert_eq!(partitions(&staged).await.len(), 4);
    analyst.rollback().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_jumps_by_days_or_a_year_and_back_stops_nothing() {
    let staged = staged().await;
    let mut lander = staged.lander();
    let jumps: [i64; 7] = [0, 1, 0, -1, 400, 0, -400];
    for (from, days) in (0..).zip(jumps) {
        let now: DateTime<Utc> = noon() + TimeDelta::days(days);
        let expected = (from > 0).then_some(from);
        let landing = lander.land(&mut batch(from, 1, TTL), &origin(from), &advance(expected, from + 1), now).await;
        assert!(matches!(landing.unwrap(), Landing::Landed { .. }), "{days} days");
    }
    assert_eq!(staged.count("records").await, 7);
}

#[tokio::test]
async fn a_partition_that_another_clock_found_past_is_made_again() {
    let staged = staged().await;
    let mut lander = staged.lander();
    lander.land(&mut batch(0, 1, TTL), &origin(0), &advance(None, 1), noon()).await.unwrap();
    let claimed = staged.claimed(10).await;
    staged.finish(&claimed, noon()).await;
    let expired = staging::expire(&mut staged.connection().await, noon() + DAY * 400).await.unwrap();
    assert_eq!(expired.dropped, 2, "both the one with the batch and the one ahead");

    let landing = lander.land(&mut batch(1, 1, TTL), &origin(1), &advance(Some(1), 2), noon()).await.unwrap();
    assert!(matches!(landing, Landing::Landed { .. }));
    assert_eq!((staged.count("records").await, staged.claimed(10).await.len()), (1, 1));
}
