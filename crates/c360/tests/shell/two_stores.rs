//! Two stores kept in step: edits that are written through to the sample store, by real processes on a real Postgres.

mod place;

use std::time::Duration;

use axum::http::StatusCode;
use c360::sample_store::{Endpoint, Fault};
use embedded_postgres::test::eventually;
use serde_json::{Value, json};

use place::{MATTHEW, Place, WEI};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_written_through_in_the_same_operation_and_nothing_else_is() {
    let place = Place::new().await;
    let _daemon = place.daemon("daemon.log").await;
    let edited = place.edit(MATTHEW, "Matt G.").await;
    assert_eq!((edited.0, &edited.1["has_followed"]), (200, &json!(true)), "{edited:?}");
    let source = &edited.1["sources"][0];
    assert_eq!(
        (&source["system"], &source["attributes"], &source["state"]),
        (&json!("online_store"), &json!(["name"]), &json!("settled")),
        "{edited:?}"
    );
    let record = place.in_store(MATTHEW).await.unwrap();
    assert_eq!((&record["Name"], &record["Password"]), (&json!("Matt G."), &json!("edzchzmatv5")));
    // What the store says by now lands, and the profile does not change by it.
    eventually("the store's own value has landed", async || {
        place.xref("online_store", MATTHEW).await["attributes"]["name"] == "Matt G."
    })
    .await;
    assert_eq!(place.name(MATTHEW).await, "Matt G.");
    let changes = place.names_before(MATTHEW).await;
    assert_eq!(changes.last().map(String::as_str), Some("Matthew Groves"), "history keeps both: {changes:?}");
    let left = place.value("select jsonb_agg(edits) from staging.outbox").await;
    assert_eq!(left, json!([{"name": null}]), "no value stays where it has arrived");

    // The store changes it back: that is the last write.
    place.tell_store(1, json!({"Name": "Matthew Groves"})).await;
    let refreshed = place.refresh(MATTHEW).await;
    assert_eq!(refreshed["profile"]["name"], "Matthew Groves", "{refreshed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_made_by_hand_is_made_in_the_store_and_known_by_it() {
    let place = Place::new().await;
    let _daemon = place.daemon("daemon.log").await;
    let new = json!({"email": "New.One@x.example", "profile": {"name": "New One"}});
    let (status, made) = place.call("POST", "/customers", Some(new)).await;
    assert_eq!((status, &made["sources"][0]["state"]), (201, &json!("settled")), "{made}");
    let record = place.in_store("new.one@x.example").await.unwrap();
    assert_eq!((&record["Name"], &record["Email"]), (&json!("New One"), &json!("New.One@x.example")));
    eventually("the store knows the customer", async || {
        let (_, customer) = place.call("GET", "/customers/new.one@x.example", None).await;
        customer["xrefs"].as_array().is_some_and(|xrefs| xrefs.len() == 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_gets_the_last_value_once_when_it_is_back() {
    let mut place = Place::new().await;
    let _daemon = place.daemon("daemon.log").await;
    place.stop_store().await;
    for name in ["First", "Second", "Last"] {
        let (status, edited) = place.edit(MATTHEW, name).await;
        assert_eq!((status, &edited["sources"][0]["state"]), (202, &json!("waiting")), "{edited}");
        assert_eq!(place.name(MATTHEW).await, name, "the profile does not wait");
    }
    let new = json!({"email": "new.one@x.example", "profile": {"name": "New"}});
    assert_eq!(place.call("POST", "/customers", Some(new)).await.0, 202);
    let rename = json!({"profile": {"name": "Newer"}});
    place.call("PATCH", "/customers/new.one@x.example", Some(rename)).await;

    let status = place.status();
    let edits = &status["sources"]["online_store"]["edits"];
    assert_eq!((&edits["waiting"], &edits["refused"]), (&json!(2), &json!(0)), "{status}");
    assert!(place.status_page().contains("online_store: 2 edits wait to be sent"), "{}", place.status_page());
    eventually("the metric says so", async || {
        place.metrics().await.contains("c360_edits_waiting{source=\"online_store\"} 2")
    })
    .await;
    let page = place.page(MATTHEW).await;
    assert!(page.contains("1 edit waits to be sent: name"), "{page}");

    place.start_store().await;
    eventually("everything is sent", async || {
        place.value("select count(*) from staging.outbox where state <> 'settled'").await == 0
    })
    .await;
    assert_eq!(place.in_store(MATTHEW).await.unwrap()["Name"], "Last");
    assert_eq!(place.in_store("new.one@x.example").await.unwrap()["Name"], "Newer");
    // What it had before was never sent: the store was told once.
    assert_eq!(place.value("select count(*) from staging.outbox where system = 'online_store'").await, 1);
    assert!(!place.page(MATTHEW).await.contains("waits to be sent"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_has_changed_later_itself_stands() {
    let mut place = Place::new().await;
    let _daemon = place.daemon("daemon.log").await;
    place.stop_store().await;
    assert_eq!(place.edit(MATTHEW, "By an agent").await.0, 202);
    place.change_unheard(MATTHEW, "By the customer", "2099-01-01T00:00:00Z");
    place.start_store().await;
    eventually("the profile has the store's value", async || place.name(MATTHEW).await == "By the customer").await;
    assert_eq!(place.in_store(MATTHEW).await.unwrap()["Name"], "By the customer");
    let overruled = place.value("select to_jsonb(overruled) from staging.outbox").await;
    assert_eq!(overruled, json!(["name"]));
    let before = place.names_before(MATTHEW).await;
    assert!(before.contains(&"By an agent".to_owned()), "history keeps both: {before:?}");

    // Changed earlier, though c360 has not heard of it: the edit is the last write.
    place.stop_store().await;
    assert_eq!(place.edit(WEI, "By an agent").await.0, 202);
    place.change_unheard(WEI, "Long ago", "2001-01-01T00:00:00Z");
    place.start_store().await;
    eventually("the store has the edit", async || {
        place.in_store(WEI).await.is_some_and(|record| record["Name"] == "By an agent")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_refuses_is_parked_and_blocks_nothing() {
    let place = Place::new().await;
    let _daemon = place.daemon("daemon.log").await;
    let too_long = "x".repeat(101);
    let (status, refused) = place.edit(MATTHEW, &too_long).await;
    let source = &refused["sources"][0];
    assert_eq!(
        (status, &source["state"], &source["reason"]),
        (200, &json!("refused"), &json!("status 422")),
        "{refused}"
    );
    let neighbour = place.edit(WEI, "Wei P.").await;
    assert_eq!(neighbour.1["sources"][0]["state"], "settled", "its neighbours go on: {neighbour:?}");
    assert_eq!(place.status()["sources"]["online_store"]["edits"]["refused"], 1);
    let page = place.page(MATTHEW).await;
    assert!(page.contains("1 edit is refused: name (status 422)"), "{page}");
    let (_, asked) = place.call("POST", &format!("/customers/{MATTHEW}/refresh"), None).await;
    assert_eq!(asked["edits"][0]["state"], "refused", "{asked}");

    // Another edit takes its place, and so does taking it back.
    assert_eq!(place.edit(MATTHEW, "Matt").await.1["sources"][0]["state"], "settled");
    assert_eq!(place.status()["sources"]["online_store"]["edits"]["refused"], 0);
    place.edit(MATTHEW, &too_long).await;
    place.call("PATCH", &format!("/customers/{MATTHEW}"), Some(json!({"profile": {"name": null}}))).await;
    assert_eq!(place.status()["sources"]["online_store"]["edits"]["refused"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_between_sending_and_the_answer_leaves_the_edit_to_another_which_does_not_send_it_again()
 {
    let place = Place::new().await;
    let daemon = place.daemon("first.log").await;
    // The store does what it is told, and the answer does not come.
    place.store().inject(Fault::on(Endpoint::Update).delay(Duration::from_mins(10)).times(1));
    let edit = json!({"profile": {"name": "Once"}});
    let sent = async {
        let _ = place.try_call("PATCH", &format!("/customers/{MATTHEW}"), Some(edit)).await;
    };
    let killed = async {
        eventually("the store has it", async || {
            place.in_store(MATTHEW).await.is_some_and(|record| record["Name"] == "Once")
        })
        .await;
        let state = place.value("select state from staging.outbox").await;
        drop(daemon);
        state
    };
    let ((), state) = tokio::join!(sent, killed);
    assert_eq!(state, "waiting", "it was killed before the answer came");
    let first = place.in_store(MATTHEW).await.unwrap()["ModifiedAt"].clone();

    let _second = place.daemon("second.log").await;
    let _third = place.start(&["run", "--no-http"], "third.log");
    eventually("another process has seen to it", async || {
        place.value("select state from staging.outbox").await == "settled"
    })
    .await;
    assert_eq!(place.in_store(MATTHEW).await.unwrap()["ModifiedAt"], first, "the store was told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_is_not_written_to_anybody() {
    let mut place = Place::new().await;
    let _daemon = place.daemon("daemon.log").await;
    place.stop_store().await;
    assert_eq!(place.edit(MATTHEW, "To be forgotten").await.0, 202);
    let new = json!({"email": "new.one@x.example", "profile": {"name": "New"}});
    assert_eq!(place.call("POST", "/customers", Some(new)).await.0, 202);
    for email in [MATTHEW, "new.one@x.example"] {
        let (code, receipt) = place.run(&["customer", "erase", email, "--yes", "--json"]);
        assert_eq!(code, Some(0), "{receipt}");
        assert_eq!(receipt["removed"]["staging.outbox"], 1, "{receipt}");
    }
    assert_eq!(place.value("select count(*) from staging.outbox").await, 0);
    place.start_store().await;
    assert_eq!(place.edit(WEI, "Wei P.").await.1["sources"][0]["state"], Value::from("settled"));
    assert_eq!(place.in_store(MATTHEW).await.unwrap()["Name"], "Matthew Groves");
    assert!(place.in_store("new.one@x.example").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_once_sends_what_waits() {
    let place = Place::new().await;
    let daemon = place.daemon("daemon.log").await;
    place.store().inject(Fault::on(Endpoint::Update).status(StatusCode::SERVICE_UNAVAILABLE).times(1));
    let (status, edited) = place.edit(MATTHEW, "Later").await;
    let source = &edited["sources"][0];
    assert_eq!(
        (status, &source["state"], &source["reason"]),
        (202, &json!("waiting"), &json!("status 503")),
        "{edited}"
    );
    drop(daemon);
    place.execute("update staging.outbox set next_at = now(), leased_until = null").await;
    assert_eq!(place.run(&["run", "--once"]).0, Some(0));
    assert_eq!(place.in_store(MATTHEW).await.unwrap()["Name"], "Later");
    assert_eq!(
        place.xref("online_store", MATTHEW).await["attributes"]["name"],
        "Later",
        "and hears what it says by now"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_answers_with_what_the_store_says_now() {
    let mut place = Place::new().await;
    let _daemon = place.daemon("daemon.log").await;
    place.tell_store(1, json!({"Name": "Matt Groves"})).await;
    let aged = place.call("GET", &format!("/customers/{MATTHEW}?max_age=1h"), None).await.1;
    assert_eq!(aged["profile"]["name"], "Matthew Groves", "the last answer is young enough");
    let refreshed = place.refresh(MATTHEW).await;
    assert_eq!((&refreshed["profile"]["name"], &refreshed["has_followed"]), (&json!("Matt Groves"), &json!(true)));
    assert_eq!(refreshed["sources"][0]["outcome"], "answered", "{refreshed}");
    place.tell_store(1, json!({"Name": "Matthew"})).await;
    let asked = place.call("GET", &format!("/customers/{MATTHEW}?max_age=0s&fields=profile,sources"), None).await.1;
    assert_eq!(asked["profile"]["name"], "Matthew", "{asked}");

    place.stop_store().await;
    let known = place.refresh(MATTHEW).await;
    assert_eq!(known["profile"]["name"], "Matthew", "what is known");
    assert_ne!(known["sources"][0]["outcome"], "answered", "{known}");
    assert!(known["sources"][0]["age_seconds"].is_i64(), "{known}");
}
