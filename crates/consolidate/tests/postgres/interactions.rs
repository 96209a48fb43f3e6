//! Interactions belong to every customer among their participants, whoever came first.

use serde_json::{Value, json};

use crate::support::World;
use crate::support::events::{Event, Says, customer, event, gone};

fn mail(position: u64, to: &[&str]) -> Event {
    event("m", position, Says::Interaction(Some(to.iter().map(|email| (*email).to_owned()).collect())))
}

async fn participants(world: &World) -> Vec<Value> {
    world
        .rows(
            "select p.email, c.match_key as customer
             from customer360.interaction_participants p
             left join customer360.customers c on c.customer_id = p.customer_id
             order by p.participant_no",
        )
        .await
}

#[tokio::test]
async fn participants_attach_whether_they_or_their_customer_came_first() {
    let sent = || mail(1, &["Ann <ann@x.example>", "BOB@x.example", "cyd@x.example", "n/a"]);
    let people = || vec![customer(1, 1).email("ann@x.example"), customer(2, 1).email("bob@x.example")];
    for mail_first in [true, false] {
        let mut world = World::new().await;
        let (first, second) = if mail_first { (vec![sent()], people()) } else { (people(), vec![sent()]) };
        world.land("crm", &first).await;
        world.consolidate().await;
        world.land("crm", &second).await;
        world.consolidate().await;
        assert_eq!(
            participants(&world).await,
            [
                json!({"email": "Ann <ann@x.example>", "customer": "ann@x.example"}),
                json!({"email": "BOB@x.example", "customer": "bob@x.example"}),
                json!({"email": "cyd@x.example", "customer": null}),
                json!({"email": "n/a", "customer": null}),
            ]
        );
        let kind = world.value("select type from customer360.interactions").await;
        assert_eq!(kind, "email");
    }
}

#[tokio::test]
async fn participants_follow_merges_and_leave_a_customer_who_is_gone() {
    let mut world = World::new().await;
    let people = [customer(1, 1).email("ann@x.example"), customer(2, 1).email("bob@x.example")];
    world.land("crm", &people).await;
    world.land("crm", &[mail(1, &["old-ann@x.example", "bob@x.example"])]).await;
    world.consolidate().await;
    world.decide("merge", &["old-ann@x.example", "ann@x.example"], &["old-ann@x.example"]).await;
    world.land("crm", &[gone(2, 2)]).await;
    world.consolidate().await;
    assert_eq!(
        participants(&world).await,
        [
            json!({"email": "old-ann@x.example", "customer": "ann@x.example"}),
            json!({"email": "bob@x.example", "customer": null})
        ]
    );
}

#[tokio::test]
async fn a_newer_record_replaces_the_participants_an_older_one_does_not_and_a_delete_removes_them() {
    let mut world = World::new().await;
    world.land("crm", &[mail(2, &["ann@x.example"])]).await;
    world.consolidate().await;
    world.land("crm", &[mail(1, &["bob@x.example", "cyd@x.example"])]).await;
    world.consolidate().await;
    assert_eq!(participants(&world).await, [json!({"email": "ann@x.example", "customer": null})]);
    world.land("crm", &[mail(3, &["bob@x.example"])]).await;
    world.consolidate().await;
    assert_eq!(participants(&world).await, [json!({"email": "bob@x.example", "customer": null})]);
    world.assert_counts_are_right("replaced").await;
    world.land("crm", &[event("m", 4, Says::Interaction(None))]).await;
    world.consolidate().await;
    assert!(participants(&world).await.is_empty());
    assert_ne!(world.value("select deleted_at from customer360.interactions").await, Value::Null);
}
