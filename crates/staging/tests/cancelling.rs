//! A landing whose future is dropped: all of it or nothing, no transaction left open, and the lander works afterwards.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use embedded_postgres::test::{Loss, Proxy, until};
use staging::{Lander, Landing};

use crate::support::{HOUR, TTL, advance, batch, dead_letter, noon, origin, seal, staged};

const OPEN_TRANSACTIONS: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null";

/// Drives a future to its `polls`th await that has to wait, and drops it there.
async fn dropped_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn a_landing_dropped_at_any_await_is_whole_or_nothing_and_can_be_tried_again() {
    let staged = staged().await;
    // Through a proxy in this thread, so that every reply is waited for, however fast Postgres is.
    let proxy = Proxy::start(&staged.options(), Loss::Cut).await;
    let options = proxy.through(&staged.database.name, &staged.options());
    let mut dropped = 0;
    let mut landed_all_the_same = 0;
    for polls in 0.. {
        // A lander that knows nothing yet, and a partition that is not there: connecting and making it are dropped too.
        let mut lander = Lander::new(options.clone(), seal(), HOUR);
        let now = noon() + TTL * u32::try_from(polls).unwrap();
        let stored: Option<i64> = staged.ask("select max(next_offset) from staging.kafka_offsets").await;
        let from = stored.unwrap_or(0);
        // Too large for a socket's buffer, so that the copy has to wait as well.
        let mut batch = batch(from, 2_000, TTL);
        batch.push_dead_letter(dead_letter(from, &[b'['; 10 << 10]));
        let (origin, checkpoint) = (origin(from), advance(stored, from + 2_001));
        let before = staged.count("batches").await;

        let outcome = dropped_after(polls, lander.land(&mut batch, &origin, &checkpoint, now)).await;
        until(&staged.pool, OPEN_TRANSACTIONS, 0).await;
        let after = staged.count("batches").await;
        let again = lander.land(&mut batch, &origin, &checkpoint, now).await.unwrap();

        assert_eq!(staged.count("batches").await, before + 1, "dropped after {polls} polls");
        if let Some(outcome) = outcome {
            assert!(matches!(outcome.unwrap(), Landing::Landed { .. }));
            assert_eq!(again, Landing::Fenced);
            break;
        }
        dropped += 1;
        landed_all_the_same += after - before;
        assert_eq!(again == Landing::Fenced, after > before, "dropped after {polls} polls");
    }
    let batches = staged.count("batches").await;
    assert_eq!(staged.count("records").await, batches * 2_000);
    assert_eq!(staged.count("dead_letters").await, batches);
    // Connecting, making two partitions and landing wait many times; a handful would mean that nothing was dropped.
    assert!(dropped > 15, "dropped at {dropped} places only");
    assert!(landed_all_the_same > 0, "never dropped between COMMIT and its reply");
}
