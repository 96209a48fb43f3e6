//! Edits that wait are sent: what goes out, what a source may answer, and two senders beside each other.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::time::Duration;

use chrono::{DateTime, Utc};
use embedded_postgres::test::eventually;
use model::mapping::{Columns, Method, WriteMapping};
use serde_json::{Value, json};
use staging::outbox::{self, Edits, Kind, Outgoing, Wanted};
use support::{CUSTOMER, SOURCE, World, matthew, ok, status};
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{method, path};
use wiremock::{Mock, Request, ResponseTemplate};

const MATTHEW: &str = "matthew.groves@couchbase.com";
const ANN: &str = "ann@x.example";
const UPDATE: &str = "/customers/1";

/// The store's Matthew, and a store that takes edits of his name and phone.
async fn world() -> World {
    let mut world = World::new().await;
    world.customer(MATTHEW, ok(&matthew())).await;
    let customer = world.settings.customer.as_mut().unwrap();
    customer.attributes.insert("phone".to_owned(), Columns::One("Phone".to_owned()));
    customer.update = Some(WriteMapping {
        method: None,
        request: "/customers/{external_id}".to_owned(),
        body: serde_json::from_value(json!({"Name": "{name}", "Phone": "{phone}"})).unwrap(),
        modified: Some("ModifiedAt".to_owned()),
    });
    customer.create = Some(WriteMapping {
        method: None,
        request: "/customers".to_owned(),
        body: serde_json::from_value(json!({"Name": "{name}", "Email": "{email}"})).unwrap(),
        modified: None,
    });
    world.settings.timeout = Duration::from_secs(2);
    world
}

async fn answers(world: &World, verb: &str, at: &str, answer: ResponseTemplate) {
    Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(&world.store).await;
}

async fn edit(world: &World, edits: &[(&str, Value, Value)]) {
    let edits = edits.iter().map(|(name, value, replaced)| {
        ((*name).to_owned(), Wanted { value: value.clone(), replaced: vec![replaced.clone()] })
    });
    enqueue(world, Kind::Update, (SOURCE, "1"), MATTHEW, edits.collect()).await;
}

async fn enqueue(world: &World, kind: Kind, (system, external_id): (&str, &str), email: &str, edits: Edits) {
    let mut connection = staging::connect(&world.options()).await.unwrap();
    let edit = Outgoing { source: SOURCE, kind, system, external_id, match_key: email, email, edits };
    outbox::enqueue(&mut connection, &edit, Utc::now()).await.unwrap();
}

/// What was sent, with its idempotency key.
async fn sent(world: &World, verb: &str) -> Vec<(Value, String)> {
    let of_verb = |request: &&Request| request.method.as_str() == verb;
    let body = |request: &Request| {
        let key = request.headers.get("idempotency-key").unwrap().to_str().unwrap().to_owned();
        (serde_json::from_slice(&request.body).unwrap(), key)
    };
    world.store.received_requests().await.unwrap().iter().filter(of_verb).map(body).collect()
}

async fn outcome(world: &World) -> (Value, Value) {
    let outcome = world.value("select jsonb_build_array(state, reason) from staging.outbox").await;
    (outcome[0].clone(), outcome[1].clone())
}

/// As if all pauses were over.
async fn time_passes(world: &World) {
    world.execute("update staging.outbox set next_at = now() - interval '1 hour'").await;
}

#[tokio::test]
async fn only_what_was_edited_is_sent_and_the_source_is_asked_what_it_says_by_then() {
    let world = world().await;
    answers(&world, "PATCH", UPDATE, status(204)).await;
    world.offer(&[MATTHEW]).await;
    world.poll_due().await;
    edit(&world, &[("name", json!("Matt"), json!("Matthew Groves"))]).await;
    let asked = world.requests(CUSTOMER).await;
    let summary = world.poll_due().await;
    assert!(!summary.has_failed());
    let bodies: Vec<Value> = sent(&world, "PATCH").await.into_iter().map(|(body, _)| body).collect();
    assert_eq!(bodies, [json!({"Name": "Matt"})], "no password, nothing else");
    assert_eq!(outcome(&world).await, (json!("settled"), Value::Null));
    assert_eq!(world.requests(CUSTOMER).await, asked + 2, "before, and for what it says by then");
    assert_eq!(world.poll_due().await.requests, 0, "it is done");
}

