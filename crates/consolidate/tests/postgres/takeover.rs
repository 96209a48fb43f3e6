//! Two consolidators: one works, the other stands by and takes over.

use std::time::Duration;

use chrono::{Months, Utc};
use consolidate::{Consolidator, Drained};
use embedded_postgres::test::{Loss, Proxy, eventually, look_until, until};
use futures::StreamExt;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::support::World;
use crate::support::events::{Event, customer};

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
        let holder = async || {
            let holders = holders(&pool).await;
            assert!(holders.len() <= 1);
            holders.first().copied().filter(|pid| Some(*pid) != not)
        };
        look_until("somebody has the lock", holder, Option::is_some).await.unwrap()
    };
    let consolidated = async |email: &'static str| {
        let sql = format!("select count(*) from customer360.documents where email = '{email}'");
        until(&pool, &sql, 1).await;
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
    eventually("the lock is free", async || holders(&pool).await.is_empty()).await;
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

#[tokio::test]
async fn a_consolidator_that_waits_for_a_reply_that_never_comes_is_relieved_and_comes_back() {
    tokio::task::LocalSet::new().run_until(lose_the_replies_of_the_active_one()).await;
}

async fn lose_the_replies_of_the_active_one() {
    let mut world = World::new().await;
    let database: String = sqlx::query_scalar("select current_database()").fetch_one(&world.pool).await.unwrap();
    let proxy = Proxy::start(&world.options, Loss::Silence).await;
    let start = |options: PgConnectOptions, cancel: &CancellationToken| {
        let (rules, seal, cancel) = (world.rules.clone(), world.seal.clone(), cancel.clone());
        tokio::task::spawn_local(async move { consolidate::run(&rules, &seal, &options, &cancel).await })
    };
    let pool = world.pool.clone();
    let consolidated = async |email: &'static str| {
        let sql = format!("select count(*) from customer360.documents where email = '{email}'");
        until(&pool, &sql, 1).await;
    };
    let stop_far = CancellationToken::new();
    let far = start(proxy.through(&database, &world.options), &stop_far);
    eventually("the far one has the lock", async || !holders(&pool).await.is_empty()).await;
    let stop_near = CancellationToken::new();
    let near = start(world.options.clone(), &stop_near);
    proxy.lose_the_next_commit();
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    tokio::time::timeout(Duration::from_mins(1), proxy.lost()).await.unwrap();
    world.land("store", &[customer(2, 2).email("bob@x.example")]).await;
    consolidated("ann@x.example").await;
    consolidated("bob@x.example").await;

    // The near one goes, and the far one has noticed meanwhile.
    stop_near.cancel();
    near.await.unwrap().unwrap();
    world.land("store", &[customer(3, 3).email("cyd@x.example")]).await;
    consolidated("cyd@x.example").await;
    stop_far.cancel();
    far.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_open_transaction_of_an_analyst_holds_up_neither_step_nor_the_making_of_partitions() {
    let mut world = World::new().await;
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    world.consolidate().await;
    // Next month's partition is still to be made, by the consolidator that begins below.
    let next = Utc::now().date_naive().checked_add_months(Months::new(1)).unwrap().format("%Y_%m");
    sqlx::raw_sql(AssertSqlSafe(format!("drop table customer360.changes_{next}"))).execute(&world.pool).await.unwrap();
    let mut analyst = world.pool.begin().await.unwrap();
    for table in ["customers", "xrefs", "orders", "changes", "dirty_marks", "documents"] {
        let sql = format!("select count(*) from customer360.{table}");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *analyst).await.unwrap();
    }

    let everybody: Vec<Event> =
        (1..200).map(|id| customer(id, 10 + i64::unsigned_abs(id)).email(&format!("c{id}@x.example"))).collect();
    world.land("store", &everybody).await;
    let consolidating = tokio::time::timeout(Duration::from_mins(1), world.consolidate());
    consolidating.await.expect("it waits for the analyst");
    assert_eq!(world.value("select count(*) from customer360.documents").await, 199);
    let made = format!("select count(*) from pg_class where relname = 'changes_{next}'");
    let made: i64 = sqlx::query_scalar(AssertSqlSafe(made)).fetch_one(&world.pool).await.unwrap();
    assert_eq!(made, 1);
    analyst.rollback().await.unwrap();
}

