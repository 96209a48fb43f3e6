//! What polling lands, what it leaves alone, and in which order it asks.

mod support;

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use embedded_postgres::test::eventually;
use model::{Credentials, InstallationKey};
use serde_json::{Value, json};
use support::{CUSTOMER, ORDERS, PRODUCT, SOURCE, World, matthew, ok, orders_of_matthew, somebody, status};
use tokio_util::sync::CancellationToken;
use wiremock::Mock;
use wiremock::matchers::{header, path};

const MATTHEW: &str = "matthew.groves@couchbase.com";

#[tokio::test]
async fn a_customer_lands_with_orders_and_products() {
    let world = World::new().await;
    world.matthew().await;
    world.offer(&[MATTHEW]).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.asked, summary.known, summary.products, summary.records), (1, 1, 1, 3));
    assert!(summary.reached && !summary.has_failed());
    let landed = world.column("select array[entity, external_id, email] from staging.records order by entity").await;
    assert_eq!(
        landed,
        [json!(["customer", "1", MATTHEW]), json!(["order", "1", null]), json!(["product", "200", null])]
    );
    let payloads = world.column("select payload::jsonb from staging.records order by entity").await;
    assert_eq!(payloads[1], orders_of_matthew()[0]);
    assert_eq!(payloads[0]["Name"], "Matthew Groves");
    assert_eq!(
        payloads[0]["Password"],
        world.value("select credential from staging.records where entity = 'customer'").await
    );
    assert!(!payloads[0].to_string().contains("edzchzmatv5"));
    let origin = world.value("select origin from staging.batches order by batch_id limit 1").await;
    assert_eq!(origin, json!({ "request": CUSTOMER }));
    let poll = world.poll(MATTHEW).await;
    assert_eq!((poll.state.as_str(), poll.external_id.as_deref(), poll.failures), ("known", Some("1"), 0));
    let pause = poll.next_at - poll.checked_at.unwrap();
    assert!((pause - TimeDelta::days(1)).abs() < TimeDelta::minutes(1), "{pause}");
    let product = world.value("select state from staging.polled_products where product_id = '200'").await;
    assert_eq!(product, "known");
    let said = world.value("select health from staging.sources").await;
    assert_eq!((&said["breaker"], &said["polls_due"], &said["stopped"]), (&json!("closed"), &json!(0), &json!([])));

    let again = world.poll_due().await;
    assert_eq!((again.requests, again.has_failed()), (0, false), "nothing is due, and that is no failure");
}

#[tokio::test]
async fn an_unchanged_answer_lands_nothing_but_its_own_poll() {
    let world = World::new().await;
    world.matthew().await;
    world.offer(&[MATTHEW]).await;
    world.poll_due().await;
    let (first, batches) = (world.poll(MATTHEW).await, world.count("batches").await);

    world.time_passes().await;
    let summary = world.poll_due().await;

    assert_eq!((summary.known, summary.products, summary.records), (1, 1, 0));
    assert_eq!((world.count("batches").await, world.count("records").await), (batches, 3));
    assert!(world.poll(MATTHEW).await.checked_at > first.checked_at);
    assert_eq!(world.requests(ORDERS).await, 2);

    world.store.reset().await;
    world.customer(MATTHEW, ok(&json!({"Id": 1, "Name": "Matt", "Email": MATTHEW, "Password": "edzchzmatv5"}))).await;
    world.orders("1", ok(&orders_of_matthew())).await;
    world.product("200", status(404)).await;
    world.time_passes().await;
    assert_eq!(world.poll_due().await.records, 1, "the customer has changed, the orders have not");
    let positions =
        world.column("select position from staging.records where entity = 'customer' order by landed_at").await;
    assert!(positions[0].as_str() < positions[1].as_str());
}

