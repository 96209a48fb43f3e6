//! Cross-references that change their email, come, go and come back.

use serde_json::json;

use crate::support::World;
use crate::support::events::{Event, customer, gone, moved, order};

fn ann(position: u64) -> Event {
    customer(1, position).email("ann@x.example").attribute("name", "Ann")
}

#[tokio::test]
async fn an_email_change_moves_the_cross_reference_and_its_orders_and_leaves_a_redirect() {
    let mut world = World::new().await;
    world.land("store", &[ann(1), order(10, 2).of_customer("1").lines(&[("p", "1", "5")])]).await;
    world.consolidate().await;
    let old = world.customer("ann@x.example").await.unwrap();
    assert_eq!(world.order("store", "10").await["customer_id"], old["customer_id"]);

    world.land("store", &[customer(1, 3).email("ann@y.example")]).await;
    world.consolidate().await;

    let new = world.customer("ann@y.example").await.unwrap();
    let old = world.customer("ann@x.example").await.unwrap();
    assert_ne!(old["deleted_at"], json!(null));
    assert_eq!(old["profile"], json!({}));
    assert_eq!(new["profile"], json!({"name": "Ann"}));
    assert_eq!(world.xref("store", "1").await["customer_id"], new["customer_id"]);
    assert_eq!(world.order("store", "10").await["customer_id"], new["customer_id"]);
    assert_eq!(world.follow(&old["customer_id"]).await, new["customer_id"]);
    assert_eq!(world.document("ann@x.example").await, None);

    world.land("store", &[customer(1, 4).email("ann@x.example")]).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"name": "Ann"})));
    assert_eq!(world.order("store", "10").await["customer_id"], old["customer_id"]);
    assert_eq!(
        world.follow(&old["customer_id"]).await,
        old["customer_id"],
        "a redirect of a living customer is not followed"
    );
    assert_eq!(world.follow(&new["customer_id"]).await, old["customer_id"]);
}

#[tokio::test]
async fn a_customer_who_keeps_somebody_has_no_redirect() {
    let mut world = World::new().await;
    world.land("store", &[ann(1)]).await;
    world.land("loyalty", &[customer("27", 1).email("ann@x.example").attribute("loyaltyPoints", "47")]).await;
    world.consolidate().await;
    world.land("store", &[customer(1, 2).email("ann@y.example")]).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"loyaltyPoints": "47"})));
    assert_eq!(world.profile("ann@y.example").await, Some(json!({"name": "Ann"})));
    assert_eq!(world.value("select count(*) from customer360.redirects").await, 0);
}

#[tokio::test]
async fn a_swap_of_emails_converges_in_both_orders_and_no_redirect_is_followed() {
    let swap = [customer(1, 3).email("bob@x.example"), customer(2, 4).email("ann@x.example")];
    for order in [[0, 1], [1, 0]] {
        for together in [true, false] {
            let mut world = World::new().await;
            let bob = customer(2, 2).email("bob@x.example").attribute("name", "Bob");
            world.land("store", &[ann(1), bob]).await;
            world.consolidate().await;
            for at in order {
                world.land("store", &[swap[at].clone()]).await;
                if !together {
                    world.consolidate().await;
                }
            }
            world.consolidate().await;
            assert_eq!(world.profile("bob@x.example").await, Some(json!({"name": "Ann"})));
            assert_eq!(world.profile("ann@x.example").await, Some(json!({"name": "Bob"})));
            for email in ["ann@x.example", "bob@x.example"] {
                let id = world.customer(email).await.unwrap()["customer_id"].clone();
                assert_eq!(world.follow(&id).await, id);
            }
        }
    }
}

#[tokio::test]
async fn the_last_cross_reference_gone_leaves_an_empty_row_that_keeps_its_orders_and_lives_again() {
    let mut world = World::new().await;
    world.land("store", &[ann(1).attribute("city", "Bern"), order(10, 2).of_customer("1")]).await;
    world.consolidate().await;
    world.land("store", &[gone(1, 3)]).await;
    world.consolidate().await;

    let customer_row = world.customer("ann@x.example").await.unwrap();
    assert_ne!(customer_row["deleted_at"], json!(null));
    assert_eq!((&customer_row["profile"], &customer_row["provenance"]), (&json!({}), &json!({})));
    assert_eq!(world.document("ann@x.example").await, None);
    let tombstone = world.xref("store", "1").await;
    assert_eq!(tombstone["customer_id"], customer_row["customer_id"]);
    assert_eq!(
        (&tombstone["attributes"], &tombstone["email"], &tombstone["match_key"]),
        (&json!({}), &json!(null), &json!(null))
    );
    assert_eq!(world.order("store", "10").await["customer_id"], customer_row["customer_id"]);

    world.land("store", &[customer(1, 2).attribute("phone", "1")]).await;
    world.consolidate().await;
    assert_ne!(world.xref("store", "1").await["deleted_at"], json!(null), "an older record revives nobody");

    world.land("store", &[ann(4)]).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"name": "Ann"})), "it starts from nothing");
    assert_eq!(world.customer("ann@x.example").await.unwrap()["customer_id"], customer_row["customer_id"]);
}

#[tokio::test]
async fn a_delete_removes_only_what_its_own_system_contributed() {
    let mut world = World::new().await;
    world.land("store", &[ann(1).attribute("phone", "1")]).await;
    world.land("loyalty", &[customer("27", 1).email("ann@x.example").attribute("loyaltyPoints", "47")]).await;
    world.consolidate().await;
    world.land("store", &[gone(1, 2)]).await;
    world.consolidate().await;
    assert_eq!(world.profile("ann@x.example").await, Some(json!({"loyaltyPoints": "47"})));
}

#[tokio::test]
async fn a_primary_key_change_carries_the_values_that_the_new_row_does_not_bring() {
    let create = || {
        let mut create = customer(2, 5).attribute("name", "Anna");
        create.position = (5, 0);
        create
    };
    let born = ann(1).attribute("bio", "long").credential("d1");
    for deliveries in [
        vec![vec![born.clone(), moved(1, 2, 5), create()]],
        vec![vec![create()], vec![born.clone()], vec![moved(1, 2, 5)]],
        vec![vec![born.clone()], vec![create()], vec![moved(1, 2, 5), moved(1, 2, 5)]],
    ] {
        let mut world = World::new().await;
        for events in deliveries {
            world.land("store", &events).await;
            world.consolidate().await;
        }
        assert_ne!(world.xref("store", "1").await["deleted_at"], json!(null));
        let new = world.xref("store", "2").await;
        assert_eq!(new["attributes"], json!({"name": "Anna", "bio": "long"}));
        assert_eq!((&new["email"], &new["credential"]), (&json!("ann@x.example"), &json!("d1")));
        assert_eq!(world.profile("ann@x.example").await, Some(json!({"name": "Anna", "bio": "long"})));
    }
}