#[tokio::test]
async fn an_edit_that_the_configuration_does_not_send_any_more_is_refused_and_no_source_has_overruled_it() {
    let mut world = world().await;
    answers(&world, "PATCH", UPDATE, status(204)).await;
    edit(&world, &[("phone", json!("1"), json!("2"))]).await;
    let customer = world.settings.customer.as_mut().unwrap();
    customer.attributes.remove("phone");
    customer.update.as_mut().unwrap().body = serde_json::from_value(json!({"Name": "{name}"})).unwrap();
    world.poll_due().await;
    assert_eq!(outcome(&world).await, (json!("refused"), json!("customer.update does not name phone any more")));
    assert_eq!(sent(&world, "PATCH").await, []);
}

#[tokio::test]
async fn a_put_sends_everything_with_what_the_source_says_now() {
    let mut world = world().await;
    world.settings.customer.as_mut().unwrap().update.as_mut().unwrap().method = Some(Method::Put);
    answers(&world, "PUT", UPDATE, status(200)).await;
    edit(&world, &[("phone", json!(123), Value::Null)]).await;
    world.poll_due().await;
    assert_eq!(sent(&world, "PUT").await[0].0, json!({"Name": "Matthew Groves", "Phone": 123}));
}

#[tokio::test]
async fn what_the_source_answers_decides_what_becomes_of_an_edit() {
    for (answer, state, reason) in [
        (status(200), "settled", None),
        (status(400), "refused", Some("status 400")),
        (status(403), "refused", Some("status 403")),
        (status(404), "refused", Some("status 404")),
        (status(422), "refused", Some("status 422")),
        (status(429), "waiting", Some("status 429")),
        (status(503), "waiting", Some("status 503")),
        (status(409), "waiting", Some("status 409: the source says that it has changed meanwhile")),
        (status(412), "waiting", Some("status 412: the source says that it has changed meanwhile")),
        (status(302), "waiting", Some("status 302: redirects are not followed")),
        (status(401), "waiting", None),
        (status(200).set_delay(Duration::from_mins(5)), "waiting", Some("timed out")),
    ] {
        let world = world().await;
        answers(&world, "PATCH", UPDATE, answer).await;
        edit(&world, &[("name", json!("Matt"), json!("Matthew Groves"))]).await;
        world.poll_due().await;
        assert_eq!(outcome(&world).await, (json!(state), json!(reason)), "{state} {reason:?}");
        assert_eq!(sent(&world, "PATCH").await.len(), 1);
        let waits = world.value("select next_at > now() and leased_until is null from staging.outbox").await;
        assert_eq!(waits, json!(state == "waiting"), "{reason:?}: it waits, and nobody has it");
    }
}

#[tokio::test]
async fn a_source_that_says_again_and_again_that_it_has_changed_refuses() {
    let world = world().await;
    answers(&world, "PATCH", UPDATE, status(409)).await;
    edit(&world, &[("name", json!("Matt"), json!("Matthew Groves"))]).await;
    for _ in 0..6 {
        assert_eq!(outcome(&world).await.0, "waiting");
        time_passes(&world).await;
        world.poll_due().await;
    }
    assert_eq!(outcome(&world).await, (json!("refused"), json!("status 409")));
    let keys = sent(&world, "PATCH").await;
    assert!(keys.iter().all(|(_, key)| *key == keys[0].1), "it is one edit: {keys:?}");
}

#[tokio::test]
async fn an_edit_that_has_arrived_though_nobody_heard_so_is_not_sent_again() {
    let world = world().await;
    answers(&world, "PATCH", UPDATE, status(500)).await;
    edit(&world, &[("name", json!("Matt"), json!("Matthew Groves"))]).await;
    world.poll_due().await;
    world.store.reset().await;
    let mut arrived = matthew();
    arrived["Name"] = json!("Matt");
    world.customer(MATTHEW, ok(&arrived)).await;
    time_passes(&world).await;
    world.poll_due().await;
    assert_eq!(outcome(&world).await.0, "settled");
    assert_eq!(world.value("select cardinality(overruled) from staging.outbox").await, 0);
    assert!(sent(&world, "PATCH").await.is_empty());
}

