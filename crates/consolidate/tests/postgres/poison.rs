//! Records that Postgres refuses, which nobody thought of at landing: a dead letter each, and their neighbours go on.

use model::{Entity, ExternalId, Mapped, Operation, Record};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::events::{customer, order};

/// A record with attributes that no mapping would let through.
fn poison(entity: Entity, id: &str, attributes: &str) -> Record {
    let mapped =
        Mapped { attributes: attributes.to_owned(), ..Mapped::bare(entity, ExternalId::from_text(id).unwrap()) };
    let position = customer(id, 1).model_position();
    let observed_at = chrono::DateTime::from_timestamp(1, 0).unwrap();
    Record { operation: Operation::Upsert, mapped, position, observed_at, moved_to: None, payload: None }
}

async fn dead_letters(world: &World) -> Vec<Value> {
    world.rows("select external_id, reason, state from staging.dead_letters order by external_id").await
}

fn dead_letter(id: &str) -> Value {
    json!({"external_id": id, "reason": "cannot_consolidate", "state": "parked"})
}

#[tokio::test]
async fn invariant_9_a_bad_record_never_stops_its_neighbours() {
    let mut world = World::new().await;
    let neighbours = |from: i64| (from..from + 20).map(|id| customer(id, 1).email(&format!("{id}@x.example")).record());
    let mut records: Vec<Record> = neighbours(0).collect();
    records.push(poison(Entity::Customer, "beyond numeric", r#"{"a": 1e200000}"#));
    records.extend(neighbours(20));
    records.push(poison(Entity::Customer, "nul", r#"{"a": "\u0000"}"#));
    records.push(poison(Entity::Product, "product", r#"{"name": null, "attributes": {"a": 1e200000}}"#));
    records.push(poison(Entity::Interaction, "interaction", r#"{"participants": [], "attributes": {"a": 1e-20000}}"#));
    records.push(order(10, 1).of_customer("1").lines(&[("p", "1", "2")]).record());
    world.land_records("store", &records).await;
    world.land("loyalty", &[customer("27", 1).email("1@x.example").attribute("loyaltyPoints", "47")]).await;

    let drained = world.consolidate().await;

    assert_eq!(drained.excluded, 4);
    let ids = ["beyond numeric", "interaction", "nul", "product"];
    assert_eq!(dead_letters(&world).await, ids.map(dead_letter));
    assert_eq!(world.value("select count(*) from customer360.documents").await, 40);
    assert_eq!(world.profile("1@x.example").await, Some(json!({"loyaltyPoints": "47"})));
    assert_ne!(world.order("store", "10").await["customer_id"], Value::Null);
    let batches = "select record_count, dead_letter_count,
                          (select coalesce(jsonb_agg(n order by n), '[]') from unnest(excluded) n) as excluded, consolidated_at is null as waits
                   from staging.batches order by batch_id";
    assert_eq!(
        world.rows(batches).await,
        [
            json!({"record_count": 41, "dead_letter_count": 4, "excluded": [20, 41, 42, 43], "waits": false}),
            json!({"record_count": 1, "dead_letter_count": 0, "excluded": [], "waits": false})
        ]
    );
    assert_eq!(world.consolidate().await.records, 0);
}

#[tokio::test]
async fn what_cannot_be_read_at_all_is_a_dead_letter_too() {
    let mut world = World::new().await;
    world
        .land_records(
            "store",
            &[
                poison(Entity::Customer, "customer", "[1]"),
                poison(Entity::Order, "order", r#"{"lines": 7}"#),
                poison(Entity::Product, "product", "7"),
                poison(Entity::Interaction, "interaction", "{}"),
                customer("fine", 1).email("ann@x.example").record(),
            ],
        )
        .await;
    assert_eq!(world.consolidate().await.excluded, 4);
    assert_eq!(dead_letters(&world).await, ["customer", "interaction", "order", "product"].map(dead_letter));
    assert!(world.document("ann@x.example").await.is_some());
}

#[tokio::test]
async fn numbers_that_would_not_fit_into_memory_when_they_are_summed_are_dead_letters() {
    let mut world = World::new().await;
    let with = |id, quantity, price| {
        let line = format!(r#"{{"product_id":"p","quantity":"{quantity}","unit_price":"{price}"}}"#);
        poison(
            Entity::Order,
            id,
            &format!(r#"{{"lines":[{line},{{"product_id":"q","quantity":"1","unit_price":"1"}}]}}"#),
        )
    };
    world
        .land_records(
            "store",
            &[
                with("endless", "1e999999999", "1"),
                with("minute", "1e-999999999", "1"),
                with("a product beyond numeric", "1e131000", "1e131000"),
                order("fine", 1).lines(&[("p", "1", "2")]).record(),
            ],
        )
        .await;
    assert_eq!(world.consolidate().await.excluded, 3);
    assert_eq!(dead_letters(&world).await, ["a product beyond numeric", "endless", "minute"].map(dead_letter));
    assert_eq!(world.order("store", "fine").await["total"], 2);
}

#[tokio::test]
async fn an_email_too_long_for_any_index_stops_nobody() {
    let mut rules = crate::support::rules();
    rules.polled_sources = vec!["online_store".to_owned()];
    let mut world = World::with(rules).await;
    // Nothing that compresses: an index takes 2,704 bytes of it at most, together with its neighbours in the key.
    let mut random = crate::support::random::Random::new(7);
    let mut noise =
        |length| (0..length).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap())).collect::<String>();
    let emails: Vec<String> = [1_900, 2_650, 2_680, 5_000].map(|length| format!("{}@x.example", noise(length))).into();
    let records = (1..).zip(&emails).map(|(id, email)| customer(id, 1).email(email).record());
    world
        .land_records(
            "store",
            &records.chain([customer("fine", 1).email("ann@x.example").record()]).collect::<Vec<_>>(),
        )
        .await;
    assert_eq!(world.consolidate().await.excluded, 3);
    assert!(world.document("ann@x.example").await.is_some() && world.document(&emails[0]).await.is_some());
}

#[tokio::test]
async fn a_dead_letter_names_no_value() {
    let mut world = World::new().await;
    let canary = r#"{"name": "Canary Person", "a": 1e200000}"#;
    world.land_records("store", &[poison(Entity::Customer, "1", canary)]).await;
    world.consolidate().await;
    let detail =
        "select d.detail || ' ' || coalesce(b.last_error, '') from staging.dead_letters d cross join staging.batches b";
    assert!(!world.value(detail).await.to_string().contains("Canary"));
}
