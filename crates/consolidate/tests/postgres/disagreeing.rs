//! What systems disagree about is kept with the profile, and counted.

use serde_json::{Value, json};

use crate::support::World;
use crate::support::events::{customer, gone};

const ANN: &str = "ann@x.example";

async fn disagreeing(world: &World) -> Value {
    world
        .value(
            "select s.disagreeing from customer360.customer_search s
             join customer360.customers c on c.customer_id = s.customer_id where c.match_key = 'ann@x.example'",
        )
        .await
}

#[tokio::test]
async fn what_systems_disagree_about_follows_also_where_the_profile_stays() {
    let mut world = World::new().await;
    world.land("home_delivery", &[customer(1029, 1).email(ANN).attribute("name", "Ann").attribute("phone", "1")]).await;
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("name", "Ann").attribute("phone", "")]).await;
    world.consolidate().await;
    assert_eq!(disagreeing(&world).await, json!([]), "who says nothing does not disagree");

    let before = world.customer(ANN).await.unwrap()["version"].clone();
    world.land("loyalty", &[customer("27", 2).attribute("name", "Annie").attribute("phone", "2")]).await;
    world.consolidate().await;
    assert_eq!(disagreeing(&world).await, json!(["name", "phone"]));
    world.assert_counts_are_right("disagreeing").await;
    world.land("loyalty", &[customer("27", 3).attribute("name", "Ann").attribute("phone", "2")]).await;
    world.consolidate().await;
    assert_eq!(disagreeing(&world).await, json!(["phone"]));
    let now = world.customer(ANN).await.unwrap();
    assert_eq!((&now["version"], &now["profile"]["name"]), (&before, &json!("Ann")), "the profile has not changed");

    world.land("loyalty", &[gone("27", 4)]).await;
    world.consolidate().await;
    assert_eq!(disagreeing(&world).await, json!([]));
    world.assert_counts_are_right("gone").await;
}

#[tokio::test]
async fn what_systems_disagreed_about_before_it_was_kept_is_found() {
    let mut world = World::new().await;
    world.land("home_delivery", &[customer(1029, 1).email(ANN).attribute("name", "Ann").attribute("Phone", "1")]).await;
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("name", "Annie").attribute("Phone", "2")]).await;
    world.land("loyalty", &[customer("28", 1).email("bob@x.example").attribute("name", "Bob")]).await;
    world.consolidate().await;
    sqlx::query("update customer360.customer_search set disagreeing = '{}'").execute(&world.pool).await.unwrap();
    let migration = include_str!("../../migrations/0016_disagreements_so_far.sql");
    sqlx::raw_sql(migration).execute(&world.pool).await.unwrap();
    assert_eq!(disagreeing(&world).await, json!(["Phone", "name"]));
    world.assert_counts_are_right("found").await;
}