#[tokio::test]
async fn an_etag_is_sent_back_and_not_modified_lands_nothing() {
    let world = World::new().await;
    let not_modified = |at: &'static str, tag: &'static str| {
        Mock::given(path(at)).and(header("if-none-match", tag)).respond_with(status(304)).expect(1)
    };
    not_modified(CUSTOMER, "\"c1\"").mount(&world.store).await;
    not_modified(ORDERS, "\"o1\"").mount(&world.store).await;
    not_modified(PRODUCT, "W/\"p1\"").mount(&world.store).await;
    world.customer(MATTHEW, ok(&matthew()).insert_header("etag", "\"c1\"")).await;
    world.orders("1", ok(&orders_of_matthew()).insert_header("etag", "\"o1\"")).await;
    world.product("200", ok(&json!({"ProductId": 200})).insert_header("etag", "W/\"p1\"")).await;
    world.offer(&[MATTHEW]).await;
    assert_eq!(world.poll_due().await.records, 3);

    world.time_passes().await;
    let summary = world.poll_due().await;

    assert_eq!((summary.known, summary.products, summary.records), (1, 1, 0));
    world.store.verify().await;
}

#[tokio::test]
async fn new_emails_come_first_then_the_longest_due() {
    let mut world = World::new().await;
    world.settings.concurrency = 1;
    world.offer(&["b@x.com", "a@x.com", "c@x.com", "new@x.com", "later@x.com"]).await;
    world
        .execute(
            "update staging.polls set state = 'known', checked_at = now() - interval '2 days',
                 next_at = now() + case match_key when 'a@x.com' then interval '-3 hours' when 'b@x.com' then interval '-1 hour'
                     when 'c@x.com' then interval '-2 hours' else interval '1 hour' end
             where match_key <> 'new@x.com'",
        )
        .await;

    assert_eq!(world.poll_due().await.unknown, 4);

    let requests = world.store.received_requests().await.unwrap();
    let asked: Vec<String> =
        requests.iter().map(|request| request.url.query_pairs().next().unwrap().1.into()).collect();
    assert_eq!(asked, ["new@x.com", "a@x.com", "c@x.com", "b@x.com"]);
}

#[tokio::test]
async fn whoever_the_source_does_not_know_is_asked_about_at_growing_intervals() {
    let world = World::new().await;
    world.offer(&["nobody@x.com"]).await;
    for days in [1, 2, 4, 8, 16, 30, 30] {
        let summary = world.poll_due().await;
        assert_eq!((summary.unknown, summary.failing, summary.has_failed()), (1, 0, false));
        let poll = world.poll("nobody@x.com").await;
        assert_eq!(poll.state, "unknown");
        let pause = poll.next_at - poll.checked_at.unwrap();
        assert!((pause - TimeDelta::days(days)).abs() < TimeDelta::minutes(1), "{pause} is not {days} days");
        world.time_passes().await;
    }
    assert_eq!((world.count("batches").await, world.count("dead_letters").await), (0, 0));

    world.customer("nobody@x.com", ok(&somebody(5, "nobody@x.com"))).await;
    assert_eq!(world.poll_due().await.known, 1);
    world.store.reset().await;
    world.time_passes().await;
    world.poll_due().await;
    let poll = world.poll("nobody@x.com").await;
    assert!(poll.next_at - poll.checked_at.unwrap() < TimeDelta::hours(25), "the count begins again");
}

