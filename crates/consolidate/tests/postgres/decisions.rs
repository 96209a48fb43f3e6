//! Operators' decisions: made, standing against later records, undone.

use serde_json::json;

use crate::support::World;
use crate::support::events::{customer, order};

const ANN: &str = "ann@x.example";
const BOB: &str = "bob@x.example";

async fn two_people() -> World {
    let mut world = World::new().await;
    let ann = customer(1, 1).email(ANN).attribute("name", "Ann").attribute("phone", "1");
    let bob = customer(2, 1).email(BOB).attribute("name", "Bob").observed_at(9);
    world.land("store", &[ann, bob, order(10, 2).of_customer("1")]).await;
    world.consolidate().await;
    world
}

#[tokio::test]
async fn a_merge_sends_one_match_key_to_the_customer_of_another_also_for_later_records_until_it_is_undone() {
    let mut world = two_people().await;
    let (ann, bob) = (world.customer(ANN).await.unwrap(), world.customer(BOB).await.unwrap());
    world.decide("merge", &[ANN, BOB], &[ANN]).await;
    world.land("loyalty", &[customer("27", 1).email("Ann@X.example").attribute("loyaltyPoints", "47")]).await;
    world.consolidate().await;

    let merged = json!({"name": "Bob", "phone": "1", "loyaltyPoints": "47"});
    assert_eq!(world.profile(BOB).await, Some(merged));
    assert_eq!(world.document(ANN).await, None);
    assert_eq!(world.follow(&ann["customer_id"]).await, bob["customer_id"]);
    assert_eq!(world.order("store", "10").await["customer_id"], bob["customer_id"]);
    assert_eq!(world.xref("store", "1").await["match_key"], ANN, "the match key stays what the email says");

    world.undo("merge", &[ANN, BOB], &[ANN]).await;
    world.mark(&[BOB]).await;
    world.consolidate().await;
    assert_eq!(world.profile(BOB).await, Some(json!({"name": "Bob"})));
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "Ann", "phone": "1", "loyaltyPoints": "47"})));
    assert_eq!(world.order("store", "10").await["customer_id"], ann["customer_id"]);
    assert_eq!(world.follow(&ann["customer_id"]).await, ann["customer_id"]);
}

#[tokio::test]
async fn merges_are_transitive() {
    let mut world = two_people().await;
    world.land("store", &[customer(3, 1).email("cyd@x.example").attribute("city", "Bern")]).await;
    world.decide("merge", &[ANN, BOB], &[ANN]).await;
    world.consolidate().await;
    world.decide("merge", &[BOB, "cyd@x.example"], &[BOB]).await;
    world.consolidate().await;
    assert_eq!(world.profile("cyd@x.example").await, Some(json!({"name": "Bob", "phone": "1", "city": "Bern"})));
    assert_eq!(world.value("select count(*) from customer360.documents").await, 1);
}

#[tokio::test]
async fn a_split_gives_a_cross_reference_a_customer_of_its_own_whatever_its_email_becomes_until_it_is_undone() {
    let mut world = World::new().await;
    let father = customer(1, 1).email("family@x.example").attribute("name", "Father");
    let son = customer(2, 1).email("family@x.example").attribute("name", "Son").attribute("phone", "2");
    world.land("store", &[father, son, order(10, 2).of_customer("2")]).await;
    world.consolidate().await;
    world.decide("split", &["store", "2"], &["family@x.example", "#store:2"]).await;
    world.consolidate().await;

    let alone = world.customer("#store:2").await.unwrap();
    assert_eq!(
        (&alone["profile"], &alone["email"]),
        (&json!({"name": "Son", "phone": "2"}), &json!("family@x.example"))
    );
    assert_eq!(world.customer("family@x.example").await.unwrap()["profile"], json!({"name": "Father"}));
    assert_eq!(world.order("store", "10").await["customer_id"], alone["customer_id"]);

    world.land("store", &[customer(2, 3).email("no email"), customer(1, 3).attribute("city", "Bern")]).await;
    world.consolidate().await;
    assert_eq!(world.customer("#store:2").await.unwrap()["email"], json!(null));
    let left = world.customer("family@x.example").await.unwrap();
    assert_eq!(left["profile"], json!({"name": "Father", "city": "Bern"}));

    world.land("store", &[customer(2, 4).email("family@x.example")]).await;
    world.undo("split", &["store", "2"], &["#store:2"]).await;
    world.consolidate().await;
    let together = world.profile("family@x.example").await;
    assert_eq!(together, Some(json!({"name": "Son", "phone": "2", "city": "Bern"})));
    assert_eq!(
        world.follow(&alone["customer_id"]).await,
        world.customer("family@x.example").await.unwrap()["customer_id"]
    );
}

#[tokio::test]
async fn a_split_gives_a_customer_also_to_a_cross_reference_that_matched_nobody() {
    let mut world = World::new().await;
    world.land("store", &[customer(1, 1).attribute("name", "Ann")]).await;
    world.consolidate().await;
    world.decide("split", &["store", "1"], &["#store:1"]).await;
    world.consolidate().await;
    assert_eq!(world.customer("#store:1").await.unwrap()["profile"], json!({"name": "Ann"}));
    world.undo("split", &["store", "1"], &["#store:1"]).await;
    world.consolidate().await;
    assert_eq!(world.xref("store", "1").await["unmatched_reason"], "no_email");
    assert_ne!(world.customer("#store:1").await.unwrap()["deleted_at"], json!(null));
}

#[tokio::test]
async fn a_block_holds_an_email_back_until_it_is_undone() {
    let mut world = two_people().await;
    world.decide("block", &[ANN], &[ANN]).await;
    world.consolidate().await;
    assert_eq!(world.xref("store", "1").await["unmatched_reason"], "blocked");
    assert_eq!(world.order("store", "10").await["customer_id"], json!(null));
    assert_eq!(world.document(ANN).await, None);

    world.land("loyalty", &[customer("27", 1).email(ANN)]).await;
    world.undo("block", &[ANN], &[ANN]).await;
    world.consolidate().await;
    let ann = world.customer(ANN).await.unwrap();
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "Ann", "phone": "1"})));
    assert_eq!(world.document(ANN).await.unwrap()["xrefs"].as_array().unwrap().len(), 2);
    assert_eq!(world.order("store", "10").await["customer_id"], ann["customer_id"]);
}
