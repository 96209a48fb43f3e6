//! Lists that are read page by page: what lands, what does not, and where reading goes on.

mod support;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use embedded_postgres::test::eventually;
use poll_rest::{BreakerState, List};
use serde_json::{Value, json};
use support::shop::{Instead, LIST, Shop, Style, change, names_of};
use support::{SOURCE, World, ok, status};
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{any, path};
use wiremock::{Mock, ResponseTemplate};

const STYLES: [Style; 4] = [Style::Number, Style::Cursor, Style::Link, Style::Url];

impl World {
    async fn list_row(&self) -> Value {
        self.value("select to_jsonb(l) from staging.lists l").await
    }

    async fn trouble(&self) -> Value {
        self.value("select health->'trouble' from staging.sources").await
    }
}

#[tokio::test]
async fn every_record_of_every_page_lands_once_however_the_list_is_paged() {
    for style in STYLES {
        let shop = Shop::with(style, 8);
        let world = World::with_shop(&shop, shop.list()).await;

        let summary = world.poll_due().await;

        let pages = if style == Style::Number { 4 } else { 3 };
        assert_eq!((summary.pages, summary.records, summary.lists_failed), (pages, 12, 0), "{style:?}");
        assert!(!summary.has_failed());
        assert_eq!(world.names().await, names_of(&shop), "{style:?}");
        let orders = "select array[external_id, attributes->>'customer_external_id'] from staging.records
                      where entity = 'order' order by external_id::integer";
        let expected: Vec<Value> = [2, 4, 6, 8].map(|id| json!([(id * 100).to_string(), id.to_string()])).into();
        assert_eq!(world.column(orders).await, expected, "orders that lie in customers are theirs");
        let stored = world.column("select payload from staging.records where entity = 'customer'").await;
        assert!(!stored.iter().any(|payload| payload.to_string().contains("edzchzmatv5")));
        let row = world.list_row().await;
        assert!(row["complete_until"].is_string() && row["finished_at"].is_string(), "{row}");
        assert_eq!((&row["next_page"], &row["began_at"], &row["pages"]), (&Value::Null, &Value::Null, &json!(0)));

        assert_eq!(world.poll_due().await.requests, 0, "{style:?}: it is not due again");
        world.list_is_due().await;
        let again = world.poll_due().await;
        assert_eq!((again.pages, again.records), (pages, 0), "{style:?}: nothing has changed");
        assert_eq!(world.count("records").await, 12);

        shop.change(4, "Changed");
        world.list_is_due().await;
        assert_eq!(world.poll_due().await.records, 1, "{style:?}: the customer has, the order in it has not");
        assert_eq!(world.names().await, names_of(&shop));
    }
}

