//! Dead letters of answers, read again after the mapping has changed.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use model::mapping::Columns;
use model::{InstallationKey, Reason};
use poll_rest::Settings;
use serde_json::{Value, json};
use staging::Seal;
use staging::dead_letters::{self, Opened, Reread, Retried, Retrier};
use support::{World, ok, somebody};
use tokio_util::sync::CancellationToken;
use wiremock::ResponseTemplate;

impl World {
    async fn letters(&self) -> Vec<Opened> {
        let ids: Vec<i64> =
            sqlx::query_scalar("select dead_letter_id from staging.dead_letters where state = 'parked'")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        dead_letters::open(&self.pool, &Seal::new(&InstallationKey::new([7; 32])), &ids).await.unwrap()
    }

    async fn retry(&self, settings: &Settings) -> Retried {
        let ids: Vec<i64> = self.letters().await.iter().map(|opened| opened.letter.dead_letter_id).collect();
        let (mut lander, database, cancel) = (self.lander(), self.options(), CancellationToken::new());
        let mut retrier = Retrier {
            source: &settings.source,
            ttl: settings.ttl,
            files: None,
            database: &database,
            lander: &mut lander,
            cancel: &cancel,
        };
        retrier.retry(&ids, &|opened| poll_rest::reread(settings, opened)).await.unwrap()
    }

    /// All that is landed, but for where and when it is staged.
    async fn landed(&self) -> Vec<Value> {
        self.column(
            "select to_jsonb(r) - '{batch_id,ordinal,landed_at,expires_at,position,observed_at}'::text[]
             from staging.records r order by entity, external_id",
        )
        .await
    }
}

/// A customer and two orders by whom the mappings are tried: the customer's answer has no email, the orders no customer.
async fn odd(world: &World) {
    let customer = json!({"Id": 1, "Score": 1.5, "Name": "Ann", "Password": "s3cret"});
    world.customer("ann@x.example", ok(&customer)).await;
    let item = |product: u32, count: &str| json!({"ProductId": product, "Quantity": 1, "Count": count, "Price": 2});
    let orders = json!([{"OrderId": 1, "Items": [item(200, "two")]}, {"OrderId": 2, "Items": [item(201, "3")]}]);
    world.orders("1", ok(&orders)).await;
}

/// Under which the customer is bad.
fn by_score(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.customer.as_mut().unwrap().external_id = Columns::One("Score".to_owned());
    settings
}

/// Under which the first order is bad.
fn by_count(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    "Count".clone_into(&mut settings.order.as_mut().unwrap().lines.as_mut().unwrap().quantity);
    settings
}

#[tokio::test]
async fn an_answer_lands_again_as_it_would_have_and_at_its_own_time() {
    let mut world = World::new().await;
    odd(&world).await;
    world.offer(&["ann@x.example"]).await;
    let fine = world.settings.clone();
    world.settings = by_score(&fine);
    let summary = world.poll_due().await;
    assert_eq!((summary.dead_letters, summary.records), (1, 0));
    assert_eq!(world.retry(&by_score(&fine)).await.still_bad.values().sum::<u64>(), 1);
    let letters = world.letters().await;
    assert_eq!(letters[0].letter.origin.as_object().unwrap().len(), 1, "the request and nothing else");

    let retried = world.retry(&fine).await;
    assert_eq!((retried.landed, retried.records), (1, 1));
    let landed = world.landed().await;
    assert_eq!((&landed[0]["email"], &landed[0]["external_id"]), (&json!("ann@x.example"), &json!("1")));
    assert!(!landed[0].to_string().contains("s3cret"));

    // The next answer is newer.
    world.settings = fine;
    world.time_passes().await;
    world.poll_due().await;
    let positions = world
        .column("select encode(position, 'hex') from staging.records where entity = 'customer' order by landed_at")
        .await;
    assert!(positions.len() == 2 && positions[0].as_str() < positions[1].as_str(), "{positions:?}");
    let twice = "select count(*) from (
            select distinct to_jsonb(r) - '{batch_id,ordinal,landed_at,expires_at,position,observed_at}'::text[]
            from staging.records r where entity = 'customer') d";
    assert_eq!(world.value(twice).await, 1, "and says the same");
}