/// Postgres waits for ever for a client that leaves an answer unread, and no time limit of its own ends that.
#[tokio::test]
async fn one_that_froze_while_it_read_an_answer_is_relieved() {
    let world = World::new().await;
    let mut frozen = world.pool.acquire().await.unwrap();
    sqlx::query("select pg_advisory_lock(hashtext('c360.consolidator'), 2)").execute(&mut *frozen).await.unwrap();
    let mut answer = sqlx::query("select repeat('x', 100000) from generate_series(1, 10000)").fetch(&mut *frozen);
    assert!(answer.next().await.unwrap().is_ok());
    let mut next = Consolidator::connect(&world.options).await.unwrap();
    eventually("it takes over", async || next.try_begin().await.unwrap()).await;
    while let Some(Ok(_)) = answer.next().await {}
    drop(answer);
    assert!(sqlx::query("select 1").execute(&mut *frozen).await.is_err(), "its session has ended");
}

/// The same holds of a client that sends no more of its rows.
#[tokio::test]
async fn one_that_froze_while_it_sent_its_rows_is_relieved() {
    let world = World::new().await;
    let mut frozen = world.pool.acquire().await.unwrap();
    let locks =
        "select pg_advisory_lock(hashtext('c360.consolidator'), 2); create temporary table sent (row int); begin";
    sqlx::raw_sql(locks).execute(&mut *frozen).await.unwrap();
    let copy = frozen.copy_in_raw("copy sent from stdin").await.unwrap();
    let mut next = Consolidator::connect(&world.options).await.unwrap();
    eventually("it takes over", async || next.try_begin().await.unwrap()).await;
    assert!(copy.finish().await.is_err(), "its session has ended");
}

/// Whoever locks a whole table is waited for only where it is needed.
#[tokio::test]
async fn a_partition_of_next_month_that_cannot_be_made_now_is_made_later_and_holds_up_nothing() {
    let mut world = World::new().await;
    world.land("store", &[customer(2, 1).email("bob@x.example")]).await;
    world.consolidate().await;
    let next = Utc::now().date_naive().checked_add_months(Months::new(1)).unwrap().format("%Y_%m");
    sqlx::raw_sql(AssertSqlSafe(format!("drop table customer360.changes_{next}"))).execute(&world.pool).await.unwrap();
    let made = format!("select count(*) from pg_class where relname = 'changes_{next}'");
    let mut owner = world.pool.begin().await.unwrap();
    // As `create index` does, or a vacuum by hand.
    let lock = "lock table customer360.changes in share update exclusive mode";
    sqlx::query(lock).execute(&mut *owner).await.unwrap();
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    world.consolidate().await;
    assert!(world.document("ann@x.example").await.is_some());
    let found: i64 = sqlx::query_scalar(AssertSqlSafe(made.clone())).fetch_one(&world.pool).await.unwrap();
    assert_eq!(found, 0);
    owner.rollback().await.unwrap();
    world.consolidate().await;
    let found: i64 = sqlx::query_scalar(AssertSqlSafe(made)).fetch_one(&world.pool).await.unwrap();
    assert_eq!(found, 1);
}

/// A reader may hold a version that a crash of Postgres would take back otherwise; all else is done again after one.
#[tokio::test]
async fn only_profiles_wait_for_the_disk() {
    let mut world = World::new().await;
    let note = "create table public.commits (of text, waits text);
                create function public.note_commit() returns trigger language plpgsql as $$
                begin
                    insert into public.commits values (tg_table_name, current_setting('synchronous_commit'));
                    return null;
                end $$;
                create trigger note_commit after insert on customer360.customers
                    for each statement execute function public.note_commit();
                create trigger note_commit after insert on customer360.xrefs
                    for each statement execute function public.note_commit()";
    sqlx::raw_sql(note).execute(&world.pool).await.unwrap();
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    world.consolidate().await;
    let expected = [json!({"of": "customers", "waits": "on"}), json!({"of": "xrefs", "waits": "off"})];
    assert_eq!(world.rows("select distinct of, waits from public.commits order by of").await, expected);
}
