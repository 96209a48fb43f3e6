//! Operators' edits of attributes: last write wins.

use serde_json::{Value, json};

use crate::support::World;
use crate::support::events::customer;

const ANN: &str = "ann@x.example";

async fn edit(world: &World, id: &str, attribute: &str, value: Value, replaced: Value) {
    sqlx::query(
        "insert into customer360.edits (system, external_id, attribute, value, replaced, at, by)
         values ('loyalty', $1, $2, $3, $4, now(), 'test')",
    )
    .bind(id)
    .bind(attribute)
    .bind(value)
    .bind(replaced)
    .execute(&world.pool)
    .await
    .unwrap();
    world.mark(&[ANN]).await;
}

#[tokio::test]
async fn an_edit_stands_first_in_rank_and_yields_once_the_source_changes_the_value() {
    let mut world = World::new().await;
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("name", "Ann").attribute("phone", "1")]).await;
    world.land("home_delivery", &[customer(1029, 1).email(ANN).attribute("name", "A. Smith")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "A. Smith", "phone": "1"})));

    edit(&world, "27", "name", json!("Annie"), json!("Ann")).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["name"], "Annie");

    world.land("loyalty", &[customer("27", 2).attribute("phone", "2")]).await;
    world.land("home_delivery", &[customer(1029, 2).attribute("name", "Ann Smith")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "Annie", "phone": "2"})), "others change, it stands");

    world.land("loyalty", &[customer("27", 3).attribute("name", "Anna")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["name"], "Ann Smith", "the source wins again");
}

#[tokio::test]
async fn an_edit_of_what_nobody_supplied_stands_and_moves_with_its_cross_reference() {
    let mut world = World::new().await;
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("name", "Ann")]).await;
    world.consolidate().await;
    edit(&world, "27", "segment", json!("gold"), Value::Null).await;
    world.consolidate().await;
    assert_eq!(world.profile(ANN).await.unwrap()["segment"], "gold");
    assert_eq!(
        world.customer(ANN).await.unwrap()["provenance"]["segment"],
        json!({"system": "loyalty", "external_id": "27"})
    );
    world.land("loyalty", &[customer("27", 2).email("ann@y.example")]).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@y.example").await, Some(json!({"name": "Ann", "segment": "gold"})));
}