#[tokio::test]
async fn an_error_in_an_answer_with_status_200_advances_nothing() {
    let world = World::new().await;
    world.matthew().await;
    world.offer(&[MATTHEW]).await;
    world.poll_due().await;
    let before = world.poll(MATTHEW).await;
    let batches = world.count("batches").await;
    for (failures, body) in (1..).zip([json!(null), json!({}), json!({"error": "no database"}), json!({"Id": null})]) {
        world.store.reset().await;
        world.customer(MATTHEW, ok(&body)).await;
        world.polls_are_due().await;

        let summary = world.poll_due().await;

        assert_eq!((summary.failing, summary.reached, summary.has_failed()), (1, false, true), "{body}");
        let poll = world.poll(MATTHEW).await;
        assert_eq!((poll.state.as_str(), poll.external_id.as_deref(), poll.failures), ("failing", Some("1"), failures));
        assert_eq!(poll.checked_at, before.checked_at);
        assert!(poll.next_at < Utc::now() + TimeDelta::minutes(1), "it is asked again soon");
    }
    assert_eq!((world.count("batches").await, world.count("dead_letters").await), (batches, 0));

    world.store.reset().await;
    world.matthew().await;
    world.polls_are_due().await;
    let summary = world.poll_due().await;
    assert_eq!((summary.known, summary.records), (1, 0), "the answer is the one from before the errors");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_one_dead_letter_however_often_it_comes() {
    let world = World::new().await;
    world.customer("garbage@x.com", status(200).set_body_raw("{\"Id\": 7, canary", "application/json")).await;
    world.customer("bad-id@x.com", ok(&json!({"Id": 1.5, "Email": "canary"}))).await;
    world.offer(&["garbage@x.com", "bad-id@x.com"]).await;
    for _ in 0..3 {
        assert_eq!(world.poll_due().await.failing, 2);
        world.time_passes().await;
    }
    let letters =
        world.column("select array[reason, detail, origin::text] from staging.dead_letters order by reason").await;
    let origin = json!({ "request": CUSTOMER }).to_string().replace("\":\"", "\": \"");
    assert_eq!(
        letters,
        [
            json!(["bad_external_id", "column Id is neither an integer nor a string", origin]),
            json!(["not_json", "not valid JSON", origin]),
        ]
    );

    world.store.reset().await;
    world.customer("garbage@x.com", status(200).set_body_raw("{\"Id\": 7, another", "application/json")).await;
    world.poll_due().await;
    assert_eq!(world.count("dead_letters").await, 3, "other garbage is another dead letter");
}

#[tokio::test]
async fn a_bad_order_lands_as_a_dead_letter_beside_its_neighbours() {
    let world = World::new().await;
    let mut orders = orders_of_matthew();
    orders.as_array_mut().unwrap().push(json!({"OrderId": 2, "CustomerId": 1, "Items": [{"Quantity": "two"}]}));
    orders.as_array_mut().unwrap().push(json!({"CustomerId": 1}));
    world.customer(MATTHEW, ok(&matthew())).await;
    world.orders("1", ok(&orders)).await;
    world.product("200", ok(&json!({"ProductId": 200}))).await;
    world.offer(&[MATTHEW]).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.known, summary.records, summary.dead_letters), (1, 3, 2));
    let letters = world.column("select array[reason, external_id] from staging.dead_letters order by reason").await;
    assert_eq!(letters, [json!(["bad_value", "2"]), json!(["no_external_id", null])]);

    world.store.reset().await;
    orders.as_array_mut().unwrap().push(json!({"OrderId": 3, "CustomerId": 1}));
    world.customer(MATTHEW, ok(&matthew())).await;
    world.orders("1", ok(&orders)).await;
    world.time_passes().await;
    let summary = world.poll_due().await;
    assert_eq!((summary.records, summary.dead_letters), (2, 0), "the bad ones are known, the list has changed");
}

#[tokio::test]
async fn bad_elements_that_differ_in_a_value_only_are_as_many_dead_letters_whatever_becomes_of_credentials() {
    for credentials in [Credentials::digest(&InstallationKey::new([7; 32])), Credentials::Drop, Credentials::Keep] {
        let mut world = World::new().await;
        world.settings.context.credentials = credentials;
        world.customer(MATTHEW, ok(&matthew())).await;
        world.orders("1", ok(&json!([{"OrderId": 1.5}, {"OrderId": 2.5}, {"OrderId": 3.5}]))).await;
        world.offer(&[MATTHEW]).await;

        let summary = world.poll_due().await;

        assert_eq!((summary.records, summary.dead_letters), (1, 3));
        world.time_passes().await;
        assert_eq!(world.poll_due().await.dead_letters, 0, "they are parked once");
        let kept = world.value("select string_agg(validators::text, '') from staging.polls").await;
        assert!(!kept.to_string().contains("edzchzmatv5"));
    }
}

#[tokio::test]
async fn an_answer_with_another_email_goes_there_and_leaves_the_asked_one_unknown() {
    let world = World::new().await;
    world.customer("old@x.com", ok(&somebody(4, "new@x.com"))).await;
    world.customer("same@x.com", ok(&somebody(5, " Same@X.com "))).await;
    world.customer("none@x.com", ok(&json!({"Id": 6, "Name": "N"}))).await;
    world.customer("null@x.com", ok(&json!({"Id": 7, "Email": null}))).await;
    for id in ["4", "5", "6", "7"] {
        world.orders(id, ok(&json!([]))).await;
    }
    world.offer(&["old@x.com", "same@x.com", "none@x.com", "null@x.com"]).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.unknown, summary.known), (1, 3));
    let emails = world.column("select email from staging.records order by external_id").await;
    assert_eq!(emails, ["new@x.com", " Same@X.com ", "none@x.com", "null@x.com"]);
    let old = world.poll("old@x.com").await;
    assert_eq!((old.state.as_str(), old.external_id), ("unknown", None));
    world.time_passes().await;
    assert_eq!(world.poll_due().await.records, 0, "all of it is known");
}

