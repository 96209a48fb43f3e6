//! Rebuilding: nothing on a consistent base, everything after damage, and once the rules have changed.

use std::time::Duration;

use chrono::Utc;
use consolidate::rebuild::{self, Changed, Foreseen, Progress};
use consolidate::{Change, Consolidator, Error, Rules, rebuild_is_due};
use model::Guards;
use serde_json::{Value, json};
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use crate::support::events::{Event, Says, customer, event, gone, member, order};
use crate::support::{Export, World, rules};

async fn record(world: &World, rules: &Rules) -> Result<rebuild::Recorded, Error> {
    let mut connection = staging::connect(&world.options).await.unwrap();
    rebuild::record(&mut connection, rules, Utc::now()).await
}

async fn carry_out(world: &World, rules: &Rules, rebuild_id: i64) -> Result<Progress, Error> {
    let cancel = CancellationToken::new();
    rebuild::carry_out(rules, &world.seal, &world.options, rebuild_id, &mut |_| {}, &cancel).await
}

/// What the command does; returns what it changed.
async fn rebuild(world: &World, rules: &Rules) -> Changed {
    let recorded = record(world, rules).await.unwrap();
    let progress = carry_out(world, rules, recorded.rebuild_id).await.unwrap();
    assert!(progress.finished);
    assert_eq!(progress.done, progress.total);
    rebuild::changed(&world.pool, recorded.rebuild_id).await.unwrap()
}

async fn foresee(world: &World, rules: &Rules) -> Foreseen {
    rebuild::foresee(&world.options, rules, 10, &CancellationToken::new()).await.unwrap()
}

/// Customers of all sorts: shared, moved, deleted, unmatched, crowded, merged and split, with orders and interactions.
async fn peopled() -> World {
    let mut world = World::new().await;
    let delivery = [
        customer(1, 1).email("ann@x.example").attribute("name", "Ann").attribute("city", "Bern"),
        customer(2, 2).email("bob@x.example").attribute("name", "Bob"),
        customer(3, 3).email("old@x.example").attribute("name", "Cyd"),
        customer(3, 4).email("cyd@x.example"),
        customer(4, 5).email("dan@x.example").attribute("name", "Dan"),
        customer(5, 6).email("n/a"),
        customer(6, 7).attribute("name", "who"),
        gone(4, 8),
        order(9, 9).of_customer("4").total("3"),
        order(10, 11).of_customer("2").total("4"),
        event("i", 10, Says::Interaction(Some(vec!["Ann@x.example".to_owned(), "nobody@x.example".to_owned()]))),
    ];
    world.land("home_delivery", &delivery).await;
    let store = [
        customer(1, 1).email("ann@x.example").attribute("name", "Ann S."),
        customer(7, 2).email("eve@x.example").attribute("name", "Eve"),
        customer(8, 3).email("bob@x.example").attribute("name", "not Bob"),
        order(100, 4).of_customer("1").lines(&[("p", "1", "2")]),
        order(101, 5).of_customer("8").total("5"),
        order(102, 6).of_customer("unknown").total("7"),
    ];
    world.land("online_store", &store).await;
    let crowd: Vec<Event> = (1..=11).map(|id| member(&format!("{id}"), 1, id).email("team@x.example")).collect();
    world.export(&Export { source: "loyalty", night: 1, members: &crowd, unreadable: &[], batch_rows: 4 }).await;
    world.decide("merge", &["eve@x.example", "ann@x.example"], &["eve@x.example", "ann@x.example"]).await;
    world.decide("split", &["online_store", "8"], &["bob@x.example", "#online_store:8"]).await;
    world.consolidate().await;
    world
}

/// All that a rebuild has to bring back.
async fn contents(world: &World) -> Vec<Value> {
    let mut contents = world
        .rows("select customer_id, match_key, email, profile, provenance, deleted_at is null as living from customer360.customers order by 1")
        .await;
    contents.extend(world.rows("select system, external_id, customer_id, match_key, unmatched_reason from customer360.xrefs order by 1, 2").await);
    contents.extend(world.rows("select system, order_id, customer_id from customer360.orders order by 1, 2").await);
    contents.extend(world.rows("select interaction_id, participant_no, match_key, customer_id from customer360.interaction_participants order by 1, 2").await);
    contents
}

#[tokio::test]
async fn a_rebuild_of_a_consistent_base_writes_nothing() {
    let world = peopled().await;
    let before = world.row_versions().await;
    assert_eq!(foresee(&world, &world.rules).await, Foreseen::default());
    assert_eq!(rebuild(&world, &world.rules).await, Changed::default());
    assert_eq!(world.row_versions().await, before);
    assert_eq!(world.value("select count(*) from customer360.dirty_marks").await, json!(0));
}

