//! Who belongs to whom, who to nobody, and why.

use serde_json::{Value, json};

use crate::support::events::{Event, customer, gone, order};
use crate::support::{World, rules};

async fn reason(world: &World, id: &str) -> Value {
    let xref = world.xref("store", id).await;
    assert_eq!(xref["customer_id"].is_null(), !xref["unmatched_reason"].is_null());
    xref["unmatched_reason"].clone()
}

#[tokio::test]
async fn invariant_4_one_profile_per_match_key_one_cross_reference_per_id() {
    let mut world = World::new().await;
    for email in ["ann@x.example", " ANN@x.example", "Ann <ann@X.example>", "mailto:ann@x.example?subject=hi"] {
        for id in [1, 2, 3] {
            world.land(&format!("system {id}"), &[customer(id, 1).email(email), customer(&*id.to_string(), 2)]).await;
        }
        world.consolidate().await;
    }
    assert_eq!(world.value("select count(*) from customer360.customers").await, 1);
    assert_eq!(world.value("select count(*) from customer360.xrefs").await, 3);
    let ids = world.rows("select external_id_json as id from customer360.xrefs order by 1").await;
    assert_eq!(ids, [json!({"id": "1"}), json!({"id": "2"}), json!({"id": "3"})], "the type of the newest record");
}

#[tokio::test]
async fn a_cross_reference_without_a_usable_email_says_why_and_recovers_by_better_data() {
    let mut world = World::new().await;
    world
        .land(
            "store",
            &[
                customer(1, 1).attribute("name", "Ann"),
                customer(2, 1).email("ann at home").attribute("name", "Ann"),
                customer(3, 1).email("NoReply@shop.example").attribute("name", "Ann"),
                customer(4, 1).email("n/a").attribute("name", "Ann"),
                customer(5, 1).email("ann@x.example").attribute("name", "Ann"),
                customer(5, 2).email_cleared(),
            ],
        )
        .await;
    world.consolidate().await;
    let reasons = ["no_email", "invalid_email", "blocked", "blocked", "no_email"];
    for (id, expected) in ["1", "2", "3", "4", "5"].into_iter().zip(reasons) {
        assert_eq!(reason(&world, id).await, expected);
    }
    assert_eq!(world.value("select count(*) from customer360.documents").await, 0);

    let better = [1, 2, 3, 4, 5].map(|id| customer(id, 3).email("ann@x.example"));
    world.land("store", &better).await;
    world.consolidate().await;
    for id in ["1", "2", "3", "4", "5"] {
        assert_eq!(reason(&world, id).await, Value::Null);
    }
    assert_eq!(world.document("ann@x.example").await.unwrap()["xrefs"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_cross_reference_that_loses_its_email_leaves_its_customer_and_takes_its_orders_along() {
    let mut world = World::new().await;
    world.land("store", &[customer(1, 1).email("ann@x.example"), order(10, 2).of_customer("1")]).await;
    world.consolidate().await;
    world.land("store", &[customer(1, 3).email("nobody"), order(11, 4).of_customer("1")]).await;
    world.consolidate().await;
    assert_eq!(reason(&world, "1").await, "invalid_email");
    assert_eq!(world.document("ann@x.example").await, None);
    for order in ["10", "11"] {
        assert_eq!(world.order("store", order).await["customer_id"], Value::Null, "order {order}");
    }
}

#[tokio::test]
async fn a_shared_mailbox_is_crowded_until_it_is_resolved() {
    let mut rules = rules();
    rules.guards.max_xrefs_per_system = 2;
    let mut world = World::with(rules).await;
    let in_team =
        |id: i64, position| customer(id, position).email("team@x.example").attribute("name", format!("Member {id}"));
    world.land("store", &[in_team(1, 1), in_team(2, 1), order(10, 1).of_customer("1")]).await;
    world.land("loyalty", &[customer("27", 1).email("team@x.example").attribute("loyaltyPoints", "47")]).await;
    world.consolidate().await;
    let whose = world.customer("team@x.example").await.unwrap()["customer_id"].clone();
    assert_eq!(world.order("store", "10").await["customer_id"], whose, "two are no crowd");

    world.land("store", &[in_team(3, 2)]).await;
    world.consolidate().await;
    for id in ["1", "2", "3"] {
        assert_eq!(reason(&world, id).await, "crowded");
    }
    assert_eq!(world.profile("team@x.example").await, Some(json!({"loyaltyPoints": "47"})), "the other system stays");
    assert_eq!(world.order("store", "10").await["customer_id"], Value::Null);

    world.land("store", &[gone(2, 3)]).await;
    world.consolidate().await;
    assert_eq!((reason(&world, "1").await, reason(&world, "3").await), (Value::Null, Value::Null));
    assert_eq!(world.order("store", "10").await["customer_id"], whose);
}

#[tokio::test]
async fn an_operator_may_allow_a_crowd() {
    let mut rules = rules();
    rules.guards.max_xrefs_per_system = 1;
    let mut world = World::with(rules).await;
    let crowd: Vec<Event> = (1..=3).map(|id| customer(id, 1).email("team@x.example")).collect();
    world.land("store", &crowd).await;
    world.consolidate().await;
    assert_eq!(world.document("team@x.example").await, None);

    world.decide("allow", &["team@x.example"], &["team@x.example"]).await;
    world.consolidate().await;
    assert_eq!(world.document("team@x.example").await.unwrap()["xrefs"].as_array().unwrap().len(), 3);

    world.undo("allow", &["team@x.example"], &["team@x.example"]).await;
    world.consolidate().await;
    assert_eq!(reason(&world, "3").await, "crowded");
    assert_eq!(world.document("team@x.example").await, None);
}
