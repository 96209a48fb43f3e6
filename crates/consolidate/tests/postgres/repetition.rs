//! Everything once more changes nothing.

use serde_json::json;

use crate::support::World;
use crate::support::events::{Event, Says, customer, event, gone, order};

fn everything() -> Vec<Event> {
    let product = model::ProductFields { name: Some("Widget".to_owned()), ..model::ProductFields::default() };
    vec![
        customer(1, 1).email("ann@x.example").attribute("name", "Ann").attribute("city", "Bern"),
        customer(1, 2).attribute("name", "Anna").credential("d1"),
        customer(2, 3).email("bob@x.example").attribute("name", "Bob"),
        customer(2, 4).email("ann@x.example"),
        customer(3, 5).email("no email"),
        customer(4, 6).email("cyd@x.example").attribute("points", 1),
        gone(4, 7),
        order(10, 8).of_customer("1").lines(&[("p", "2", "1.10")]).document(json!({"id": 10})),
        order(10, 9).of_customer("2").document(json!({"id": 10, "paid": true})),
        order(11, 10).of_customer("nobody").lines(&[("p", "1", "?")]),
        event("p", 11, Says::Product(Some(product))),
        event("i", 12, Says::Interaction(Some(vec!["bob@x.example".to_owned(), "ANN@x.example".to_owned()]))),
    ]
}

#[tokio::test]
async fn consolidating_twice_changes_nothing() {
    let mut world = World::new().await;
    world.land("store", &everything()).await;
    assert!(world.consolidate().await.profiles > 0);
    let before = world.row_versions().await;

    assert_eq!(world.consolidate().await, consolidate::Drained::default());
    world.land("store", &everything()).await;
    let again = world.consolidate().await;

    assert_eq!((again.records, again.profiles), (12, 0));
    assert_eq!(world.row_versions().await, before);

    world.again = true;
    world.land("store", &everything()).await;
    assert_eq!(world.consolidate().await.profiles, 0, "as somebody asks for it");
    assert_eq!(world.row_versions().await, before);
}

#[tokio::test]
async fn what_somebody_asks_for_again_counts_as_it_is_read_by_now() {
    let mut world = World::new().await;
    let read = |mapped: &[(&str, [&str; 2])]| {
        let events = [1, 2].map(|offset| customer(1, offset).email("ann@x.example"));
        let with = |(event, at): (Event, usize)| {
            mapped.iter().fold(event, |event, (name, values)| event.attribute(name, values[at]))
        };
        events.into_iter().zip(0..).map(with).collect::<Vec<_>>()
    };
    world.land("store", &read(&[("city", ["Bern", "Rome"]), ("state", ["BE", "RM"])])).await;
    world.consolidate().await;
    let mapped = [("city", ["3000 Bern", "00100 Rome"]), ("region", ["BE", "RM"])];
    world.land("store", &read(&mapped)).await;
    world.consolidate().await;
    let profile = "select profile from customer360.customers";
    let stays = json!({"city": "Rome", "state": "RM", "region": "BE"});
    assert_eq!(world.value(profile).await, stays, "what comes twice by itself only fills what is missing");

    world.again = true;
    world.land("store", &read(&mapped)).await;
    world.consolidate().await;
    assert_eq!(world.value(profile).await, json!({"city": "00100 Rome", "region": "RM"}));
}

#[tokio::test]
async fn a_replay_in_another_order_and_other_batches_adds_no_row_version_and_no_change_entry() {
    let mut world = World::new().await;
    world.land("store", &everything()).await;
    world.consolidate().await;
    let before = world.row_versions().await;
    for event in everything().into_iter().rev() {
        world.land("store", &[event]).await;
        world.consolidate().await;
    }
    assert_eq!(world.row_versions().await, before);
}

#[tokio::test]
async fn a_newer_record_that_says_the_same_moves_its_position_and_leaves_the_profile_alone() {
    let mut world = World::new().await;
    let ann = |position| customer(1, position).email("ann@x.example").attribute("name", "Ann");
    world.land("store", &[ann(1)]).await;
    world.consolidate().await;
    let before = world.customer("ann@x.example").await;
    let old_position = world.xref("store", "1").await["position"].clone();
    world.land("store", &[ann(2)]).await;
    assert_eq!(world.consolidate().await.profiles, 0);
    assert_ne!(world.xref("store", "1").await["position"], old_position);
    assert_eq!(world.customer("ann@x.example").await, before);
}

#[tokio::test]
async fn folding_everything_anew_changes_nothing() {
    let mut world = World::new().await;
    world.land("store", &everything()).await;
    world.consolidate().await;
    let before = world.row_versions().await;
    world.mark(&["ann@x.example", "bob@x.example", "cyd@x.example", "never@heard.example"]).await;
    assert_eq!(world.consolidate().await.profiles, 0);
    assert_eq!(world.row_versions().await, before);
}

#[tokio::test]
async fn changes_tell_what_changed_on_a_profile_and_because_of_which_record() {
    let mut world = World::new().await;
    world
        .land("store", &[customer(1, 1).email("ann@x.example").attribute("name", "Ann").attribute("city", "Bern")])
        .await;
    world.consolidate().await;
    world.land("store", &[customer(1, 2).attribute("name", "Anna").attribute("city", serde_json::Value::Null)]).await;
    world.consolidate().await;
    world.land("store", &[gone(1, 3)]).await;
    world.consolidate().await;
    let changes = world
        .rows("select attribute, old, new, system, external_id, cause from customer360.changes order by change_id");
    let change = |attribute, old, new| json!({"attribute": attribute, "old": old, "new": new, "system": "store", "external_id": "1", "cause": "record"});
    assert_eq!(
        changes.await,
        [
            change(json!(null), json!(null), json!({"name": "Ann", "city": "Bern"})),
            change(json!("city"), json!("Bern"), json!(null)),
            change(json!("name"), json!("Ann"), json!("Anna")),
            change(json!(null), json!({"name": "Anna"}), json!(null)),
        ]
    );
    assert_eq!(world.customer("ann@x.example").await.unwrap()["version"], 3);
}