#[tokio::test]
async fn an_email_that_changes_and_changes_back_lands_whatever_each_of_the_two_said_last() {
    let mut world = World::new().await;
    world.settings.order = None;
    world.offer(&["old@x.com", "new@x.com"]).await;
    let (tagged, all_due) = (ok(&somebody(1, "old@x.com")).insert_header("etag", "\"1\""), "true");
    for (answered, email, due) in [
        (tagged.clone(), "old@x.com", all_due),
        (ok(&somebody(1, "new@x.com")), "new@x.com", "match_key = 'new@x.com'"),
        (tagged, "old@x.com", all_due),
    ] {
        world.store.reset().await;
        let same = Mock::given(header("if-none-match", "\"1\"")).respond_with(status(304));
        if email == "old@x.com" {
            same.mount(&world.store).await;
        }
        world.customer(email, answered).await;
        world.execute(&format!("update staging.polls set next_at = now() - interval '1 hour' where {due}")).await;
        assert_eq!(world.poll_due().await.records, 1, "{email}");
    }
    let landed = world.column("select email from staging.records order by position").await;
    assert_eq!(landed, ["old@x.com", "new@x.com", "old@x.com"]);

    world.time_passes().await;
    assert_eq!(world.poll_due().await.records, 0, "and what stays as it is lands no more");
}

#[tokio::test]
async fn one_customer_whom_a_source_without_emails_gives_for_two_stays_where_it_is() {
    let mut world = World::new().await;
    world.settings.order = None;
    world.offer(&["one@x.com", "other@x.com"]).await;
    for email in ["one@x.com", "other@x.com"] {
        world.customer(email, ok(&json!({"Id": 1, "Name": "Some Body"}))).await;
    }
    assert_eq!(world.poll_due().await.records, 2);
    world.time_passes().await;
    assert_eq!(world.poll_due().await.records, 0);
}

#[tokio::test]
async fn a_customer_is_kept_when_the_orders_fail_and_the_orders_come_later() {
    let world = World::new().await;
    world.customer(MATTHEW, ok(&matthew())).await;
    world.orders("1", status(404)).await;
    world.orders("8", status(418)).await;
    world.customer("eight@x.com", ok(&somebody(8, "eight@x.com"))).await;
    world.offer(&[MATTHEW, "eight@x.com"]).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.known, summary.failing, summary.records), (1, 1, 2));
    assert!(summary.reached && !summary.has_failed());
    let poll = world.poll("eight@x.com").await;
    assert_eq!((poll.state.as_str(), poll.external_id.as_deref(), poll.failures), ("due", Some("8"), 1));
    assert!(poll.next_at < Utc::now() + TimeDelta::minutes(1));

    world.store.reset().await;
    world.customer("eight@x.com", ok(&somebody(8, "eight@x.com"))).await;
    world.orders("8", ok(&json!([{"OrderId": 81}]))).await;
    world.execute("update staging.polls set next_at = now() where state = 'due'").await;
    let summary = world.poll_due().await;
    assert_eq!((summary.known, summary.records), (1, 1), "only the order is new");
    let order = world.value("select attributes::jsonb from staging.records where entity = 'order'").await;
    assert_eq!(order["customer_external_id"], "8", "an order without a customer is of the one asked for");
    assert_eq!(world.poll("eight@x.com").await.failures, 0);
}

