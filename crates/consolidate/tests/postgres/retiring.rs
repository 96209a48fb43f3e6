//! What a system said before a time is taken out, whether it came before or comes after.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use consolidate::retire::{self, Progress};
use embedded_postgres::test::eventually;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::events::{Event, customer, gone, member, moved, night, order};
use crate::support::{Export, World};

fn second(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

async fn is_gone(world: &World, id: &str) -> bool {
    !world.xref("store", id).await["deleted_at"].is_null()
}

/// Carries a recorded retirement out, as the command does.
async fn carry_out(world: &World, id: i64) -> Progress {
    let cancel = CancellationToken::new();
    retire::carry_out(&world.rules, &world.seal, &world.options, id, &mut |_| {}, &cancel).await.unwrap()
}

#[tokio::test]
async fn a_system_that_is_retired_leaves_the_profiles_and_its_orders_stay() {
    let mut world = World::new().await;
    let ann = customer(1, 10).email("ann@x.example").attribute("name", "Ann").credential("d1");
    world.land("store", &[ann, customer(2, 11).email("bob@x.example"), order(7, 12).of_customer("1")]).await;
    world.land("loyalty", &[customer("27", 1).email("ann@x.example").attribute("points", "47")]).await;
    world.consolidate().await;
    let before = world.xref("store", "1").await;
    let order_of = world.order("store", "7").await["customer_id"].clone();

    world.retire("store", second(100)).await;
    assert_eq!(world.consolidate().await.retired, 2);

    let dead = world.xref("store", "1").await;
    assert_eq!((&dead["tombstone_position"], &dead["position"]), (&before["position"], &before["position"]));
    assert_eq!((&dead["observed_at"], &dead["customer_id"]), (&before["observed_at"], &before["customer_id"]));
    assert_eq!((&dead["email"], &dead["credential"], &dead["attributes"]), (&Value::Null, &Value::Null, &json!({})));
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"points": "47"})));
    assert_eq!(world.document("bob@x.example").await, None);
    assert!(!world.customer("bob@x.example").await.unwrap()["deleted_at"].is_null());
    assert_eq!(world.order("store", "7").await["customer_id"], order_of);
    let causes = "select distinct cause from customer360.changes order by 1";
    assert_eq!(world.rows(causes).await, [json!({"cause": "record"}), json!({"cause": "retirement"})]);
}

#[tokio::test]
async fn what_is_older_and_comes_later_is_dead_at_its_own_position_and_a_newer_record_lives() {
    let mut world = World::new().await;
    world.retire("store", second(100)).await;
    world.land("store", &[customer(1, 99).email("ann@x.example"), customer(2, 100).email("bob@x.example")]).await;
    world.consolidate().await;
    assert!(is_gone(&world, "1").await && !is_gone(&world, "2").await);
    let dead = world.xref("store", "1").await;
    assert_eq!(dead["tombstone_position"], dead["position"]);

    world.land("store", &[customer(1, 101).attribute("name", "Ann"), customer(1, 98).email("ann@x.example")]).await;
    world.consolidate().await;
    let living = world.xref("store", "1").await;
    assert_eq!((&living["deleted_at"], &living["unmatched_reason"]), (&Value::Null, &json!("no_email")));
    assert_eq!(living["attributes"], json!({"name": "Ann"}));
    world.land("loyalty", &[customer(1, 5).email("cyd@x.example")]).await;
    world.consolidate().await;
    assert!(world.document("cyd@x.example").await.is_some(), "another system is not concerned");
}

#[tokio::test]
async fn values_that_a_primary_key_change_carries_over_count_as_said_at_the_change() {
    let mut world = World::new().await;
    world.land("store", &[customer(1, 10).email("ann@x.example"), moved(1, 2, 60)]).await;
    world.consolidate().await;
    world.retire("store", second(50)).await;
    world.consolidate().await;
    assert!(!is_gone(&world, "2").await);
    world.retire("store", second(100)).await;
    world.land("store", &[customer(3, 110).email("bob@x.example"), moved(3, 4, 111).observed_at(99)]).await;
    world.consolidate().await;
    assert!(is_gone(&world, "2").await && is_gone(&world, "4").await);
}