#[tokio::test]
async fn of_one_edit_what_the_source_changed_later_stands_and_the_rest_is_sent() {
    let world = world().await;
    answers(&world, "PATCH", UPDATE, status(200)).await;
    edit(&world, &[("name", json!("Matt"), json!("M. Groves")), ("phone", json!("1"), Value::Null)]).await;
    world.poll_due().await;
    // Without a ModifiedAt nobody knows that it was earlier.
    assert_eq!(sent(&world, "PATCH").await[0].0, json!({"Phone": "1"}));
    assert_eq!(world.value("select to_jsonb(overruled) from staging.outbox").await, json!(["name"]));
}

#[tokio::test]
async fn edits_of_one_customer_go_in_order_and_a_refused_one_blocks_nothing() {
    let world = world().await;
    let answer = |request: &Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        ResponseTemplate::new(if body["Name"] == "bad" { 422 } else { 200 })
    };
    Mock::given(method("PATCH")).respond_with(answer).mount(&world.store).await;
    edit(&world, &[("name", json!("bad"), json!("Matthew Groves"))]).await;
    edit(&world, &[("phone", json!("1"), Value::Null)]).await;
    edit(&world, &[("name", json!("good"), json!("Matthew Groves"))]).await;
    world.poll_due().await;
    let bodies: Vec<Value> = sent(&world, "PATCH").await.into_iter().map(|(body, _)| body).collect();
    assert_eq!(bodies, [json!({"Name": "bad"}), json!({"Phone": "1"}), json!({"Name": "good"})]);
    let states = world.column("select state from staging.outbox order by edited_at").await;
    assert_eq!(states, ["refused", "settled", "settled"]);
}

#[tokio::test]
async fn a_customer_whom_the_source_does_not_know_is_made_once_and_never_changed() {
    let world = world().await;
    answers(&world, "POST", "/customers", status(201)).await;
    answers(&world, "GET", CUSTOMER, status(404)).await;
    let name = Edits::from([("name".to_owned(), Wanted { value: json!("New"), replaced: Vec::new() })]);
    enqueue(&world, Kind::Create, ("crm", "a"), "new@x.example", name.clone()).await;
    enqueue(&world, Kind::Update, (SOURCE, "9"), "gone@x.example", name).await;
    world.poll_due().await;
    assert_eq!(sent(&world, "POST").await[0].0, json!({"Name": "New", "Email": "new@x.example"}));
    let refused = world.value("select reason from staging.outbox where state = 'refused'").await;
    assert_eq!(refused, "the source does not know the customer under this email");

    // Somebody made the customer meanwhile, or an earlier try did.
    let again =
        "update staging.outbox set state = 'waiting', edits = '{\"name\": {\"value\": \"New\", \"replaced\": []}}'";
    world.execute(&format!("{again} where kind = 'create'")).await;
    world.store.reset().await;
    world.customer("new@x.example", ok(&support::somebody(3, "new@x.example"))).await;
    time_passes(&world).await;
    world.poll_due().await;
    assert!(sent(&world, "POST").await.is_empty());
    let made =
        world.value("select jsonb_build_array(state, overruled) from staging.outbox where kind = 'create'").await;
    assert_eq!(made, json!(["settled", ["name"]]), "what the source says of somebody whom it knew stands");
}

/// A store that does not know Ann yet, and Ann on the way to it, whose email the store gives to customer 3.
async fn ann_is_made(world: &World, answer: ResponseTemplate) -> Value {
    answers(world, "GET", CUSTOMER, status(404)).await;
    answers(world, "POST", "/customers", answer).await;
    let name = Edits::from([("name".to_owned(), Wanted { value: json!("Ann"), replaced: Vec::new() })]);
    enqueue(world, Kind::Create, ("crm", "a"), ANN, name).await;
    let mut ann = support::somebody(3, ANN);
    ann["Name"] = json!("Ann");
    ann
}

/// As an edit changes what a customer is to be made with.
async fn amend(world: &World, attribute: &str, value: &str) {
    let mut connection = staging::connect(&world.options()).await.unwrap();
    let value = json!(value);
    let amended = [(attribute, Some(&value))].into();
    outbox::amend(&mut connection, ("crm", "a"), &amended, Utc::now()).await.unwrap();
}