#[tokio::test]
async fn a_customer_in_an_envelope_lands_with_the_orders_that_lie_in_it() {
    let mut world = World::new().await;
    world.settings.customer.as_mut().unwrap().records = Some("result.customer".to_owned());
    let order = world.settings.order.as_mut().unwrap();
    (order.request, order.records) = (None, Some("History.Orders".to_owned()));
    let customer = |orders: Value| {
        let mut customer = matthew();
        customer["History"] = json!({ "Orders": orders });
        ok(&json!({"result": {"customer": customer}, "took": 3}))
    };
    let mut orders = orders_of_matthew();
    orders[0]["CustomerId"].take();
    orders.as_array_mut().unwrap().push(json!({"OrderId": true}));
    world.customer(MATTHEW, customer(orders.clone())).await;
    world.product("200", ok(&json!({"ProductId": 200}))).await;
    world.customer("none@x.com", ok(&json!({"result": {"customer": []}}))).await;
    world.customer("error@x.com", ok(&json!({"result": null, "error": "later"}))).await;
    world.offer(&[MATTHEW, "none@x.com", "error@x.com"]).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.known, summary.unknown, summary.failing), (1, 1, 1));
    assert_eq!((summary.records, summary.dead_letters, summary.products), (3, 1, 1));
    let owner = "select attributes->>'customer_external_id' from staging.records where entity = 'order'";
    assert_eq!(world.value(owner).await, "1");

    world.time_passes().await;
    let again = world.poll_due().await;
    assert_eq!((again.records, again.dead_letters), (0, 0), "nothing has changed");
    world.store.reset().await;
    orders.as_array_mut().unwrap().push(json!({"OrderId": 2}));
    world.customer(MATTHEW, customer(orders)).await;
    world.time_passes().await;
    let again = world.poll_due().await;
    assert_eq!((again.records, again.dead_letters), (3, 0), "the new order, and what came with it");
}

#[tokio::test]
async fn all_customers_that_a_source_has_under_one_email_land_each_with_its_orders() {
    let mut world = World::new().await;
    world.settings.customer.as_mut().unwrap().records = Some("found".to_owned());
    let both = |name: &str| {
        let second = json!({"Id": 2, "Name": name, "Email": "TWO@x.com", "Password": "p"});
        ok(&json!({"found": [somebody(1, "two@x.com"), second, {"Id": null}], "total": 3}))
    };
    world.customer("two@x.com", both("Second").insert_header("etag", "\"1\"")).await;
    world.orders("1", ok(&json!([{"OrderId": 10}]))).await;
    world.orders("2", ok(&json!([{"OrderId": 20}]))).await;
    world.offer(&["two@x.com"]).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.asked, summary.known, summary.records, summary.dead_letters), (1, 1, 4, 1));
    let owners = "select array[external_id, attributes->>'customer_external_id'] from staging.records
                  where entity = 'order' order by external_id";
    assert_eq!(world.column(owners).await, [json!(["10", "1"]), json!(["20", "2"])]);

    world.time_passes().await;
    let again = world.poll_due().await;
    assert_eq!((again.known, again.records, again.dead_letters), (1, 0, 0));
    world.store.reset().await;
    world.customer("two@x.com", status(304)).await;
    world.orders("1", ok(&json!([{"OrderId": 10}]))).await;
    world.orders("2", ok(&json!([{"OrderId": 20}, {"OrderId": 21}]))).await;
    world.time_passes().await;
    let again = world.poll_due().await;
    assert_eq!((again.known, again.records), (1, 2), "a 304 says the same of both; the orders of one have changed");
}

#[tokio::test]
async fn orders_on_several_pages_all_land_and_a_page_elsewhere_is_not_asked_for() {
    let world = World::new().await;
    let page =
        |id: u32, next: &str| ok(&json!([{"OrderId": id}])).insert_header("link", format!("<{next}>; rel=\"next\""));
    let (second, third) = (format!("{ORDERS}?customerId=1&page=2"), format!("{ORDERS}?customerId=1&page=3"));
    world.customer(MATTHEW, ok(&matthew())).await;
    let with = |number: &str| {
        let request = Mock::given(path(ORDERS)).and(wiremock::matchers::query_param("page", number));
        request.and(wiremock::matchers::query_param("customerId", "1"))
    };
    with("2").respond_with(page(2, &third)).with_priority(1).mount(&world.store).await;
    with("3").respond_with(ok(&json!([{"OrderId": 3}]))).with_priority(1).mount(&world.store).await;
    world.orders("1", page(1, &second).insert_header("etag", "\"1\"")).await;
    world.offer(&[MATTHEW]).await;
    let summary = world.poll_due().await;
    assert_eq!((summary.known, summary.records), (1, 4));
    world.time_passes().await;
    assert_eq!(world.poll_due().await.records, 0, "nothing has changed");
    let requests = world.store.received_requests().await.unwrap();
    assert!(requests.iter().all(|request| !request.headers.contains_key("if-none-match")));

    for next in ["http://127.0.0.1:1/elsewhere", second.as_str(), "/nowhere"] {
        world.store.reset().await;
        world.customer(MATTHEW, ok(&matthew())).await;
        with("2").respond_with(page(4, next)).with_priority(1).mount(&world.store).await;
        world.orders("1", page(1, &second)).await;
        world.time_passes().await;
        let summary = world.poll_due().await;
        assert_eq!((summary.failing, summary.records, summary.breaker.as_str()), (1, 0, "closed"), "{next}");
        assert_eq!(world.poll(MATTHEW).await.state, "due", "{next}: the rest is asked for again");
    }
}