#[tokio::test]
async fn the_latest_time_of_several_retirements_counts() {
    let mut world = World::new().await;
    let people: Vec<Event> = (1..=3).map(|n| customer(n, 10 * n.unsigned_abs()).email("ann@x.example")).collect();
    world.land("store", &people).await;
    world.consolidate().await;
    for (before, retired) in [(25, 2), (15, 0), (25, 0), (31, 1)] {
        world.retire("store", second(before)).await;
        assert_eq!(world.consolidate().await.retired, retired, "before {before}");
    }
    world.land("store", &[customer(4, 20).email("bob@x.example")]).await;
    world.consolidate().await;
    assert!(is_gone(&world, "4").await, "31 counts, whatever was said later");
}

#[tokio::test]
async fn everything_once_more_after_a_retirement_adds_no_row_version() {
    let mut world = World::new().await;
    let said = [
        customer(1, 1).email("ann@x.example").attribute("name", "Ann"),
        customer(1, 2).attribute("city", "Bern"),
        customer(2, 3).email("bob@x.example"),
        gone(3, 4),
        customer(4, 90).email("dan@x.example"),
    ];
    world.land("store", &said).await;
    world.consolidate().await;
    world.retire("store", second(50)).await;
    world.consolidate().await;
    let before = world.row_versions().await;
    for event in said.into_iter().rev() {
        world.land("store", &[event]).await;
        world.consolidate().await;
    }
    assert_eq!(world.row_versions().await, before);
}

#[tokio::test]
async fn a_cross_reference_that_stays_loses_what_is_older() {
    let mut world = World::new().await;
    let first =
        customer(1, 1).email("ann@x.example").credential("d1").attribute("name", "Ann").attribute("city", "Bern");
    world.land("store", &[first, customer(1, 60).email("ann@x.example").attribute("name", "Anna")]).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"name": "Anna", "city": "Bern"})));
    let mut connection = world.pool.acquire().await.unwrap();
    let foreseen = retire::foresee(&mut connection, "store", second(50), 10).await.unwrap();
    assert_eq!((foreseen.cross_references, foreseen.trimmed, foreseen.profiles_losing), (0, 1, 0));
    world.retire("store", second(50)).await;
    assert_eq!(world.consolidate().await.retired, 0);
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"name": "Anna"})));
    assert_eq!(world.xref("store", "1").await["credential"], Value::Null);
}

#[tokio::test]
async fn what_would_be_retired_is_said_beforehand_and_changes_nothing() {
    let mut world = World::new().await;
    let of_store = [
        customer(1, 1).email("ann@x.example"),
        customer(2, 2).email("ann@x.example"),
        customer(3, 3).email("bob@x.example"),
        customer(4, 4).email("no email"),
        customer(5, 5).email("cyd@x.example"),
        customer(6, 90).email("cyd@x.example"),
        gone(7, 7),
    ];
    world.land("store", &of_store).await;
    world.land("loyalty", &[customer("27", 1).email("ann@x.example")]).await;
    world.consolidate().await;
    let before = world.row_versions().await;
    let mut connection = world.pool.acquire().await.unwrap();
    let foreseen = retire::foresee(&mut connection, "store", second(50), 2).await.unwrap();
    assert_eq!((foreseen.cross_references, foreseen.profiles_losing, foreseen.profiles_vanishing), (5, 2, 1));
    assert_eq!((foreseen.samples.len(), foreseen.samples[0].external_id.as_str()), (2, "3"));
    let bob = world.customer("bob@x.example").await.unwrap()["customer_id"].clone();
    assert_eq!((json!(foreseen.samples[0].customer_id), foreseen.samples[0].vanishes), (bob, true));
    assert_eq!(world.row_versions().await, before);

    world.retire("store", second(50)).await;
    let done = world.consolidate().await;
    assert_eq!((done.retired, done.profiles), (5, 1), "the profiles that stay had nothing from those that go");
    assert_eq!(world.value("select count(*) from customer360.documents").await, 2);
    assert_eq!(retire::foresee(&mut connection, "store", second(50), 2).await.unwrap().cross_references, 0);
}

#[tokio::test]
async fn a_member_of_full_exports_that_was_retired_comes_back_with_the_next_night() {
    let mut world = World::new().await;
    let members = |in_night| vec![member("ann", in_night, 1).email("ann@x.example").attribute("points", "47")];
    world.export(&export(0, &members(0))).await;
    world.consolidate().await;
    world.retire("loyalty", night(0) + TimeDelta::hours(5)).await;
    world.export(&export(0, &members(0))).await;
    world.consolidate().await;
    assert_eq!(world.document("ann@x.example").await, None, "that night is over, imported again or not");
    world.export(&export(1, &members(1))).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"points": "47"})));
}

