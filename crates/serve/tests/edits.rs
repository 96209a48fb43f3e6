//! Edits of attributes, and customers made by hand, beside somebody who consolidates.

use serde_json::json;
use serve::keys::Role;

use crate::support::base::Base;
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
