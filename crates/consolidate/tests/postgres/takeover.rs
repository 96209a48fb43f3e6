//! Two consolidators: one works, the other stands by and takes over.

use std::time::{Duration, Instant};

use consolidate::{Consolidator, Drained};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::support::World;
use crate::support::events::customer;

/// Backends that hold the consolidator's lock.
async fn holders(pool: &PgPool) -> Vec<i32> {
    sqlx::query_scalar(
        "select pid from pg_locks
         where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())
           and classid = (hashtext('c360.consolidator')::bigint & 4294967295)::oid and objid = 0 and objsubid = 2",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Polls until `condition` gives something.
async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_consolidator_is_active_and_another_takes_over_when_its_connection_is_killed() {
    tokio::task::LocalSet::new().run_until(kill_the_active_one()).await;
}

async fn kill_the_active_one() {
    let mut world = World::new().await;
    let cancel = CancellationToken::new();
    let start = || {
        let (rules, seal, options, cancel) =
            (world.rules.clone(), world.seal.clone(), world.options.clone(), cancel.clone());
        tokio::task::spawn_local(async move { consolidate::run(&rules, &seal, &options, &cancel).await })
    };
    let consolidators = [start(), start()];
    let pool = world.pool.clone();
    let active = async |not: Option<i32>| {
        until("somebody has the lock", async || {
            let holders = holders(&pool).await;
            assert!(holders.len() <= 1);
            holders.first().copied().filter(|pid| Some(*pid) != not)
        })
        .await
    };
    let consolidated = async |email: &'static str| {
        until("a landed customer is consolidated", async || {
            let sql = "select count(*) from customer360.documents where email = $1";
            let count: i64 = sqlx::query_scalar(sql).bind(email).fetch_one(&pool).await.unwrap();
            (count == 1).then_some(())
        })
        .await;
    };
    let first = active(None).await;
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    consolidated("ann@x.example").await;

    for (position, email) in (2..).zip(["bob@x.example", "cyd@x.example", "dan@x.example"]) {
        let victim = active(None).await;
        sqlx::query("select pg_terminate_backend($1)").bind(victim).execute(&pool).await.unwrap();
        world.land("store", &[customer(1, position).email(email)]).await;
        let heir = active(Some(victim)).await;
        assert_ne!(heir, first);
        consolidated(email).await;
    }

    cancel.cancel();
    for consolidator in consolidators {
        consolidator.await.unwrap().unwrap();
    }
    until("the lock is free", async || holders(&pool).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn whoever_catches_up_waits_for_the_one_at_work_instead_of_working_beside_it() {
    let mut world = World::new().await;
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    let mut other = Consolidator::connect(&world.options).await.unwrap();
    assert!(other.try_begin().await.unwrap());
    {
        let mut catching_up = std::pin::pin!(world.catch_up());
        let waited = tokio::time::timeout(Duration::from_millis(300), &mut catching_up).await;
        assert!(waited.is_err(), "there is something left, and it is not ours to do");
        assert_eq!(world.value("select count(*) from customer360.xrefs").await, 0);
        other.drain(&world.rules, &world.seal, &CancellationToken::new()).await.unwrap();
        assert_eq!(catching_up.await, Drained::default());
    }
    assert!(world.document("ann@x.example").await.is_some());
}

#[tokio::test]
async fn whoever_catches_up_does_not_wait_for_what_lands_meanwhile() {
    let mut world = World::new().await;
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    let mut other = Consolidator::connect(&world.options).await.unwrap();
    assert!(other.try_begin().await.unwrap());
    let (rules, seal, options) = (world.rules.clone(), world.seal.clone(), world.options.clone());
    let never = CancellationToken::new();
    let mut catching_up = std::pin::pin!(consolidate::catch_up(&rules, &seal, &options, &never));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut catching_up).await.is_err());
    other.drain(&rules, &seal, &never).await.unwrap();
    world.land("store", &[customer(2, 2).email("bob@x.example")]).await;
    let caught_up = tokio::time::timeout(Duration::from_secs(20), catching_up).await;
    assert_eq!(caught_up.expect("a source that never rests keeps it").unwrap(), Drained::default());
    assert!(world.document("ann@x.example").await.is_some());
}