fn export(in_night: i64, members: &[Event]) -> Export<'_> {
    Export { source: "loyalty", night: in_night, members, unreadable: &[], batch_rows: 5 }
}

#[tokio::test]
async fn answers_of_a_rest_source_that_was_retired_are_landed_again_though_they_say_the_same() {
    let mut world = World::new().await;
    world.rules.polled_sources = vec!["store".to_owned()];
    world.land("loyalty", &[customer("27", 1).email("ann@x.example")]).await;
    world.consolidate().await;
    let answered = "update staging.polls set validators = '{\"customer\": {\"hash\": \"1\"}}'";
    sqlx::query(answered).execute(&world.pool).await.unwrap();
    world.retire("loyalty", second(0)).await;
    world.consolidate().await;
    assert_eq!(world.value("select validators = '{}' from staging.polls").await, false, "of another system");
    world.retire("store", second(0)).await;
    world.consolidate().await;
    assert_eq!(world.value("select validators = '{}' from staging.polls").await, true);
}

/// More than one step retires.
async fn many(world: &mut World) -> i64 {
    let count = 12_000;
    for chunk in (0..count).collect::<Vec<i64>>().chunks(4_000) {
        let people: Vec<Event> =
            chunk.iter().map(|n| customer(*n, 1).email(&format!("person.{n}@x.example"))).collect();
        world.land("store", &people).await;
    }
    world.consolidate().await;
    count
}

#[tokio::test]
async fn a_large_system_is_retired_step_by_step_and_goes_on_where_it_was_cut_off() {
    let mut world = World::new().await;
    let count = many(&mut world).await;
    let id = world.retire("store", Utc::now()).await;
    // Another connection of ours holds a row of the second step: the first one is done, the second one has to wait.
    let mut blocking = world.pool.begin().await.unwrap();
    let row = "select from customer360.xrefs where external_id = (
                   select external_id from customer360.xrefs order by external_id offset 7000 limit 1) for update";
    sqlx::query(row).execute(&mut *blocking).await.unwrap();
    {
        let cancel = CancellationToken::new();
        let mut seen = Vec::new();
        let mut tell = |progress: &Progress| seen.push(progress.tombstoned);
        let working = retire::carry_out(&world.rules, &world.seal, &world.options, id, &mut tell, &cancel);
        assert!(tokio::time::timeout(Duration::from_secs(4), working).await.is_err(), "it is cut off in the middle");
        assert_eq!(seen.last(), Some(&5_000), "{seen:?}");
    }
    blocking.rollback().await.unwrap();
    let half =
        world.rows("select done_until <> '' as begun, tombstoned, finished_at from customer360.retirements").await;
    assert_eq!(half, [json!({"begun": true, "tombstoned": 5_000, "finished_at": null})]);
    assert_eq!(
        retire::open(&world.pool).await.unwrap().into_keys().collect::<Vec<_>>(),
        ["store"],
        "somebody has to finish it"
    );

    let progress = carry_out(&world, id).await;
    assert_eq!(progress, Progress { tombstoned: count, finished: true, folded: true });
    assert_eq!(world.value("select count(*) from customer360.documents").await, 0);
    assert!(retire::open(&world.pool).await.unwrap().is_empty());
}

#[tokio::test]
async fn beside_a_daemon_the_daemon_retires_and_whoever_asked_waits() {
    tokio::task::LocalSet::new().run_until(beside_a_daemon()).await;
}

async fn beside_a_daemon() {
    let mut world = World::new().await;
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    let stop = CancellationToken::new();
    let (rules, seal, options, cancel) = (world.rules.clone(), world.seal.clone(), world.options.clone(), stop.clone());
    let daemon =
        tokio::task::spawn_local(async move { consolidate::run(&rules, &seal, &options, &cancel).await.unwrap() });
    eventually("the daemon consolidates", async || world.document("ann@x.example").await.is_some()).await;
    let id = world.retire("store", Utc::now()).await;
    let progress = tokio::time::timeout(Duration::from_secs(20), carry_out(&world, id)).await.unwrap();
    assert_eq!(progress, Progress { tombstoned: 1, finished: true, folded: true });
    assert_eq!(world.document("ann@x.example").await, None);
    stop.cancel();
    daemon.await.unwrap();
}