#[tokio::test]
async fn a_rebuild_mends_direct_damage_as_its_look_foresaw() {
    let world = peopled().await;
    let before = contents(&world).await;
    sqlx::raw_sql(
        "delete from customer360.customers where match_key in ('bob@x.example', '#online_store:8');
         update customer360.customers set profile = '{\"name\": \"Mallory\"}' where match_key = 'ann@x.example';
         update customer360.customers set profile = '{}', deleted_at = now() where match_key = 'cyd@x.example';
         update customer360.customer_search set systems = '{nobody}', disagreeing = '{nothing}';
         update customer360.xrefs set customer_id = null where system = 'online_store';
         update customer360.xrefs set match_key = null, customer_id = null where system = 'home_delivery' and external_id = '1';
         update customer360.xrefs set unmatched_reason = null where unmatched_reason = 'crowded' and external_id = '3';
         update customer360.orders set customer_id = null;
         update customer360.interaction_participants set match_key = null, customer_id = null;
         insert into customer360.customers (customer_id, match_key, email, profile, provenance, created_at, updated_at)
         values (gen_random_uuid(), 'ghost@x.example', 'ghost@x.example', '{\"name\": \"Ghost\"}', '{}', now(), now())",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let damaged = world.row_versions().await;
    let foreseen = foresee(&world, &world.rules).await;
    assert_eq!(world.row_versions().await, damaged, "a look writes nothing");
    assert_eq!((foreseen.appear, foreseen.vanish, foreseen.change), (3, 1, 1), "{foreseen:?}");
    assert_eq!(foreseen.samples.iter().filter(|sample| sample.change == Change::Appears).count(), 3);

    let changed = rebuild(&world, &world.rules).await;
    assert_eq!(changed, Changed { appeared: 3, vanished: 1, changed: 1 });
    let ghost = world.customer("ghost@x.example").await.unwrap();
    assert!(!ghost["deleted_at"].is_null() && ghost["profile"] == json!({}));
    sqlx::query("delete from customer360.customers where match_key = 'ghost@x.example'")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(contents(&world).await, before);
    world.assert_counts_are_right("mended").await;
    assert_eq!(foresee(&world, &world.rules).await, Foreseen::default());
    let causes = "select distinct cause from customer360.changes order by 1";
    assert!(world.rows(causes).await.contains(&json!({"cause": "rebuild"})));
}

/// What tells where values are from, and who somebody is, is mended; profiles say what they said.
#[tokio::test]
async fn a_profile_with_the_same_values_has_not_changed() {
    let mut world = peopled().await;
    for event in [customer(4, 12).email("dan@x.example"), gone(4, 13)] {
        world.land("home_delivery", &[event]).await;
        world.consolidate().await;
    }
    let before = contents(&world).await;
    sqlx::raw_sql(
        "update customer360.customers set provenance = '{}' where match_key = 'ann@x.example';
         update customer360.customers set email = 'nobody@x.example' where match_key = 'bob@x.example';
         update customer360.customers set match_key = 'nobody@x.example' where match_key = 'cyd@x.example'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    assert_eq!(foresee(&world, &world.rules).await, Foreseen::default());
    assert_eq!(rebuild(&world, &world.rules).await, Changed::default());
    assert_eq!(contents(&world).await, before);

    sqlx::raw_sql(
        "update customer360.customers set profile = '{\"name\": \"Ghost\"}' where match_key = 'dan@x.example';
         update customer360.interaction_participants set match_key = 'dan@x.example', email = 'dan@x.example'
         where match_key = 'nobody@x.example'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    assert_eq!(foresee(&world, &world.rules).await.change, 1, "of him only a message is left");
    assert_eq!(rebuild(&world, &world.rules).await, Changed { appeared: 0, vanished: 0, changed: 1 });
}

/// Cross-references move window by window, so a profile may come and go on the way.
#[tokio::test]
async fn what_counts_is_what_became_of_a_profile_in_the_end() {
    let world = peopled().await;
    let recorded = record(&world, &world.rules).await.unwrap();
    sqlx::raw_sql(
        "insert into customer360.changes (customer_id, at, attribute, old, new, cause)
         select w.id::uuid, now() + interval '1 s', w.attribute, w.old, w.new, 'rebuild'
         from (values
             ('00000000-0000-0000-0000-000000000001', null, '{}'::jsonb, null), -- went
             ('00000000-0000-0000-0000-000000000001', null, null, '{}'::jsonb), -- and came back
             ('00000000-0000-0000-0000-000000000001', 'name', null, '1'),
             ('00000000-0000-0000-0000-000000000002', null, null, '{}'),        -- came
             ('00000000-0000-0000-0000-000000000002', 'name', null, '1'),
             ('00000000-0000-0000-0000-000000000003', null, null, '{}'),        -- came
             ('00000000-0000-0000-0000-000000000003', null, '{}', null),        -- and went
             ('00000000-0000-0000-0000-000000000004', 'name', '1', null),
             ('00000000-0000-0000-0000-000000000004', null, '{}', null)         -- went
         ) as w (id, attribute, old, new)",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let changed = rebuild::changed(&world.pool, recorded.rebuild_id).await.unwrap();
    assert_eq!(changed, Changed { appeared: 1, vanished: 1, changed: 1 });
}

#[tokio::test]
async fn a_rebuild_is_due_from_when_the_rules_change_until_one_is_done_under_them() {
    let mut world = World::new().await;
    world.catch_up().await;
    let said = [customer(1, 1).email("ann@x.example").attribute("name", "Ann"), customer(2, 2).email("bob@x.example")];
    world.land("home_delivery", &said).await;
    world.land("online_store", &[customer(1, 1).email("ann@x.example").attribute("name", "Ann S.")]).await;
    world.catch_up().await;
    let old = world.rules.clone();
    assert!(
        !rebuild_is_due(&world.pool, &old.fingerprint()).await.unwrap(),
        "a first installation has nothing to rebuild"
    );

    let mut new = rules();
    new.survivorship.prefer.reverse();
    new.guards = Guards::new(&["bob@*"], 10).unwrap();
    assert!(rebuild_is_due(&world.pool, &new.fingerprint()).await.unwrap());
    let foreseen = foresee(&world, &new).await;
    assert_eq!((foreseen.appear, foreseen.vanish, foreseen.change), (0, 1, 1));
    let mut consolidator = Consolidator::connect(&world.options).await.unwrap();
    while !consolidator.try_begin().await.unwrap() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(record(&world, &new).await, Err(Error::OtherRules)), "the one at work would go by the old rules");
    let mut connection = world.pool.acquire().await.unwrap();
    assert!(rebuild::is_refused(&mut connection, &new).await.unwrap(), "a dry run says so, too");
    assert!(!rebuild::is_refused(&mut connection, &old).await.unwrap());
    drop((connection, consolidator));

    world.rules = new.clone();
    world.catch_up().await;
    assert!(rebuild_is_due(&world.pool, &new.fingerprint()).await.unwrap(), "not every profile is made under them");
    assert!(rebuild_is_due(&world.pool, &old.fingerprint()).await.unwrap(), "some may be by now");
    assert_eq!(rebuild(&world, &new).await, Changed { appeared: 0, vanished: 1, changed: 1 });
    assert!(!rebuild_is_due(&world.pool, &new.fingerprint()).await.unwrap());
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"name": "Ann S."})));
    assert_eq!(world.xref("home_delivery", "2").await["unmatched_reason"], json!("blocked"));

    assert_eq!(rebuild(&world, &old).await, Changed { appeared: 1, vanished: 0, changed: 1 });
    assert!(world.document("bob@x.example").await.is_some(), "unblocked again");
}

