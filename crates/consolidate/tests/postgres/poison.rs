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
async fn totals_that_cannot_be_added_up_stop_neither_orders_nor_counting() {
    let mut world = World::new().await;
    let with_total = |id| poison(Entity::Order, id, r#"{"customer_external_id":"1","total":"9e131071"}"#);
    world.land("store", &[customer(1, 1).email("ann@x.example")]).await;
    world.land_records("store", &[with_total("a"), with_total("b")]).await;
    world
        .land_records("store", &[with_total("c"), order("fine", 1).of_customer("1").lines(&[("p", "1", "2")]).record()])
        .await;
    assert_eq!(world.consolidate().await.excluded, 0);
    let mut connection = world.pool.acquire().await.unwrap();
    consolidate::add_up_counts(&mut connection).await.unwrap();
    world.assert_counts_are_right("with totals that no shop has").await;
    let orders =
        "select sum(count)::bigint as orders, sum(value) as value from customer360.counts where measure = 'orders'";
    assert_eq!(world.rows(orders).await, [json!({"orders": 4, "value": 2})], "they count, without a value");
}

/// Each by itself would do; so the first stays, and of the others those that the first leaves room for.
#[tokio::test]
async fn records_that_are_refused_only_together_leave_one_by_one() {
    let mut world = World::new().await;
    sqlx::raw_sql(
        "create function customer360.one_product_of_a_name() returns trigger language plpgsql as $$
         begin
             if (select count(*) > 1 from customer360.products group by name order by 1 desc limit 1) then
                 raise check_violation;
             end if;
             return null;
         end $$;
         create trigger one_product_of_a_name after insert on customer360.products
             for each statement execute function customer360.one_product_of_a_name()",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let product = |id: &str, name| poison(Entity::Product, id, &format!(r#"{{"name": "{name}", "attributes": {{}}}}"#));
    let of = |name: &'static str, ids: [&str; 3]| ids.map(|id| product(id, name));
    let records = [of("x", ["1", "2", "3"]), of("y", ["4", "5", "6"])].concat();
    world.land_records("store", &records).await;
    world.land_records("store", &[product("7", "z")]).await;
    assert_eq!(world.consolidate().await.excluded, 4);
    assert_eq!(dead_letters(&world).await, ["2", "3", "5", "6"].map(dead_letter));
    let products = "select product_id from customer360.products order by 1";
    assert_eq!(world.rows(products).await, ["1", "4", "7"].map(|id| json!({"product_id": id})));
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
    world.consolidate().await;
    let unmatched = "select external_id, unmatched_reason from customer360.xrefs where customer_id is null order by 1";
    let invalid = |id: &str| json!({"external_id": id, "unmatched_reason": "invalid_email"});
    assert_eq!(world.rows(unmatched).await, ["2", "3", "4"].map(invalid));
    assert!(world.document("ann@x.example").await.is_some() && world.document(&emails[0]).await.is_some());

    // Nor does one of somebody who stands alone, and is folded without a look at the email.
    world.land("home_delivery", &[customer(7, 1).email("ann@x.example")]).await;
    world.consolidate().await;
    world.decide("split", &["home_delivery", "7"], &[]).await;
    world.land("home_delivery", &[customer(7, 2).email(&emails[3])]).await;
    world.land("home_delivery", &[customer(8, 1).email("bob@x.example")]).await;
    world.consolidate().await;
    assert!(world.document("bob@x.example").await.is_some());
    assert_eq!(
        world.value("select email from customer360.customers where match_key = '#home_delivery:7'").await,
        Value::Null
    );
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

/// Nothing is known that a profile could be refused for; so a trigger does.
#[tokio::test]
async fn a_profile_that_is_refused_stays_as_it_is_and_its_neighbours_go_on() {
    let mut world = World::new().await;
    let people = |position: u64| {
        let of = |(id, name): (i64, &str)| {
            customer(id, position).email(&format!("{name}@x.example")).attribute("v", position.to_string())
        };
        (1..).zip(["ann", "bob", "cyd"]).map(of).collect::<Vec<_>>()
    };
    world.land("store", &people(1)).await;
    world.consolidate().await;
    let refuse = "create function customer360.no_bob() returns trigger language plpgsql as $$
                  begin
                      raise check_violation;
                  end $$;
                  create trigger no_bob before update on customer360.customers
                      for each row when (new.email = 'bob@x.example') execute function customer360.no_bob()";
    sqlx::raw_sql(refuse).execute(&world.pool).await.unwrap();
    world.land("store", &people(2)).await;
    world.consolidate().await;
    let values = "select email || ' ' || (profile ->> 'v') as is from customer360.customers order by email";
    let expected = |bob: &str| ["ann@x.example 2", bob, "cyd@x.example 2"].map(|is| json!({"is": is}));
    assert_eq!(world.rows(values).await, expected("bob@x.example 1"));
    assert_eq!(world.value("select count(*) from customer360.dirty_marks").await, json!(0));
    sqlx::raw_sql("drop trigger no_bob on customer360.customers").execute(&world.pool).await.unwrap();
    world.mark(&["bob@x.example"]).await;
    world.consolidate().await;
    assert_eq!(world.rows(values).await, expected("bob@x.example 2"));
}
