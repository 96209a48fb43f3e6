//! Edits of attributes, and customers made by hand, beside somebody who consolidates: through the API, and on the dashboard.

use serde_json::json;
use serve::keys::Role;

use crate::support::Answer;
use crate::support::base::Base;
use crate::support::browser::Browser;
use crate::support::consolidating::Consolidating;

#[tokio::test]
async fn an_edit_shows_in_the_profile_when_it_is_answered() {
    let base = Base::new().await;
    let _consolidating = Consolidating::beside(&base);
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    let key = base.key(Role::Agent, None).await;
    let patch = format!("PATCH /customers/{ann}");
    let edited =
        base.server.request(&key, &patch, "if-match: \"1\"\r\n", r#"{"profile": {"name": "Annie", "city": "Keene"}}"#);
    let edited = edited.await;
    assert_eq!(
        (edited.status, edited.json()),
        (200, json!({"customer_id": ann, "has_followed": true, "sources": []})),
        "{edited:?}"
    );
    let customer = base.server.ask(&key, &format!("/customers/{ann}")).await.json();
    assert_eq!(customer["profile"], json!({"name": "Annie", "state": "NH", "city": "Keene"}));
    let by: String =
        sqlx::query_scalar("select by from customer360.edits limit 1").fetch_one(&base.pool).await.unwrap();
    assert!(by.starts_with("agent "), "{by}");
    let audited: i64 = sqlx::query_scalar("select count(*) from customer360.audit_log where action = 'edit_customer'")
        .fetch_one(&base.pool)
        .await
        .unwrap();
    assert_eq!(audited, 1, "it is noted with the edit, not behind it");
    let found = base.server.ask(&key, "/customers?q=annie+keene").await.json();
    assert_eq!(found["items"][0]["customer_id"], json!(ann), "and is found by it");
    let taken_back = base.server.request(&key, &patch, "", r#"{"profile": {"name": null, "city": null}}"#).await;
    assert_eq!(taken_back.status, 200, "{taken_back:?}");
    let customer = base.server.ask(&key, &format!("/customers/{ann}")).await.json();
    assert_eq!(customer["profile"], json!({"name": "Ann", "state": "NH"}));
}

#[tokio::test]
async fn an_edit_whose_system_says_what_an_earlier_one_has_told_it_is_shown_over_that() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "A", "state": "NH"})).await;
    base.run(
        "insert into customer360.edits (system, external_id, attribute, value, replaced, superseded, at, by)
         select system, external_id, e.attribute, '\"B\"', '\"Ann\"', e.superseded::jsonb, now(), 'test'
         from customer360.xrefs, (values ('name', '[\"A\"]'), ('state', '[\"A\"]')) e (attribute, superseded)",
    )
    .await;
    let key = base.key(Role::Agent, None).await;
    let edits = base.server.ask(&key, &format!("/customers/{ann}")).await.json()["xrefs"][0]["edits"].clone();
    assert_eq!((&edits["name"]["value"], &edits["name"]["replaced"]), (&json!("B"), &json!("A")), "{edits}");
    assert_eq!(edits["state"], json!(null), "it says what nobody has told it");
}