#[tokio::test]
async fn an_order_lands_again_with_the_customer_that_it_was_asked_for_and_its_products_become_due() {
    let mut world = World::new().await;
    odd(&world).await;
    world.offer(&["ann@x.example"]).await;
    let fine = world.settings.clone();
    world.settings = by_count(&fine);
    let summary = world.poll_due().await;
    assert_eq!((summary.dead_letters, summary.records), (1, 2), "the customer and the good order");
    let due = "select product_id from staging.polled_products order by product_id";
    assert_eq!(world.column(due).await, [json!("201")]);
    let retried = world.retry(&fine).await;
    assert_eq!((retried.landed, retried.records, retried.still_bad.len()), (1, 1, 0));
    let order = "select attributes::jsonb->>'customer_external_id' from staging.records where external_id = '1' and entity = 'order'";
    assert_eq!(world.value(order).await, "1");
    assert_eq!(world.column(due).await, [json!("200"), json!("201")]);
}

#[tokio::test]
async fn what_lies_in_a_customers_record_lands_again_with_it_and_its_bad_parts_by_themselves() {
    let mut world = World::new().await;
    let fine = {
        let mut settings = world.settings.clone();
        let order = settings.order.as_mut().unwrap();
        (order.request, order.records) = (None, Some("Orders".to_owned()));
        settings
    };
    let item = |count: &str| json!({"ProductId": 200, "Quantity": count, "Price": 2});
    let orders = json!([{"OrderId": 1, "Items": [item("1")]}, {"OrderId": 2, "Items": [item("two")]}]);
    let customer = json!({"Id": 1, "Score": 1.5, "Name": "Ann", "Email": "ann@x.example", "Orders": orders});
    world.customer("ann@x.example", ok(&customer)).await;
    world.offer(&["ann@x.example"]).await;
    world.settings = by_score(&fine);
    assert_eq!(world.poll_due().await.dead_letters, 1);
    let retried = world.retry(&fine).await;
    assert_eq!(
        (retried.landed, retried.records, retried.parts),
        (1, 2, 1),
        "the customer and an order, without the other"
    );
    let left = world.letters().await;
    assert_eq!((left.len(), left[0].letter.external_id.as_deref()), (1, Some("2")));
    let mut lenient = fine.clone();
    lenient.order.as_mut().unwrap().lines = None;
    assert_eq!(world.retry(&lenient).await.records, 1);
    let owners = "select attributes::jsonb->>'customer_external_id' from staging.records where entity = 'order'";
    assert_eq!(world.column(owners).await, [json!("1"), json!("1")]);
}

#[tokio::test]
async fn what_is_no_json_stays_parked_and_what_has_no_mapping_any_more_cannot_be_retried() {
    let world = World::new().await;
    world.customer("ann@x.example", ResponseTemplate::new(200).set_body_raw("<html>", "application/json")).await;
    world.customer("bob@x.example", ok(&somebody(2, "bob@x.example"))).await;
    world.orders("2", ResponseTemplate::new(200).set_body_raw("[1", "application/json")).await;
    world.offer(&["ann@x.example", "bob@x.example"]).await;
    assert_eq!(world.poll_due().await.dead_letters, 2);
    assert_eq!(world.retry(&world.settings).await.still_bad, [("not_json", 2)].into());
    let mut without = world.settings.clone();
    without.order = None;
    let retried = world.retry(&without).await;
    assert_eq!((retried.still_bad.len(), retried.cannot.values().sum::<u64>()), (1, 1));
    for opened in world.letters().await {
        assert!(
            matches!(poll_rest::reread(&world.settings, &opened), Reread::StillBad(bad) if bad.reason == Reason::NotJson)
        );
    }
}

#[tokio::test]
async fn an_answer_that_only_the_database_refuses_is_kept_as_the_record_that_it_was() {
    let world = World::new().await;
    world.execute("alter table staging.records add constraint unforeseen check (external_id <> '2')").await;
    world.customer("bob@x.example", ok(&somebody(2, "bob@x.example"))).await;
    world.orders("2", ok(&json!([]))).await;
    world.offer(&["bob@x.example"]).await;
    assert_eq!(world.poll_due().await.dead_letters, 1);
    assert_eq!(world.retry(&world.settings).await.still_bad, [("bad_value", 1)].into());
    world.execute("alter table staging.records drop constraint unforeseen").await;
    assert_eq!(world.retry(&world.settings).await.records, 1);
    let landed = world.landed().await;
    assert_eq!((&landed[0]["email"], &landed[0]["external_id"]), (&json!("bob@x.example"), &json!("2")));
    assert!(landed[0]["credential"].as_str().is_some_and(|digest| digest.len() == 64), "replaced once");
}