#[tokio::test]
async fn products_are_asked_about_while_there_are_more_customers_than_can_be() {
    let mut world = World::new().await;
    world.settings.concurrency = 2;
    world.settings.requests_per_second = 50.0;
    world
        .execute(&format!(
            "insert into staging.polls (source, match_key, email, state, checked_at, next_at)
         select '{SOURCE}', n || '@x.com', n || '@x.com', 'known', now() - interval '2 days', now() - interval '1 hour'
         from generate_series(1, 500) as n"
        ))
        .await;
    world
        .execute(&format!(
            "insert into staging.polled_products (source, product_id, next_at) values ('{SOURCE}', '200', now())"
        ))
        .await;
    let cancel = CancellationToken::new();
    let daemon = poll_rest::run(world.settings.clone(), world.options(), world.lander(), cancel.clone());
    let daemon = tokio::spawn(daemon);
    eventually("the product is asked about", async || world.requests(PRODUCT).await == 1).await;
    let asked = world.requests(CUSTOMER).await;
    assert!(asked < 50, "after {asked} customers");

    world.matthew().await;
    world.offer(&[MATTHEW]).await;
    let since = std::time::Instant::now();
    eventually("the new email lands", async || world.count("records").await > 0).await;
    assert!(since.elapsed() < Duration::from_secs(4), "it took {:?}", since.elapsed());
    assert!(world.requests(CUSTOMER).await < 400, "there was something to wait for");
    cancel.cancel();
    daemon.await.unwrap().unwrap();
}

#[tokio::test]
async fn odd_emails_arrive_as_they_are() {
    let world = World::new().await;
    for (id, email) in (1..).zip(["a+b&c=d/é@x.com", "%40#?@x.com", "\"a b\"@x.com"]) {
        world.customer(email, ok(&somebody(id, email))).await;
        world.orders(&id.to_string(), ok(&json!([]))).await;
        world.offer(&[email]).await;
    }
    assert_eq!(world.poll_due().await.known, 3);
}

#[tokio::test]
async fn products_are_asked_about_once_and_again_when_they_are_due() {
    let world = World::new().await;
    let order = |id: u32| json!([{"OrderId": id, "CustomerId": id, "Items": [{"ProductId": 200}, {"ProductId": 201}]}]);
    for (id, email) in [(1, "a@x.com"), (2, "b@x.com"), (3, "c@x.com")] {
        world.customer(email, ok(&somebody(id, email))).await;
        world.orders(&id.to_string(), ok(&order(id))).await;
        world.offer(&[email]).await;
    }
    world.product("200", ok(&json!({"ProductId": 200}))).await;

    assert_eq!(world.poll_due().await.products, 2);

    assert_eq!(world.requests(PRODUCT).await, 2);
    let states = world.column("select state from staging.polled_products order by product_id").await;
    assert_eq!(states, ["known", "unknown"]);
}

/// Polls for two customers, and has `meddling` done while the source is asked about both.
async fn polled_while(meddling: &str) -> (World, poll_rest::Summary) {
    let world = World::new().await;
    for (id, email) in [(1, "lost@x.com"), (2, "kept@x.com")] {
        world.customer(email, ok(&somebody(id, email)).set_delay(Duration::from_millis(300))).await;
        world.orders(&id.to_string(), ok(&json!([]))).await;
    }
    world.offer(&["lost@x.com", "kept@x.com"]).await;
    let meddle = async {
        eventually("both are asked", async || world.requests(CUSTOMER).await == 2).await;
        world.execute(meddling).await;
    };
    let (summary, ()) = tokio::join!(world.poll_due(), meddle);
    (world, summary)
}