#[tokio::test]
async fn a_customer_who_was_made_though_nobody_heard_so_gets_what_was_edited_meanwhile() {
    for (is_taken, name, sends, overruled) in [
        (true, "Ann", json!([{"Name": "Annie"}]), json!([])),
        (true, "Annie", json!([]), json!([])),
        (true, "Somebody", json!([]), json!(["name"])),
        (false, "Ann", json!([]), json!(["name"])),
    ] {
        let mut world = world().await;
        if !is_taken {
            world.settings.customer.as_mut().unwrap().update = None;
        }
        let mut ann = ann_is_made(&world, status(500)).await;
        world.poll_due().await;
        assert_eq!((outcome(&world).await.0, sent(&world, "POST").await.len()), (json!("waiting"), 1));
        amend(&world, "name", "Annie").await;
        world.store.reset().await;
        ann["Name"] = json!(name);
        world.customer(ANN, ok(&ann)).await;
        answers(&world, "PATCH", "/customers/3", status(204)).await;
        time_passes(&world).await;
        world.poll_due().await;
        let bodies: Value = sent(&world, "PATCH").await.into_iter().map(|(body, _)| body).collect();
        let found = world.value("select jsonb_build_array(state, overruled) from staging.outbox").await;
        assert_eq!((bodies, found), (sends, json!(["settled", overruled])), "{is_taken} {name}");
        assert!(sent(&world, "POST").await.is_empty(), "nobody is made twice");
    }
}

#[tokio::test]
async fn an_edit_of_a_customer_who_is_being_made_is_not_lost() {
    let world = world().await;
    let ann = ann_is_made(&world, status(201).set_delay(Duration::from_millis(1500))).await;
    answers(&world, "PATCH", "/customers/3", status(204)).await;
    let amended = async {
        eventually("Ann is under way", async || !sent(&world, "POST").await.is_empty()).await;
        amend(&world, "name", "Annie").await;
        // In place of what the store said before, without a moment at which it says nothing.
        let known = Mock::given(method("GET")).and(path(CUSTOMER)).respond_with(ok(&ann));
        known.with_priority(1).mount(&world.store).await;
    };
    tokio::join!(world.poll_due(), amended);
    let bodies: Vec<Value> = sent(&world, "PATCH").await.into_iter().map(|(body, _)| body).collect();
    assert_eq!(bodies, [json!({"Name": "Annie"})]);
    assert_eq!(outcome(&world).await, (json!("settled"), Value::Null));
    assert_eq!(world.value("select attempts from staging.outbox").await, 2, "what was sent first has arrived");
}

#[tokio::test]
async fn a_key_is_that_of_one_edit_and_one_body() {
    let mut world = world().await;
    // Who changes a customer sends just what who makes one does.
    let customer = world.settings.customer.as_mut().unwrap();
    let create = customer.create.clone().unwrap();
    let update = customer.update.as_mut().unwrap();
    (update.method, update.body) = (Some(Method::Put), create.body);
    let ann = ann_is_made(&world, status(500)).await;
    let mut keys = Vec::new();
    for name in ["Ann", "Ann", "Annie"] {
        amend(&world, "name", name).await;
        time_passes(&world).await;
        world.poll_due().await;
    }
    keys.extend(sent(&world, "POST").await.into_iter().map(|(_, key)| key));
    world.store.reset().await;
    world.customer(ANN, ok(&ann)).await;
    answers(&world, "PUT", "/customers/3", status(500)).await;
    for name in ["Annie", "Annie", "Anna"] {
        amend(&world, "name", name).await;
        time_passes(&world).await;
        world.poll_due().await;
    }
    keys.extend(sent(&world, "PUT").await.into_iter().map(|(_, key)| key));
    let of_which: Vec<_> = keys.iter().map(|key| keys.iter().position(|other| other == key).unwrap()).collect();
    assert_eq!(of_which, [0, 0, 2, 3, 3, 5], "{keys:?}");
}

#[tokio::test]
async fn what_a_customer_was_made_without_though_nobody_heard_so_is_sent_afterwards() {
    let world = world().await;
    let ann = ann_is_made(&world, status(500)).await;
    world.poll_due().await;
    amend(&world, "phone", "1").await;
    world.store.reset().await;
    world.customer(ANN, ok(&ann)).await;
    answers(&world, "PATCH", "/customers/3", status(204)).await;
    time_passes(&world).await;
    world.poll_due().await;
    let bodies: Vec<Value> = sent(&world, "PATCH").await.into_iter().map(|(body, _)| body).collect();
    assert_eq!(bodies, [json!({"Phone": "1"})]);
    assert_eq!(world.value("select cardinality(overruled) from staging.outbox").await, 0);
}

