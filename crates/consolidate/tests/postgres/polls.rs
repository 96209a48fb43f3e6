//! Whom pollers are told to ask about: the usable match keys of living cross-references.

use serde_json::{Value, json};

use crate::support::events::{customer, gone};
use crate::support::{World, rules};

async fn polled() -> World {
    let mut rules = rules();
    rules.polled_sources = vec!["online_store".to_owned()];
    World::with(rules).await
}

async fn polls(world: &World) -> Vec<Value> {
    world.rows("select source, match_key, email, state from staging.polls order by source, match_key").await
}

fn due(source: &str, match_key: &str, email: &str) -> Value {
    json!({"source": source, "match_key": match_key, "email": email, "state": "due"})
}

#[tokio::test]
async fn emails_are_offered_as_the_newest_writes_them_and_withdrawn_with_the_last() {
    let mut world = polled().await;
    world.land("store", &[customer(1, 1).email(" Ann@X.example ").observed_at(1), customer(2, 1).email("n/a")]).await;
    world.consolidate().await;
    assert_eq!(polls(&world).await, [due("online_store", "ann@x.example", "Ann@X.example")]);

    world.land("loyalty", &[customer("27", 1).email("ANN@x.example").observed_at(5)]).await;
    world.consolidate().await;
    assert_eq!(polls(&world).await, [due("online_store", "ann@x.example", "ANN@x.example")]);

    sqlx::query("update staging.polls set state = 'known', external_id = '7'").execute(&world.pool).await.unwrap();
    world.land("loyalty", &[gone("27", 2)]).await;
    world.consolidate().await;
    let known = world.rows("select email, state, external_id from staging.polls").await;
    assert_eq!(known, [json!({"email": "Ann@X.example", "state": "known", "external_id": "7"})], "what is known stays");

    world.land("store", &[customer(1, 2).email("ann@y.example")]).await;
    world.consolidate().await;
    assert_eq!(polls(&world).await, [due("online_store", "ann@y.example", "ann@y.example")]);
    world.land("store", &[gone(1, 3)]).await;
    world.consolidate().await;
    assert!(polls(&world).await.is_empty());
}

#[tokio::test]
async fn a_new_source_is_offered_all_that_is_known_and_one_that_returns_what_it_missed() {
    let mut world = polled().await;
    world.land("store", &[customer(1, 1).email("ann@x.example"), customer(2, 1).email("bob@x.example")]).await;
    world.catch_up().await;
    world.rules.polled_sources = vec!["crm".to_owned()];
    world.land("store", &[customer(3, 1).email("cyd@x.example")]).await;
    world.catch_up().await;
    let of = |source| world.rows(source);
    let crm = of("select match_key from staging.polls where source = 'crm' order by 1").await;
    assert_eq!(crm, ["ann", "bob", "cyd"].map(|who| json!({"match_key": format!("{who}@x.example")})));

    world.rules.polled_sources = vec!["crm".to_owned(), "online_store".to_owned()];
    world.catch_up().await;
    assert_eq!(world.value("select count(*) from staging.polls where source = 'online_store'").await, 3);
    let before = world.row_versions().await;
    assert_eq!(world.catch_up().await, consolidate::Drained::default());
    assert_eq!(world.row_versions().await, before);
}

#[tokio::test]
async fn a_cross_reference_that_was_split_off_is_no_email_to_ask_about() {
    let mut world = polled().await;
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    world.decide("split", &["store", "1"], &["ann@x.example", "#store:1"]).await;
    world.catch_up().await;
    assert!(polls(&world).await.is_empty());
}
