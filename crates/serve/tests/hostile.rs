//! Values that nobody means well: refused as the client's, and never an error of the server.

use serde_json::json;
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

#[tokio::test]
async fn what_postgres_cannot_hold_is_refused_as_the_clients() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "loyaltyPoints": 7})).await;
    let key = base.key(Role::Agent, None).await;
    let deep = format!(r#"{{"a": {}1{}}}"#, "[".repeat(100), "]".repeat(100));
    let long = format!(r#"{{"a": [1{}]}}"#, ", 1e131071".repeat(3_000));
    for (what, body, status, field) in [
        ("PATCH /customers/ann@x.example", r#"{"profile": {"loyaltyPoints": 1e200000}}"#, 422, Some("loyaltyPoints")),
        ("PATCH /customers/ann@x.example", r#"{"profile": {"loyaltyPoints": 1e-20000}}"#, 422, Some("loyaltyPoints")),
        ("PATCH /customers/ann@x.example", r#"{"profile": {"loyaltyPoints": 1e131071}}"#, 422, Some("loyaltyPoints")),
        (
            "POST /customers",
            r#"{"email": "bob@x.example", "profile": {"loyaltyPoints": 1e131071}}"#,
            422,
            Some("loyaltyPoints"),
        ),
        ("POST /customers/ann@x.example/complaint", r#"{"a": 1e200000}"#, 422, Some("body")),
        ("POST /customers/ann@x.example/complaint", r#"{"a": -1.5E-99}"#, 422, Some("body")),
        ("POST /customers/ann@x.example/complaint", long.as_str(), 422, Some("body")),
        ("POST /customers/ann@x.example/complaint", r#"{"a": [["\u0000"]]}"#, 422, Some("body")),
        ("POST /customers/ann@x.example/complaint", r#"{"a": [[{"\u0000": 1}]]}"#, 422, Some("body")),
        ("POST /customers/ann@x.example/complaint", deep.as_str(), 422, Some("body")),
        ("GET /interactions?from=-5000-01-01", "", 400, Some("from")),
        ("GET /interactions?to=%2B10000-01-01", "", 400, Some("to")),
        ("GET /products/a%00/1", "", 400, Some("path")),
        ("GET /products/a/%FF", "", 400, Some("product_id")),
        ("PUT /lists/a%00", "", 400, Some("path")),
        ("DELETE /lists/a%00", "", 400, Some("path")),
        ("PUT /lists/a%00/customers/ann@x.example", "", 400, Some("path")),
        ("GET /customers/ann@x.example/notes/7", "", 400, Some("entry_id")),
    ] {
        let answer = base.server.request(&key, what, "", body).await;
        assert_eq!((answer.status, answer.json()["errors"][0]["field"].as_str()), (status, field), "{what} {body}");
    }
    let nobody = base.server.ask(&key, "/customers?loyaltyPoints=1e200000").await;
    assert_eq!((nobody.status, &nobody.json()["items"]), (200, &json!([])), "a number that nobody can have");
    let found = base.server.ask(&key, &format!("/customers?q={}", "%C2%A9".repeat(200))).await;
    assert_eq!((found.status, &found.json()["items"]), (200, &json!([])), "each is (C) without accents: a word of 600");
    let note = base.server.request(&key, &format!("POST /customers/{ann}/complaint"), "", r#"{"a": 1e2}"#).await;
    assert_eq!((note.status, &note.json()["content"]), (201, &json!({"a": 100})), "however a number is written");

    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let letters = browser.get("/operations?source=%00").await;
    assert_eq!(letters.status, 422, "what no check has found the database refuses");
}