#[tokio::test]
async fn who_was_known_before_anything_was_sent_is_not_changed_by_an_edit_of_who_is_to_be_made() {
    let world = world().await;
    let ann = ann_is_made(&world, status(500)).await;
    amend(&world, "name", "Annie").await;
    amend(&world, "phone", "1").await;
    world.store.reset().await;
    world.customer(ANN, ok(&ann)).await;
    answers(&world, "PATCH", "/customers/3", status(204)).await;
    world.poll_due().await;
    assert!(sent(&world, "PATCH").await.is_empty());
    let found = world.value("select jsonb_build_array(state, overruled) from staging.outbox").await;
    assert_eq!(found, json!(["settled", ["name", "phone"]]));
}

#[tokio::test]
async fn an_edit_of_a_customer_made_by_hand_finds_the_customer_by_email() {
    let world = world().await;
    answers(&world, "PATCH", UPDATE, status(204)).await;
    let name = Wanted { value: json!("Matt"), replaced: vec![json!("Matthew Groves")] };
    enqueue(&world, Kind::Update, ("crm", "a"), MATTHEW, [("name".to_owned(), name)].into()).await;
    world.poll_due().await;
    assert_eq!(outcome(&world).await, (json!("settled"), Value::Null));
    assert_eq!(sent(&world, "PATCH").await[0].0, json!({"Name": "Matt"}));
}

#[tokio::test]
async fn an_edit_that_is_taken_back_while_the_source_is_asked_is_not_sent() {
    let world = world().await;
    world.store.reset().await;
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let answer = move |_: &Request| {
        asked.send(()).unwrap();
        ok(&matthew()).set_delay(Duration::from_millis(500))
    };
    Mock::given(method("GET")).respond_with(answer).mount(&world.store).await;
    edit(&world, &[("name", json!("Matt"), json!("Matthew Groves"))]).await;
    let taken_back = async {
        is_asked.recv().await.unwrap();
        let mut connection = staging::connect(&world.options()).await.unwrap();
        outbox::withdraw(&mut connection, (SOURCE, "1"), &["name"], Utc::now()).await.unwrap();
    };
    tokio::join!(world.poll_due(), taken_back);
    assert!(sent(&world, "PATCH").await.is_empty());
    assert_eq!(world.count("outbox").await, 0);
}

#[tokio::test]
async fn an_edit_in_place_of_one_that_is_under_way_waits_until_that_has_come_back() {
    let world = world().await;
    edit(&world, &[("name", json!("A"), json!("Matthew Groves"))]).await;
    let now = Utc::now();
    let lease = async |now: DateTime<Utc>| {
        outbox::lease(&world.pool, SOURCE, 8, now, now + Duration::from_secs(10)).await.unwrap()
    };
    let withdraw = async |now: DateTime<Utc>| {
        let mut connection = staging::connect(&world.options()).await.unwrap();
        outbox::withdraw(&mut connection, (SOURCE, "1"), &["name"], now).await.unwrap()
    };
    let first = lease(now).await.remove(0);
    assert_eq!(withdraw(now).await["name"], [json!("Matthew Groves"), json!("A")]);
    edit(&world, &[("name", json!("B"), json!("A"))]).await;
    assert!(lease(now + Duration::from_secs(1)).await.is_empty(), "the first may be about to be sent");
    let shown = outbox::of_xrefs(&world.pool, &[SOURCE], &["1"]).await.unwrap();
    let waiting = outbox::waiting(&world.pool).await.unwrap().remove(0);
    assert_eq!((shown.len(), waiting.waiting, waiting.oldest), (1, 1, Some(shown[0].edited_at)), "it was taken back");
    assert!(outbox::of_edits(&world.pool, &[first.edit_id]).await.unwrap().is_empty());

    // It was sent, and has nothing to note.
    let outcome = outbox::Outcome::Settled { overruled: Vec::new() };
    assert!(!outbox::settle(&world.pool, &first, &outcome, now).await.unwrap());
    outbox::postpone(&world.pool, &first, Some("it was edited while it was under way"), now).await.unwrap();
    let second = lease(now + Duration::from_secs(1)).await;
    assert_eq!(second.iter().map(|edit| &edit.edits["name"].value).collect::<Vec<_>>(), ["B"]);
    assert_eq!(world.count("outbox").await, 1, "the first is forgotten");
    // Whoever sends this one is gone.
    withdraw(now + Duration::from_secs(11)).await;
    assert_eq!(world.count("outbox").await, 0);
}