#[tokio::test]
async fn after_a_whole_round_only_what_has_changed_is_asked_for_by_the_sources_clock_less_the_overlap() {
    let shop = Shop::with(Style::Cursor, 8);
    let world = World::with_shop(&shop, shop.list_since()).await;
    // Its clock is an hour slow, and so are the times of its changes.
    let now: DateTime<Utc> = Utc::now() - TimeDelta::hours(1) + TimeDelta::minutes(5);
    shop.inside().now = Some(now);
    assert_eq!(world.poll_due().await.records, 12);
    let since = async || {
        let requests = world.store.received_requests().await.unwrap();
        let pairs = requests.last().unwrap().url.query_pairs().into_owned().collect::<Vec<_>>();
        pairs.into_iter().find(|(name, _)| name == "since").unwrap().1
    };
    assert_eq!(since().await, "1970-01-01T00:00:00Z", "at first everything");

    shop.inside().now = Some(now + TimeDelta::minutes(10));
    shop.change(5, "Changed");
    world.list_is_due().await;
    let summary = world.poll_due().await;
    let expected = (now - TimeDelta::seconds(60)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    assert_eq!((summary.pages, summary.records, since().await), (1, 1, expected));
    assert_eq!(world.names().await, names_of(&shop));

    world.list_is_due().await;
    let summary = world.poll_due().await;
    assert_eq!((summary.pages, summary.records), (1, 0), "what the overlap brings again lands nothing");
}

#[tokio::test]
async fn a_round_that_breaks_off_goes_on_at_the_page_that_did_not_land() {
    for style in STYLES {
        let shop = Shop::with(style, 12);
        let world = World::with_shop(&shop, shop.list_since()).await;
        shop.inside().instead = Some(Box::new(|page| (page == 3).then(|| status(418))));

        let summary = world.poll_due().await;

        assert_eq!((summary.pages, summary.lists_failed, summary.has_failed()), (2, 1, true), "{style:?}");
        let row = world.list_row().await;
        assert_eq!((&row["pages"], &row["complete_until"], &row["failures"]), (&json!(2), &Value::Null, &json!(1)));
        assert_eq!(world.trouble().await, "list_customer: status 418");
        assert_eq!(world.names().await, names_of(&shop)[..6]);
        let asked = world.pages_asked().await.len();

        shop.inside().instead = None;
        world.list_is_due().await;
        let summary = world.poll_due().await;
        assert_eq!(summary.lists_failed, 0);
        assert_eq!(world.names().await, names_of(&shop), "{style:?}");
        let third = ["3", "c/3"];
        assert!(third.contains(&world.pages_asked().await[asked].as_str()), "{style:?}: it begins anew");
        assert_eq!(world.count("records").await, 18, "nothing twice");
        assert_eq!(world.trouble().await, Value::Null);
    }
}

#[tokio::test]
async fn invariant_2_position_with_data_a_page_lands_with_the_place_of_the_next_one_or_not_at_all() {
    let shop = Shop::with(Style::Cursor, 8);
    let world = World::with_shop(&shop, shop.list()).await;
    // While the second page is asked for, somebody else gets the lease.
    shop.inside().instead = Some(Box::new(|page| {
        (page == 2).then(|| {
            ResponseTemplate::new(200).set_delay(Duration::from_millis(500)).set_body_json(json!({
                "data": {"customers": [{"Id": 99, "Email": "99@x.com"}]}, "meta": {"next": "c/3"}
            }))
        })
    }));
    let meddle = async {
        eventually("page 2 is asked for", async || world.pages_asked().await.len() == 2).await;
        world.execute("update staging.lists set next_at = next_at + interval '1 millisecond'").await;
    };
    let (summary, ()) = tokio::join!(world.poll_due(), meddle);

    assert_eq!((summary.pages, summary.records), (1, 4));
    let row = world.list_row().await;
    assert_eq!((&row["next_page"], &row["pages"]), (&json!({"cursor": "c/2"}), &json!(1)));
    assert_eq!(world.value("select count(*) from staging.records where external_id = '99'").await, 0);
    let remembered = "select count(*) from staging.listed_records where record_key = '99'";
    assert_eq!(world.value(remembered).await, 0);
}

#[tokio::test]
async fn a_process_that_dies_leaves_the_round_to_the_next_one() {
    let shop = Shop::with(Style::Cursor, 8);
    let world = World::with_shop(&shop, shop.list()).await;
    shop.inside().instead = Some(Box::new(|page| (page == 2).then(|| status(200).set_delay(Duration::from_mins(1)))));
    let (settings, options, mut lander) = (world.settings.clone(), world.options(), world.lander());
    let victim = tokio::spawn(async move {
        let cancel = CancellationToken::new();
        let _ = poll_rest::poll_due(settings, options, &mut lander, cancel).await;
    });
    eventually("page 2 is asked for", async || world.pages_asked().await.len() == 2).await;
    victim.abort();
    let _ = victim.await;
    shop.inside().instead = None;

    // Its lease runs out.
    world.list_is_due().await;
    let summary = world.poll_due().await;

    assert_eq!((summary.pages, summary.records), (2, 8));
    assert_eq!(world.pages_asked().await, ["first", "c/2", "c/2", "c/3"]);
    assert_eq!(world.names().await, names_of(&shop));
}

#[tokio::test]
async fn a_list_is_due_from_its_time_until_its_round_has_come_to_its_end() {
    let shop = Shop::with(Style::Cursor, 8);
    let world = World::with_shop(&shop, shop.list()).await;
    let due = async || {
        let lists = staging::lists::overview(&world.pool, Utc::now()).await.unwrap();
        lists.get(SOURCE).and_then(|lists| lists[0].due_since).is_some()
    };
    world.poll_due().await;
    assert!(!due().await, "it is read");
    world.list_is_due().await;
    assert!(due().await, "nobody has begun");
    shop.inside().instead =
        Some(Box::new(|page| (page == 1).then(|| ok(&json!({})).set_delay(Duration::from_mins(1)))));
    let asked = world.pages_asked().await.len();
    let cancel = CancellationToken::new();
    let (settings, options, mut lander) = (world.settings.clone(), world.options(), world.lander());
    let told = cancel.clone();
    let poll = tokio::spawn(async move { poll_rest::poll_due(settings, options, &mut lander, told).await });
    eventually("the first page is asked for", async || world.pages_asked().await.len() > asked).await;
    assert!(due().await, "nothing of it is there yet");
    assert!(staging::lists::leased_elsewhere(&world.pool, SOURCE, model::Entity::Customer, Utc::now()).await.unwrap());
    cancel.cancel();
    poll.await.unwrap().unwrap();
    shop.inside().instead = Some(Box::new(|page| (page == 2).then(|| status(418))));
    world.list_is_due().await;
    world.poll_due().await;
    assert!(due().await, "it fails");
    shop.inside().instead = None;
    world.list_is_due().await;
    world.poll_due().await;
    assert!(!due().await);
}

#[tokio::test]
async fn a_cursor_that_is_over_is_given_up_after_a_while_and_the_round_begins_anew() {
    let shop = Shop::with(Style::Cursor, 12);
    let world = World::with_shop(&shop, shop.list()).await;
    for gone in [status(400), status(410)] {
        world.execute("update staging.lists set next_at = now(), finished_at = null, due_at = now()").await;
        let answer = gone.clone();
        shop.inside().instead = Some(Box::new(move |page| (page == 3).then(|| answer.clone())));
        for pages in [2, 2, 0] {
            assert_eq!(world.poll_due().await.lists_failed, 1);
            assert_eq!(world.list_row().await["pages"], pages, "{gone:?}");
            world.list_is_due().await;
        }
        shop.inside().instead = None;
        world.poll_due().await;
        assert_eq!(world.names().await, names_of(&shop));
        assert_eq!(world.count("records").await, 18, "what had landed does not land again");
    }
}

#[tokio::test]
async fn a_numbered_page_that_is_not_there_ends_a_list_only_if_the_one_before_is() {
    let shop = Shop::with(Style::Number, 6);
    let world = World::with_shop(&shop, shop.list()).await;
    shop.inside().instead = Some(Box::new(|page| (page == 3).then(|| status(404))));
    let summary = world.poll_due().await;
    assert_eq!((summary.lists_failed, summary.records), (0, 9));
    assert!(world.list_row().await["complete_until"].is_string());

    // From the second page on the source has lost everything: that is no end.
    let shop = Shop::with(Style::Number, 9);
    let world = World::with_shop(&shop, shop.list()).await;
    let mut had = 0;
    shop.inside().instead = Some(Box::new(move |_| {
        had += 1;
        (had > 2).then(|| status(404))
    }));
    let summary = world.poll_due().await;
    assert_eq!((summary.pages, summary.lists_failed), (2, 1));
    assert!(world.list_row().await["complete_until"].is_null());

    // Nothing, said so, is an empty page.
    let shop = Shop::with(Style::Cursor, 0);
    let world = World::with_shop(&shop, shop.list_since()).await;
    shop.inside().instead = Some(Box::new(|_| Some(status(204))));
    let summary = world.poll_due().await;
    assert_eq!((summary.pages, summary.lists_failed), (1, 0));
    assert!(world.list_row().await["complete_until"].is_string());
}

#[tokio::test]
async fn two_processes_read_a_list_once() {
    let shop = Shop::with(Style::Cursor, 30);
    let world = World::with_shop(&shop, shop.list()).await;
    let (one, other) = tokio::join!(world.poll_due(), world.poll_due());
    assert_eq!(one.pages + other.pages, 10);
    assert_eq!((world.pages_asked().await.len(), world.count("records").await), (10, 45));
}

#[tokio::test]
async fn a_list_that_does_not_end_is_given_up_and_said_and_what_it_brought_stays() {
    let endless = |page: usize| {
        ok(
            &json!({"data": {"customers": [{"Id": page, "Email": format!("{page}@x.com")}]}, "meta": {"next": format!("c/{}", page + 1)}}),
        )
    };
    let same = |_: usize| ok(&json!({"data": {"customers": [{"Id": 1, "Email": "1@x.com"}]}, "meta": {"at": 1}}));
    let circle = |page: usize| {
        ok(&json!({"data": {"customers": [{"Id": page}]}, "meta": {"next": format!("c/{}", page % 3 + 1), "at": page}}))
    };
    let cases: [(&str, Style, Instead, usize, &str); 3] = [
        (
            "pages without an end",
            Style::Cursor,
            Box::new(move |page| Some(endless(page))),
            7,
            "it has more than max_pages = 7 pages",
        ),
        ("the same page for ever", Style::Number, Box::new(move |page| Some(same(page))), 2, "a page has come twice"),
        ("cursors in a circle", Style::Cursor, Box::new(move |page| Some(circle(page))), 4, "a page has come twice"),
    ];
    for (what, style, answer, at_most, trouble) in cases {
        let shop = Shop::with(style, 0);
        let list = List { max_pages: 7, ..shop.list_since() };
        let world = World::with_shop(&shop, list).await;
        shop.inside().instead = Some(answer);

        let summary = world.poll_due().await;

        assert_eq!(
            (summary.lists_failed, summary.has_failed(), summary.breaker),
            (1, true, BreakerState::Closed),
            "{what}"
        );
        assert!(world.pages_asked().await.len() <= at_most, "{what}: {:?}", world.pages_asked().await);
        assert!(world.trouble().await.as_str().unwrap().contains(trouble), "{what}: {}", world.trouble().await);
        let row = world.list_row().await;
        assert_eq!((&row["complete_until"], &row["next_page"]), (&Value::Null, &Value::Null), "{what}: no progress");
        let next_at: DateTime<Utc> = row["next_at"].as_str().unwrap().parse().unwrap();
        assert!(next_at > Utc::now() + TimeDelta::minutes(4), "{what}: it is not tried again at once");
        assert!(world.count("records").await >= 1, "{what}");
    }
}

#[tokio::test]
async fn what_shifts_from_page_to_page_while_a_list_is_read_is_not_lost() {
    for style in [Style::Number, Style::Link, Style::Url] {
        let shop = Shop::with(style, 9);
        let world = World::with_shop(&shop, shop.list_since()).await;
        // Once the first page is read, its customers change: all others move to pages that are behind us.
        let mut is_done = false;
        shop.inside().between = Some(Box::new(move |customers, _| {
            if !std::mem::replace(&mut is_done, true) {
                for id in 1..=3 {
                    change(customers, id, "Changed meanwhile", Utc::now());
                }
            }
        }));
        world.poll_due().await;
        assert_eq!(world.names().await, names_of(&shop), "{style:?}");
        assert!(world.list_row().await["complete_until"].is_string());
    }

    // A list that is always read as a whole has next time what it lacked this time.
    let shop = Shop::with(Style::Number, 9);
    let world = World::with_shop(&shop, shop.list()).await;
    let mut is_done = false;
    shop.inside().between = Some(Box::new(move |customers, _| {
        if !std::mem::replace(&mut is_done, true) {
            customers.remove(0);
        }
    }));
    world.poll_due().await;
    assert_eq!(world.names().await.len(), 8, "one has slipped to the first page");
    world.list_is_due().await;
    world.poll_due().await;
    assert_eq!(world.names().await.len(), 9);
}

#[tokio::test]
async fn a_next_page_on_another_host_gets_neither_a_request_nor_our_credentials() {
    let elsewhere = World::new().await;
    Mock::given(any()).respond_with(ok(&json!({"data": {"customers": []}}))).mount(&elsewhere.store).await;
    for to in [
        format!("{}{LIST}?p=2", elsewhere.store.uri()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://[::ffff:127.0.0.1]:1/".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        for by_header in [true, false] {
            let shop = Shop::with(if by_header { Style::Link } else { Style::Url }, 0);
            let mut world = World::with_shop(&shop, shop.list()).await;
            world.settings.auth = Some(poll_rest::Auth::Bearer("t0ken".to_owned().into()));
            let target = to.clone();
            shop.inside().instead = Some(Box::new(move |_| {
                let body = json!({"data": {"customers": [{"Id": 1}]}, "meta": {"next": target}});
                Some(ok(&body).insert_header("link", format!("<{target}>; rel=\"next\"")))
            }));
            let summary = world.poll_due().await;
            assert_eq!((summary.lists_failed, summary.requests), (1, 1), "{to}");
            let trouble = "list_customer: the next page is said to be on another host, which is not asked";
            assert_eq!(world.trouble().await, trouble);
        }
    }
    assert!(elsewhere.store.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_no_page_advances_nothing_and_is_asked_for_again() {
    let garbage = |body: &str| status(200).set_body_raw(body.to_owned(), "application/json");
    for (what, answer, trouble) in [
        ("an error under 200", ok(&json!({"error": "no database"})), "the answer has no list of records"),
        ("a bare list in place of the answer", ok(&json!([])), "the answer has no list of records"),
        ("null for a list", ok(&json!({"data": {"customers": null}})), "the answer has no list of records"),
        ("an object for a list", ok(&json!({"data": {"customers": {"Id": 1}}})), "the answer has no list of records"),
        ("broken JSON", garbage("{\"data\": {\"customers\": [{\"Id\": 1}"), "the answer has no list of records"),
        ("nothing at all", garbage(""), "the answer has no list of records"),
        ("no JSON by its own account", status(200).set_body_raw("<html>", "text/html"), "content type is not JSON"),
        ("a redirect", status(302).insert_header("location", "/elsewhere"), "redirects are not followed"),
        ("no such list", status(404), "status 404"),
        ("too large", ok(&json!({"data": "x".repeat(3000)})), "the answer is too large"),
    ] {
        let shop = Shop::with(Style::Cursor, 8);
        let mut world = World::with_shop(&shop, shop.list_since()).await;
        world.settings.max_body_bytes = 2000;
        world.poll_due().await;
        let before = world.list_row().await["complete_until"].clone();
        let records = world.count("records").await;

        shop.inside().instead = Some(Box::new(move |_| Some(answer.clone())));
        world.list_is_due().await;
        let summary = world.poll_due().await;

        assert_eq!((summary.lists_failed, summary.records), (1, 0), "{what}");
        let row = world.list_row().await;
        assert_eq!((&row["complete_until"], &row["failures"]), (&before, &json!(1)), "{what}");
        assert!(world.trouble().await.as_str().unwrap().contains(trouble), "{what}: {}", world.trouble().await);
        let next_at: DateTime<Utc> = row["next_at"].as_str().unwrap().parse().unwrap();
        assert!(next_at < Utc::now() + TimeDelta::minutes(1), "{what}: it is tried again soon");
        assert_eq!((world.count("records").await, world.count("dead_letters").await), (records, 0), "{what}");
    }
}

#[tokio::test]
async fn a_bad_record_of_a_page_is_one_dead_letter_and_its_neighbours_land() {
    let shop = Shop::with(Style::Cursor, 0);
    let world = World::with_shop(&shop, shop.list()).await;
    shop.inside().instead = Some(Box::new(|_| {
        Some(ok(&json!({"data": {"customers": [
            {"Id": 1, "Name": "One"}, {"Id": 1.5, "Name": "canary"}, {"Name": "nobody"}, null, 7,
            {"Id": 2, "Name": "Two", "Orders": [{"OrderId": 20}, {"OrderId": true}]}, {"Id": 3, "Name": "Three", "Orders": 7}, {"Id": 1, "Name": "Last"}
        ]}})))
    }));

    let summary = world.poll_due().await;

    assert_eq!((summary.records, summary.dead_letters, summary.lists_failed), (4, 6, 0));
    let names = world.names().await;
    assert_eq!(names[..2], [(1, "Last".to_owned()), (2, "Two".to_owned())], "of one id the last one of a page counts");
    let letters = world.column("select array[reason, detail] from staging.dead_letters order by reason, detail").await;
    let expected = [
        ["bad_external_id", "column Id is neither an integer nor a string"],
        ["bad_external_id", "column OrderId is neither an integer nor a string"],
        ["no_external_id", "column Id has no value"],
        ["unknown_shape", "not a list"],
        ["unknown_shape", "not an object"],
        ["unknown_shape", "null is no record"],
    ];
    assert_eq!(letters, expected.map(|letter| json!(letter)));
    assert_eq!(world.value("select skipped_count from staging.batches").await, 1);

    world.list_is_due().await;
    let again = world.poll_due().await;
    assert_eq!((again.records, again.dead_letters), (0, 0), "they are parked once");
}

#[tokio::test]
async fn a_bad_record_of_a_page_that_has_changed_is_another_dead_letter_where_credentials_are_dropped() {
    let shop = Shop::with(Style::Cursor, 0);
    let mut world = World::with_shop(&shop, shop.list()).await;
    world.settings.context.credentials = model::Credentials::Drop;
    for (name, letters) in [("One", 1), ("Two", 1), ("Two", 0)] {
        shop.inside().instead = Some(Box::new(move |_| {
            Some(ok(
                &json!({"data": {"customers": [{"Id": "7", "Name": name, "Orders": []}, {"Id": 8.5, "Name": name}]}}),
            ))
        }));
        world.list_is_due().await;
        assert_eq!(world.poll_due().await.dead_letters, letters, "{name}");
    }
}

#[tokio::test]
async fn a_record_that_the_database_refuses_is_a_dead_letter_and_its_page_lands() {
    let shop = Shop::with(Style::Cursor, 8);
    let world = World::with_shop(&shop, shop.list()).await;
    world.execute("alter table staging.records add constraint no_five check (external_id <> '5')").await;

    let summary = world.poll_due().await;

    assert_eq!((summary.pages, summary.records, summary.dead_letters, summary.lists_failed), (3, 11, 1, 0));
    assert_eq!(world.value("select external_id from staging.dead_letters").await, "5");
    let row = world.list_row().await;
    assert!(row["complete_until"].is_string() && row["next_page"].is_null(), "{row}");
}

#[tokio::test]
async fn under_another_mapping_or_request_the_list_is_read_from_its_beginning() {
    let shop = Shop::with(Style::Cursor, 8);
    let mut world = World::with_shop(&shop, shop.list_since()).await;
    world.poll_due().await;
    let columns = model::mapping::Columns::One("Id".to_owned());
    world.settings.customer.as_mut().unwrap().attributes.insert("number".to_owned(), columns);
    world.list_is_due().await;
    let summary = world.poll_due().await;
    assert_eq!((summary.pages, summary.records), (3, 12), "all of them land under the new mapping");
}

#[tokio::test]
async fn products_that_listed_orders_name_are_asked_about() {
    let shop = Shop::with(Style::Cursor, 0);
    let mut world = World::with_shop(&shop, shop.list()).await;
    let full = support::settings(&world.store.uri());
    world.settings.product = full.product;
    world.settings.order.as_mut().unwrap().lines = full.order.unwrap().lines;
    world.product("200", ok(&json!({"ProductId": 200, "Name": "Teapot"}))).await;
    shop.inside().instead = Some(Box::new(|_| {
        let order = json!({"OrderId": 10, "Items": [{"ProductId": 200, "Quantity": 1, "Price": 2}]});
        Some(ok(&json!({"data": {"customers": [{"Id": 1, "Orders": [order]}]}})))
    }));
    let summary = world.poll_due().await;
    assert_eq!((summary.records, summary.products), (3, 1));
}

#[tokio::test]
async fn a_list_of_orders_stands_by_itself_and_a_source_may_have_several_lists() {
    let shop = Shop::with(Style::Cursor, 4);
    let mut world = World::with_shop(&shop, shop.list()).await;
    let mut order = support::settings("http://x").order.unwrap();
    order.request = None;
    world.settings.order = Some(order);
    world.settings.lists.push(List {
        entity: model::Entity::Order,
        request: "/api/orders".to_owned(),
        records: None,
        next: None,
        ..shop.list()
    });
    let orders = json!([{"OrderId": 1, "CustomerId": 2}, {"OrderId": 2, "CustomerId": 3}]);
    Mock::given(path("/api/orders")).respond_with(ok(&orders)).mount(&world.store).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.pages, summary.records), (3, 6));
    let entities = world.column("select entity from staging.lists order by entity").await;
    assert_eq!(entities, ["customer", "order"]);

    world.store.reset().await;
    Mock::given(path("/api/orders")).respond_with(status(500)).mount(&world.store).await;
    Mock::given(path(LIST)).respond_with(shop.clone()).mount(&world.store).await;
    shop.change(1, "Changed");
    world.list_is_due().await;
    let summary = world.poll_due().await;
    assert_eq!((summary.records, summary.lists_failed), (1, 1), "a list that fails does not stop the other");
}

#[tokio::test]
async fn the_daemon_reads_a_list_when_it_is_due_and_stops_when_told() {
    let shop = Shop::with(Style::Cursor, 8);
    let list = List { every: Duration::from_millis(500), ..shop.list_since() };
    let world = World::with_shop(&shop, list).await;
    let cancel = CancellationToken::new();
    let daemon = poll_rest::run(world.settings.clone(), world.options(), world.lander(), cancel.clone());
    let daemon = tokio::spawn(daemon);
    eventually("all land", async || world.count("records").await == 12).await;
    shop.change(3, "Changed");
    eventually("the change lands", async || world.names().await == names_of(&shop)).await;

    shop.inside().instead = Some(Box::new(|_| Some(status(200).set_delay(Duration::from_mins(1)))));
    let asked = world.pages_asked().await.len();
    eventually("a page is asked for", async || world.pages_asked().await.len() > asked).await;
    cancel.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(5), daemon).await.expect("within 5 s");
    stopped.unwrap().unwrap();
    let row = world.list_row().await;
    let next_at: DateTime<Utc> = row["next_at"].as_str().unwrap().parse().unwrap();
    assert!(next_at <= Utc::now(), "given back: {row}");
}

#[tokio::test]
async fn a_refresh_reads_lists_from_their_beginning_and_lands_only_what_is_news() {
    let shop = Shop::with(Style::Cursor, 8);
    let world = World::with_shop(&shop, shop.list_since()).await;
    world.poll_due().await;
    // A change that the source forgot to date.
    shop.inside().customers[0].name = "Changed silently".to_owned();
    world.list_is_due().await;
    assert_eq!(world.poll_due().await.records, 0);

    let (settings, cancel) = (world.settings.clone(), CancellationToken::new());
    let refreshed = poll_rest::refresh(settings, world.options(), &mut world.lander(), None, cancel).await.unwrap();

    let summary = refreshed.unwrap();
    assert_eq!((summary.pages, summary.records), (3, 1));
    assert_eq!(world.names().await, names_of(&shop));
    assert_eq!(world.value(&format!("select count(*) from staging.lists where source = '{SOURCE}'")).await, 1);
}
