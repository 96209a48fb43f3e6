//! Compare-and-swap: whoever is wrong about the stored progress writes nothing.

use std::time::Duration;

use embedded_postgres::test::{Loss, Proxy};
use staging::{Checkpoint, Error, Landing, Seal, offsets};
use tokio_util::sync::CancellationToken;

use crate::support::{HOUR, SOURCE, TTL, advance, batch, noon, origin, seal, staged};

#[tokio::test]
async fn a_second_lander_with_the_same_belief_is_fenced_and_writes_nothing() {
    let staged = staged().await;
    staged.land(0, 5, TTL, noon()).await;
    let (mut one, mut other) = (staged.lander(), staged.lander());
    let (mut batch_of_one, mut batch_of_other) = (batch(5, 3, TTL), batch(5, 4, TTL));
    let (origin, by_one, by_other) = (origin(5), advance(Some(5), 8), advance(Some(5), 9));
    // At the same time, so that one of them waits for the other's row.
    let (landed, other) = tokio::join!(
        one.land(&mut batch_of_one, &origin, &by_one, noon()),
        other.land(&mut batch_of_other, &origin, &by_other, noon())
    );
    let fenced = [landed.unwrap(), other.unwrap()].iter().filter(|landing| **landing == Landing::Fenced).count();
    assert_eq!(fenced, 1);
    let next_offset: i64 = staged.ask("select next_offset from staging.kafka_offsets").await;
    assert_eq!(staged.count("batches").await, 2);
    assert_eq!(staged.count("records").await, next_offset, "one record for each offset before the stored one");
}

#[tokio::test]
async fn believing_that_nothing_is_stored_is_fenced_once_something_is() {
    let staged = staged().await;
    staged.land(0, 5, TTL, noon()).await;
    let landing = staged.lander().land(&mut batch(0, 9, TTL), &origin(0), &advance(None, 9), noon()).await.unwrap();
    assert_eq!(landing, Landing::Fenced);
    assert_eq!((staged.count("batches").await, staged.count("records").await), (1, 5));
}

#[tokio::test]
async fn believing_in_progress_that_is_not_stored_is_fenced() {
    let staged = staged().await;
    let landing = staged.lander().land(&mut batch(5, 1, TTL), &origin(5), &advance(Some(5), 6), noon()).await.unwrap();
    assert_eq!(landing, Landing::Fenced);
    assert_eq!((staged.count("batches").await, staged.count("kafka_offsets").await), (0, 0));
}

#[tokio::test]
async fn two_first_landers_land_once() {
    let staged = staged().await;
    let (mut one, mut other) = (staged.lander(), staged.lander());
    let (mut first, mut second) = (batch(0, 3, TTL), batch(0, 3, TTL));
    let (origin, checkpoint) = (origin(0), advance(None, 3));
    let (one, other) = tokio::join!(
        one.land(&mut first, &origin, &checkpoint, noon()),
        other.land(&mut second, &origin, &checkpoint, noon())
    );
    let landings = [one.unwrap(), other.unwrap()];
    assert!(landings.contains(&Landing::Fenced), "{landings:?}");
    assert_eq!((staged.count("batches").await, staged.count("records").await), (1, 3));
}

#[tokio::test]
async fn answers_without_a_poll_have_nothing_to_be_fenced_by_and_are_not_landed() {
    let staged = staged().await;
    let landing = staged.lander().land(&mut batch(0, 3, TTL), &origin(0), &Checkpoint::Rest(Vec::new()), noon()).await;
    assert!(matches!(landing, Err(Error::NothingToCompare)), "{landing:?}");
    assert_eq!((staged.count("batches").await, staged.count("records").await), (0, 0));
}

#[tokio::test]
async fn a_fenced_lander_goes_on_from_what_is_stored() {
    let staged = staged().await;
    let mut lander = staged.lander();
    lander.land(&mut batch(0, 1, TTL), &origin(0), &advance(None, 1), noon()).await.unwrap();
    staged.land(1, 1, TTL, noon()).await;
    let fenced = lander.land(&mut batch(1, 2, TTL), &origin(1), &advance(Some(1), 3), noon()).await.unwrap();
    assert_eq!(fenced, Landing::Fenced);
    let landing = lander.land(&mut batch(2, 1, TTL), &origin(2), &advance(Some(2), 3), noon()).await.unwrap();
    assert!(matches!(landing, Landing::Landed { .. }));
    assert_eq!(staged.count("records").await, 3);
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_shows_as_fenced_with_the_progress_that_was_wanted() {
    let staged = staged().await;
    let proxy = Proxy::start(&staged.options(), Loss::Cut).await;
    let mut lander = lander_through(&proxy, &staged, seal());
    lander.land(&mut batch(0, 5, TTL), &origin(0), &advance(None, 5), noon()).await.unwrap();
    proxy.lose_the_next_commit();
    let (mut batch, checkpoint) = (batch(5, 3, TTL), advance(Some(5), 8));
    let mut failures = 0;
    let never = CancellationToken::new();
    let landing = staging::persist(&never, "landing", async || {
        let landing = lander.land(&mut batch, &origin(5), &checkpoint, noon()).await;
        failures += usize::from(landing.is_err());
        landing
    });
    assert_eq!(landing.await.unwrap(), Landing::Fenced);
    assert_eq!(failures, 1);
    let stored = offsets::stored(&staged.pool, SOURCE).await.unwrap();
    assert_eq!(stored[0].next_offset, 8, "which is how the ingester knows that it had landed");
    let batches: i64 = staged.ask("select count(*) from staging.batches where origin->>'first_offset' = '5'").await;
    assert_eq!((batches, staged.count("records").await), (1, 8));
}

/// Nothing that a connection says of itself tells a network that eats packets from a slow database.
#[tokio::test]
async fn a_reply_that_never_comes_is_given_up_and_tried_again() {
    let staged = staged().await;
    let proxy = Proxy::start(&staged.options(), Loss::Silence).await;
    let mut lander = lander_through(&proxy, &staged, seal());
    lander.land(&mut batch(0, 5, TTL), &origin(0), &advance(None, 5), noon()).await.unwrap();
    proxy.lose_the_next_commit();
    let (mut batch, origin, checkpoint) = (batch(5, 3, TTL), origin(5), advance(Some(5), 8));
    let error = {
        let landing = lander.land(&mut batch, &origin, &checkpoint, noon());
        let silence = async {
            proxy.lost().await;
            // From here on time passes by itself whenever everybody waits.
            tokio::time::pause();
            tokio::time::Instant::now()
        };
        let (error, since) = tokio::join!(landing, silence);
        assert!(since.elapsed() <= Duration::from_mins(2), "{:?}", since.elapsed());
        tokio::time::resume();
        error.unwrap_err()
    };
    assert!(error.is_transient(), "{error}");
    assert_eq!(lander.land(&mut batch, &origin, &checkpoint, noon()).await.unwrap(), Landing::Fenced);
    assert_eq!(staged.count("records").await, 8);
}

fn lander_through(proxy: &Proxy, staged: &crate::support::Staged, seal: Seal) -> staging::Lander {
    staging::Lander::new(proxy.through(&staged.database.name, &staged.options()), seal, HOUR)
}