#[tokio::test]
async fn a_rebuild_that_is_killed_goes_on_where_it_stopped() {
    let world = peopled().await;
    sqlx::raw_sql("update customer360.orders set customer_id = null").execute(&world.pool).await.unwrap();
    let recorded = record(&world, &world.rules).await.unwrap();
    let mut blocker = staging::connect(&world.options).await.unwrap();
    let mut holding = blocker.begin().await.unwrap();
    sqlx::query("select 1 from customer360.orders for update").execute(&mut *holding).await.unwrap();
    let killing = async {
        let kill = "select count(pg_terminate_backend(l.pid)) from pg_locks l
             where not l.granted and l.pid in (select pid from pg_stat_activity where datname = current_database())";
        while world.value(kill).await == json!(0) {
            tokio::task::yield_now().await;
        }
    };
    let both = async { tokio::join!(carry_out(&world, &world.rules, recorded.rebuild_id), killing) };
    let (killed, ()) = tokio::time::timeout(Duration::from_mins(1), both).await.unwrap();
    assert!(killed.is_err());
    holding.rollback().await.unwrap();
    let so_far = rebuild::progress(&world.pool, recorded.rebuild_id).await.unwrap();
    assert!(so_far.done > 0 && !so_far.finished, "{so_far:?}");

    let again = record(&world, &world.rules).await.unwrap();
    assert_eq!(again, rebuild::Recorded { rebuild_id: recorded.rebuild_id, goes_on: true });
    let progress = carry_out(&world, &world.rules, again.rebuild_id).await.unwrap();
    assert_eq!(progress, Progress { done: so_far.total, total: so_far.total, finished: true }, "nothing twice");
    assert!(!world.order("online_store", "100").await["customer_id"].is_null());
}