#[tokio::test]
async fn what_cannot_be_edited_is_refused_with_what_can() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    let me = base.customer("me@x.example", json!({"name": "Me", "state": "ME"})).await;
    let (key, limited) = (base.key(Role::Agent, None).await, base.key(Role::Agent, Some("state in ('NH')")).await);
    let patch = format!("PATCH /customers/{ann}");
    let long = json!({"profile": {"name": "x".repeat(2001)}}).to_string();
    for (body, status, field) in [
        ("{", 400, Some("body")),
        ("{}", 422, Some("body")),
        (r#"{"profile": {"shoe": 1}}"#, 422, Some("shoe")),
        (r#"{"profile": {"name": ["a"]}}"#, 422, Some("name")),
        (r#"{"profile": {"name": "a\u0000"}}"#, 422, Some("name")),
        (&long, 422, Some("name")),
    ] {
        let answer = base.server.request(&key, &patch, "", body).await;
        assert_eq!((answer.status, answer.json()["errors"][0]["field"].as_str()), (status, field), "{body}");
    }
    for (what, body, members) in [
        (patch.as_str(), r#"{"phone": "1"}"#, "`profile`"),
        ("POST /customers", r#"{"mail": "a@x.example"}"#, "`email`, and maybe `profile`"),
    ] {
        let refused = base.server.request(&key, what, "", body).await.json();
        assert_eq!(refused["errors"][0]["detail"], format!("a JSON object with {members}"), "{body}");
    }
    let body = r#"{"profile": {"name": "x"}}"#;
    assert_eq!(base.server.request(&key, &patch, "if-match: \"7\"\r\n", body).await.status, 412);
    assert_eq!(base.server.request(&limited, &format!("PATCH /customers/{me}"), "", body).await.status, 404);
    assert_eq!(base.server.request(&base.key(Role::Viewer, None).await, &patch, "", body).await.status, 403);
    assert_eq!(base.server.request(&limited, "POST /customers", "", r#"{"email": "a@x.example"}"#).await.status, 403);
    let nobody = base.server.request(&key, "POST /customers", "", r#"{"email": "a"}"#).await;
    assert_eq!((nobody.status, nobody.json()["errors"][0]["field"].as_str()), (422, Some("email")));
    let edits: i64 = sqlx::query_scalar("select count(*) from customer360.edits").fetch_one(&base.pool).await.unwrap();
    assert_eq!(edits, 0);
}

#[tokio::test]
async fn a_customer_is_made_by_hand_once() {
    let base = Base::new().await;
    let _consolidating = Consolidating::beside(&base);
    let key = base.key(Role::Agent, None).await;
    let body = r#"{"email": "New.One@X.example", "profile": {"name": "New", "city": null}}"#;
    let made = base.server.request(&key, "POST /customers", "idempotency-key: a\r\n", body).await;
    let id = base.id("new.one@x.example");
    assert_eq!((made.status, &made.json()["customer_id"]), (201, &json!(id)), "{made:?}");
    assert!(made.head.contains(&format!("location: /api/v1/customers/{id}")), "{}", made.head);
    let again = base.server.request(&key, "POST /customers", "idempotency-key: a\r\n", body).await;
    assert_eq!(again.status, 201);
    let customer = base.server.ask(&key, "/customers/new.one@x.example").await.json();
    assert_eq!(customer["profile"], json!({"name": "New"}));
    assert_eq!(customer["xrefs"].as_array().unwrap().len(), 1);
    assert_eq!(customer["xrefs"][0]["system"], "crm");
    for other in [r#"{"email": "other@x.example", "profile": {"name": "New"}}"#, r#"{"email": "New.One@X.example"}"#] {
        let reused = base.server.request(&key, "POST /customers", "idempotency-key: a\r\n", other).await;
        let field = reused.json()["errors"][0]["field"].clone();
        assert_eq!((reused.status, field), (422, json!("Idempotency-Key")), "{reused:?}");
    }
}

#[tokio::test]
async fn where_nobody_consolidates_an_edit_is_noted_and_says_so() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let edited =
        base.server.request(&key, &format!("PATCH /customers/{ann}"), "", r#"{"profile": {"name": "Annie"}}"#).await;
    assert_eq!(
        (edited.status, edited.json()),
        (202, json!({"customer_id": ann, "has_followed": false, "sources": []}))
    );
}

#[tokio::test]
async fn of_two_edits_that_are_meant_for_one_version_the_second_is_refused() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let edit = async |name: &str, headers: &str| {
        let body = json!({"profile": {"name": name}}).to_string();
        base.server.request(&key, &format!("PATCH /customers/{ann}"), headers, &body).await.status
    };
    assert_eq!(edit("Annie", "if-match: \"1\"\r\n").await, 202);
    assert_eq!(edit("Anna", "if-match: \"1\"\r\n").await, 412, "the first is no part of the version yet");
    assert_eq!(edit("Anna", "").await, 202, "who means any version overwrites");
}

#[tokio::test]
async fn the_etag_of_a_customer_is_one_for_if_match() {
    let base = Base::new().await;
    let _consolidating = Consolidating::beside(&base);
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let path = format!("/customers/{ann}");
    let tag = async || base.server.ask(&key, &path).await.header("etag").unwrap().to_owned();
    let edit = async |name: &str, tags: &str| {
        let body = json!({"profile": {"name": name}}).to_string();
        base.server.request(&key, &format!("PATCH {path}"), &format!("if-match: {tags}\r\n"), &body).await
    };
    let first = tag().await;
    assert!(first.starts_with("\"1."), "{first}");
    let bob = base.customer("bob@x.example", json!({"name": "Bob"})).await;
    let of_bob = base.server.ask(&key, &format!("/customers/{bob}")).await.header("etag").unwrap().to_owned();
    assert!(of_bob.starts_with("\"1."), "{of_bob}");
    assert_eq!(edit("Annie", &of_bob).await.status, 412, "who was led here by a merge has not seen this one");
    assert_eq!(edit("Annie", &first).await.status, 200);
    let late = edit("Anna", &first).await;
    assert_eq!(late.status, 412, "{late:?}");
    // As a proxy that compresses makes it, and beside others.
    assert_eq!(edit("Anna", &format!("W/{}", tag().await)).await.status, 200);
    assert_eq!(edit("Ann", &format!("{first}, {}", tag().await)).await.status, 200);
    let none = edit("x", "\"x\"").await;
    assert!(none.status == 412 && none.body.contains("ETag of a customer or an entry"), "{none:?}");
}

#[tokio::test]
async fn a_customer_is_made_by_a_form_which_leads_to_the_page_of_the_customer() {
    let base = Base::new().await;
    let _consolidating = Consolidating::beside(&base);
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let link = browser.get("/customers").await.leads("/customers/new").remove(0);
    let form = browser.get(&link).await;
    let filled =
        [("email", " New.One@X.example "), ("value:name", "New One"), ("value:city", " "), ("value:phone", "=1+1")];
    let made = browser.submit(&form, &filled).await;
    let page = format!("/customers/{}", base.id("new.one@x.example"));
    let shown = browser.follow(&made_as(made, &page), |shown| shown.body.contains("<h1>New One</h1>")).await;
    for part in ["Customer made.", "<h1>New One</h1>", "new.one@x.example", "=1+1"] {
        assert!(shown.body.contains(part), "{part}: {shown:?}");
    }
    browser.submit(&form, &filled).await;
    let xrefs: Vec<(String, serde_json::Value)> =
        sqlx::query_as("select system, attributes from customer360.xrefs").fetch_all(&base.pool).await.unwrap();
    assert_eq!(xrefs, [("crm".to_owned(), json!({"name": "New One", "phone": "=1+1"}))], "sent twice, made once");
    let noted: i64 = sqlx::query_scalar(
        "select count(*) from customer360.audit_log where action = 'make_customer' and customer_id = $1",
    )
    .bind(base.id("new.one@x.example"))
    .fetch_one(&base.pool)
    .await
    .unwrap();
    assert_eq!(noted, 1);

    // Who goes back and writes somebody else's email means somebody else.
    let another = [("email", "another@x.example"), ("value:name", "Another One")];
    let refused = browser.submit(&form, &another).await;
    let says = "This form has made a customer already. Send it again to make another one.";
    assert!(refused.status == 422 && refused.body.contains(says), "{refused:?}");
    let page = format!("/customers/{}", base.id("another@x.example"));
    let made = browser.submit(&refused, &another).await;
    browser.follow(&made_as(made, &page), |shown| shown.body.contains("<h1>Another One</h1>")).await;
}

#[tokio::test]
async fn a_form_that_would_make_somebody_who_is_known_asks_first() {
    let base = Base::new().await;
    let _consolidating = Consolidating::beside(&base);
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let filled = [("email", "ANN@x.example"), ("value:phone", "1")];
    let form = browser.get("/customers/new").await;
    let asked = browser.submit(&form, &filled).await;
    assert!(asked.status == 409 && asked.body.contains("Ann has this email already"), "{asked:?}");
    assert!(asked.leads("/customers/").contains(&format!("/customers/{ann}")), "{asked:?}");
    let xrefs = "select count(*) from customer360.xrefs where system = 'crm'";
    assert_eq!(sqlx::query_scalar::<_, i64>(xrefs).fetch_one(&base.pool).await.unwrap(), 0);
    made_as(browser.submit(&asked, &filled).await, &format!("/customers/{ann}"));
    assert_eq!(sqlx::query_scalar::<_, i64>(xrefs).fetch_one(&base.pool).await.unwrap(), 1, "who is told, adds");
}

/// What a form answers that made somebody: his page, or on a machine that is busy that it is noted, and the way there.
fn made_as(made: Answer, page: &str) -> Answer {
    if made.status != 202 {
        assert_eq!((made.status, made.location()), (303, format!("{page}?did=made").as_str()), "{made:?}");
        return made;
    }
    assert_eq!(made.leads("/customers/"), [page], "{made:?}");
    Answer { exact_head: format!("location: {page}?did=made"), ..made }
}

#[tokio::test]
async fn a_form_that_makes_nobody_says_at_which_field_and_keeps_what_was_written() {
    let base = Base::new().await;
    let gone = base.customer("gone@x.example", json!({"name": "Gone"})).await;
    let mut operator = Browser::signed_in(&base, Role::Operator, None).await;
    let erased = operator.get(&format!("/customers/{gone}/decide/erase")).await;
    assert_eq!(operator.submit(&erased, &[("typed", "gone@x.example")]).await.status, 200);
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let form = browser.get("/customers/new").await;
    let long = "x".repeat(2001);
    for (email, phone, field, says) in [
        ("nobody", "1", "email", "Write an email with one @, like name@example.com"),
        ("", "1", "email", "Write an email with one @, like name@example.com"),
        ("gone@x.example", "1", "email", "Write another email: this person was erased"),
        ("a@x.example", long.as_str(), "value:phone", "Write text of at most 2000 characters"),
    ] {
        let refused = browser.submit(&form, &[("email", email), ("value:phone", phone), ("value:name", "Ann")]).await;
        assert_eq!(refused.status, 422, "{refused:?}");
        let error = format!("id=\"error-{field}\">{says}");
        assert!(refused.body.contains(&error) && refused.body.matches("aria-invalid").count() == 1, "{refused:?}");
        assert_eq!((refused.field("email"), refused.field("value:phone")), (email.to_owned(), phone.to_owned()));
        assert_eq!(refused.field("value:name"), "Ann");
    }
    for (role, only) in [(Role::Viewer, None), (Role::Operator, Some("state in ('NH')"))] {
        let mut other = Browser::signed_in(&base, role, only).await;
        let shown = other.get("/customers").await;
        assert!(shown.leads("/customers/new").is_empty(), "{only:?}");
        assert_eq!(other.get("/customers/new").await.status, 403);
        assert_eq!(other.fill("/customers", "/customers", &[("email", "a@x.example")]).await.status, 403);
    }
    assert_eq!(browser.post("/customers", &[("email", "a@x.example")]).await.status, 403, "a form without its token");
    let xrefs: i64 = sqlx::query_scalar("select count(*) from customer360.xrefs").fetch_one(&base.pool).await.unwrap();
    assert_eq!(xrefs, 0);
}

#[tokio::test]
async fn where_nobody_consolidates_a_customer_by_form_is_noted_and_the_page_says_so() {
    let base = Base::new().await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let form = browser.get("/customers/new").await;
    let made = browser.submit(&form, &[("email", "ann@x.example")]).await;
    assert!(made.status == 202 && made.body.contains("Nobody consolidates at the moment"), "{made:?}");
    let page = format!("/customers/{}", base.id("ann@x.example"));
    assert_eq!(made.leads("/customers/"), [page.as_str()]);
    let _consolidating = Consolidating::beside(&base);
    browser.follow(&Answer { exact_head: format!("location: {page}"), ..made }, |shown| shown.status == 200).await;
    assert_eq!(browser.get(&page).await.status, 200);
}