#[tokio::test]
async fn two_senders_send_each_edit_once() {
    let world = world().await;
    answers(&world, "PATCH", UPDATE, status(200)).await;
    let cancel = CancellationToken::new();
    let senders: Vec<_> = (0..2)
        .map(|_| tokio::spawn(poll_rest::run(world.settings.clone(), world.options(), world.lander(), cancel.clone())))
        .collect();
    for n in 0..30 {
        edit(&world, &[("phone", json!(n.to_string()), Value::Null)]).await;
    }
    eventually("all are sent", async || {
        world.value("select count(*) from staging.outbox where state <> 'settled'").await == 0
    })
    .await;
    cancel.cancel();
    for sender in senders {
        sender.await.unwrap().unwrap();
    }
    let phones: Vec<Value> = sent(&world, "PATCH").await.into_iter().map(|(body, _)| body["Phone"].clone()).collect();
    assert_eq!(phones, (0..30).map(|n| json!(n.to_string())).collect::<Vec<_>>(), "each once, in their order");
}

#[tokio::test]
async fn a_lease_of_a_process_that_is_gone_runs_out() {
    let world = world().await;
    answers(&world, "PATCH", UPDATE, status(200)).await;
    edit(&world, &[("name", json!("Matt"), json!("Matthew Groves"))]).await;
    let now = Utc::now();
    let lease = async |now: DateTime<Utc>| {
        outbox::lease(&world.pool, SOURCE, 8, now, now + Duration::from_secs(10)).await.unwrap()
    };
    let gone = lease(now).await.remove(0);
    assert!(lease(now + Duration::from_secs(9)).await.is_empty());
    let next = lease(now + Duration::from_secs(10)).await.remove(0);
    // The first wakes up: it has nothing to say any more.
    let refused = outbox::Outcome::Refused { reason: "late".to_owned() };
    outbox::settle(&world.pool, &gone, &refused, now).await.unwrap();
    assert_eq!(outcome(&world).await.0, "waiting");
    assert!(outbox::read_again(&world.pool, &gone).await.unwrap().is_none());
    assert!(outbox::read_again(&world.pool, &next).await.unwrap().is_some());
}

#[tokio::test]
async fn edits_of_two_cross_references_that_may_be_one_customer_are_under_way_one_after_the_other() {
    let world = world().await;
    let phone = |phone: &str| Edits::from([("phone".to_owned(), Wanted { value: json!(phone), replaced: Vec::new() })]);
    // Of one match key; and of one cross-reference that has another by now.
    enqueue(&world, Kind::Update, ("crm", "a"), MATTHEW, phone("1")).await;
    enqueue(&world, Kind::Update, (SOURCE, "1"), MATTHEW, phone("2")).await;
    enqueue(&world, Kind::Update, (SOURCE, "1"), ANN, phone("3")).await;
    let lease = async || {
        let now = Utc::now();
        outbox::lease(&world.pool, SOURCE, 8, now, now + Duration::from_mins(1)).await.unwrap()
    };
    let settled = outbox::Outcome::Settled { overruled: Vec::new() };
    for n in ["1", "2", "3"] {
        let leased = lease().await;
        let phones: Vec<&Value> = leased.iter().map(|edit| &edit.edits["phone"].value).collect();
        assert_eq!(phones, [n]);
        // What comes from a clock that is behind does not overtake what is under way.
        let earlier = "update staging.outbox set edited_at = edited_at - interval '1 day' where leased_until is null";
        let as_it_was = earlier.replace("- interval", "+ interval");
        world.execute(&format!("{earlier} and state = 'waiting'")).await;
        assert!(lease().await.is_empty());
        world.execute(&format!("{as_it_was} and state = 'waiting'")).await;
        assert!(outbox::settle(&world.pool, &leased[0], &settled, Utc::now()).await.unwrap());
    }
    assert!(lease().await.is_empty());
}
