//! Products: the newest record wins.

use std::collections::BTreeMap;

use model::ProductFields;
use serde_json::json;

use crate::support::World;
use crate::support::events::{Event, Says, event};

fn widget(position: u64, name: &str) -> Event {
    let attributes = BTreeMap::from([("color".to_owned(), json!("red"))]);
    event(200, position, Says::Product(Some(ProductFields { name: Some(name.to_owned()), attributes })))
}

#[tokio::test]
async fn the_newest_record_of_a_product_wins_and_a_delete_can_be_outdone() {
    let mut world = World::new().await;
    world.land("store", &[widget(3, "New"), widget(1, "Old")]).await;
    world.consolidate().await;
    world.land("store", &[widget(2, "Late"), event(200, 1, Says::Product(None))]).await;
    world.consolidate().await;
    let products = "select name, attributes, deleted_at from customer360.products";
    let expected = |name: &str| json!({"name": name, "attributes": {"color": "red"}, "deleted_at": null});
    assert_eq!(world.rows(products).await, [expected("New")]);
    world.land("store", &[event(200, 4, Says::Product(None))]).await;
    world.consolidate().await;
    assert_ne!(world.rows(products).await[0]["deleted_at"], json!(null));
    world.land("store", &[widget(5, "Again")]).await;
    world.consolidate().await;
    assert_eq!(world.rows(products).await, [expected("Again")]);
}