#[tokio::test]
async fn a_lost_lease_lands_nothing_and_does_not_hold_its_neighbours_back() {
    let (world, summary) = polled_while(
        "update staging.polls set state = 'unknown', checked_at = now(), next_at = now() + interval '1 hour'
         where match_key = 'lost@x.com'",
    )
    .await;
    assert_eq!((summary.known, summary.records), (1, 1));
    assert_eq!(world.column("select external_id from staging.records").await, ["2"]);
    let lost = world.poll("lost@x.com").await;
    assert_eq!((lost.state.as_str(), lost.external_id), ("unknown", None), "what the other poller noted stays");
}

#[tokio::test]
async fn whoever_is_withdrawn_while_the_source_is_asked_does_not_land() {
    let (world, summary) = polled_while("delete from staging.polls where match_key = 'lost@x.com'").await;
    assert_eq!((summary.known, summary.records), (1, 1));
    assert_eq!(world.column("select external_id from staging.records").await, ["2"]);
}

#[tokio::test]
async fn two_pollers_never_ask_about_the_same_customer() {
    let world = World::new().await;
    let emails: Vec<String> = (1..=100).map(|id| format!("{id}@x.com")).collect();
    for (id, email) in (1..).zip(&emails) {
        world.customer(email, ok(&somebody(id, email))).await;
        world.orders(&id.to_string(), ok(&json!([]))).await;
    }
    world.offer(&emails.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let (one, other) = tokio::join!(world.poll_due(), world.poll_due());

    assert_eq!(one.known + other.known, 100);
    assert_eq!((world.requests(CUSTOMER).await, world.count("records").await), (100, 100));
}

#[tokio::test]
async fn a_refreshed_poll_is_asked_about_next() {
    let world = World::new().await;
    world.offer(&["a@x.com", "b@x.com"]).await;
    world.poll_due().await;
    let refreshed = async |key| staging::polls::refresh(&world.pool, SOURCE, key, Utc::now()).await.unwrap();
    assert_eq!((refreshed(Some("b@x.com")).await, refreshed(Some("zz@x.com")).await), (1, 0));
    assert_eq!(world.poll_due().await.asked, 1);
    assert_eq!(refreshed(None).await, 2);
    assert_eq!(world.poll_due().await.asked, 2);
}

#[tokio::test]
async fn the_daemon_asks_about_new_emails_at_once_and_stops_when_told() {
    let mut world = World::new().await;
    world.matthew().await;
    world.settings.read_timeout = Duration::from_mins(1);
    world.settings.timeout = Duration::from_mins(1);
    world.customer("slow@x.com", ok(&matthew()).set_delay(Duration::from_mins(1))).await;
    let cancel = CancellationToken::new();
    let daemon = poll_rest::run(world.settings.clone(), world.options(), world.lander(), cancel.clone());
    let daemon = tokio::spawn(daemon);
    eventually("health is said", async || {
        world.value("select health->>'breaker' from staging.sources").await == "closed"
    })
    .await;

    world.offer(&[MATTHEW, "slow@x.com"]).await;
    world.execute("select pg_notify('c360_polls', '')").await;

    eventually("customer, order and product land", async || world.count("records").await == 3).await;
    eventually("the slow one is asked", async || world.requests(CUSTOMER).await == 2).await;
    cancel.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(5), daemon).await.expect("within 5 s");
    stopped.unwrap().unwrap();
    let slow = world.poll("slow@x.com").await;
    assert!(slow.state == "due" && slow.next_at <= Utc::now(), "given back: {slow:?}");
}

#[tokio::test]
async fn an_empty_poll_set_is_nothing_to_do() {
    let world = World::new().await;
    let summary = world.poll_due().await;
    assert!(!summary.has_failed());
    assert_eq!(world.value("select to_jsonb(health) from staging.sources").await["polls_due"], Value::from(0));
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_is_asked() {
    let world = World::new().await;
    let mut settings = world.settings.clone();
    settings.customer.as_mut().unwrap().request = Some("/x?e={mail}&token=canary".to_owned());
    let outcome = poll_rest::poll_due(settings, world.options(), &mut world.lander(), CancellationToken::new()).await;
    let message = outcome.unwrap_err().to_string();
    assert_eq!(message, "source online_store: customer.request contains {mail}; it may contain {email}");
}
