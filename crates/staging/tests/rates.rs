//! Turns to ask a source, shared by all processes.

use std::time::{Duration, Instant};

use staging::rates;

use crate::support::{Staged, staged};

const SHOP: &str = "shop";
const INTERVAL: Duration = Duration::from_millis(10);
const KEPT: Duration = Duration::from_millis(100);

async fn take(staged: &Staged, turns: u32) -> f64 {
    rates::take(&staged.pool, SHOP, turns, INTERVAL, KEPT).await.unwrap()
}

#[tokio::test]
async fn turns_of_several_processes_never_overlap_and_none_is_given_twice() {
    let staged = staged().await;
    let started = Instant::now();
    let mut taken = Vec::new();
    let takers = (0..4).map(|_| async {
        let mut turns = Vec::new();
        for _ in 0..25 {
            // As a process sees it: so far ahead of now.
            let ahead = take(&staged, 4).await;
            turns.push(started.elapsed().as_secs_f64() + ahead);
        }
        turns
    });
    for turns in futures::future::join_all(takers).await {
        taken.extend(turns);
    }
    // 100 times 4 turns of 10 ms are 4 s, less what was saved up at the most.
    let end = taken.iter().copied().fold(0.0, f64::max) + 0.04;
    let least = 4.0 - KEPT.as_secs_f64() - 0.01;
    assert!(end >= least, "400 turns within {end} s");
    let span: f64 = staged
        .ask("select extract(epoch from next_at - statement_timestamp())::double precision from staging.request_rates")
        .await;
    assert!(span + started.elapsed().as_secs_f64() >= least, "{span}");
}

#[tokio::test]
async fn turns_that_nobody_used_keep_for_a_while_only() {
    let staged = staged().await;
    assert!(take(&staged, 1).await.abs() < 0.001, "the first turn is now");
    staged.run("update staging.request_rates set next_at = now() - interval '1 hour'").await;
    let ahead = take(&staged, 1).await;
    assert!((-0.11..=-0.09).contains(&ahead), "{ahead}");
}

#[tokio::test]
async fn what_the_source_asks_for_is_waited_for_by_all_and_a_clock_that_was_set_back_stops_nobody() {
    let staged = staged().await;
    rates::hold(&staged.pool, SHOP, Duration::from_secs(7)).await.unwrap();
    rates::hold(&staged.pool, SHOP, Duration::from_secs(2)).await.unwrap();
    let ahead = take(&staged, 1).await;
    assert!((6.5..=7.0).contains(&ahead), "{ahead}");
    rates::hold(&staged.pool, SHOP, Duration::from_hours(1)).await.unwrap();
    let ahead = take(&staged, 1).await;
    assert!((59.0..=60.1).contains(&ahead), "{ahead}");

    staged.run("update staging.request_rates set next_at = now() + interval '1 day'").await;
    let ahead = take(&staged, 1).await;
    assert!(ahead < 62.0, "{ahead}");
}
