//! Answers of a registry, by what becomes of them.

use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn answers(server: &MockServer, at: &str, status: u16, body: Value) {
    let answer = ResponseTemplate::new(status).set_body_json(body);
    Mock::given(method("GET")).and(path(at)).respond_with(answer).mount(server).await;
}

fn registry(server: &MockServer) -> Registry {
    Registry::new("home_delivery", &format!("{}/registry/", server.uri()), None).unwrap()
}

/// What it says in the end.
async fn found(registry: &Registry, id: u32) -> Result<Arc<Schema>, Reject> {
    let asked = registry.clone();
    tokio::task::spawn_blocking(move || asked.wait(id, PATIENCE)).await.unwrap().unwrap();
    match registry.schema(id) {
        Found::Schema(schema) => Ok(schema),
        Found::Refused(reject) => Err(reject),
        Found::Pending => panic!("it has answered"),
    }
}

async fn until(registry: &Registry, trouble: Option<&str>) {
    let deadline = Instant::now() + PATIENCE;
    while registry.trouble().is_none_or(|found| trouble.is_none_or(|wanted| !found.contains(wanted)))
        && (trouble.is_some() || registry.trouble().is_some())
    {
        assert!(Instant::now() < deadline, "{:?} instead of {trouble:?}", registry.trouble());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_asked_for_once_with_all_that_it_refers_to() {
    let server = MockServer::start().await;
    let fixed = |name: &str| json!({"type": "fixed", "name": name, "size": 1}).to_string();
    let needs = |subject: &str| json!([{"name": subject, "subject": subject, "version": 2}]);
    let pair = r#"{"type":"record","name":"Pair","fields":[{"name":"a","type":"F"},{"name":"b","type":"F"}]}"#;
    let main = r#"["null","Pair"]"#;
    answers(&server, "/registry/schemas/ids/7", 200, json!({"schema": main, "references": needs("a/b c")})).await;
    answers(&server, "/registry/subjects/a%2Fb%20c/versions/2", 200, json!({"schema": pair, "references": needs("f")}))
        .await;
    answers(&server, "/registry/subjects/f/versions/2", 200, json!({"schema": fixed("F"), "id": 1})).await;
    let registry = registry(&server);
    assert!(!registry.knows(7), "nobody waits for it");
    for _ in 0..3 {
        found(&registry.clone(), 7).await.unwrap();
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
    assert_eq!(registry.trouble(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_or_cannot_be_used_is_refused_and_what_may_come_is_not() {
    let server = MockServer::start().await;
    let refused = |code: u32| json!({"error_code": code, "message": "x"});
    answers(&server, "/registry/schemas/ids/1", 404, refused(40_403)).await;
    answers(&server, "/registry/schemas/ids/2", 200, json!({"schema": "message X {}", "schemaType": "PROTOBUF"})).await;
    answers(&server, "/registry/schemas/ids/3", 200, json!({"schema": "{\"type\":\"int"})).await;
    let reference = json!([{"name": "x", "subject": "x", "version": 1}]);
    answers(&server, "/registry/schemas/ids/4", 200, json!({"schema": "\"x\"", "references": reference})).await;
    answers(&server, "/registry/subjects/x/versions/1", 404, refused(40_401)).await;
    answers(&server, "/registry/schemas/ids/5", 200, json!({"schema": format!("\"{}\"", "x".repeat(5 << 20))})).await;
    let registry = registry(&server);
    for (id, said) in [
        (1, "the schema registry has no schema 1"),
        (2, "schema 2 is not of Avro"),
        (3, "schema 3 cannot be used"),
        (4, "lacks what schema 4 refers to"),
        (5, "schema 5 is too large"),
    ] {
        let reject = found(&registry, id).await.unwrap_err();
        assert!(reject.reason == Reason::UnknownSchema && reject.detail.contains(said), "{reject:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_in_trouble_is_asked_until_it_answers_and_says_what_the_trouble_is() {
    for (status, body, word) in [
        (503, json!({"error_code": 50_003}), "has failed"),
        (429, json!({}), "has failed"),
        (401, json!({"error_code": 401}), "refuses us"),
        (403, json!({}), "refuses us"),
        // Of some other server, or behind a wrong path.
        (404, json!({"error_code": 404, "message": "HTTP 404 Not Found"}), "no schema registry"),
        (302, json!({}), "no schema registry"),
        (200, json!({"hello": "world"}), "no schema registry"),
    ] {
        let server = MockServer::start().await;
        answers(&server, "/registry/schemas/ids/7", status, body).await;
        let registry = registry(&server);
        assert!(!registry.knows(7));
        until(&registry, Some(word)).await;
        let error = registry.given_up(Duration::ZERO).unwrap();
        assert!(matches!(error, Error::Registry { .. }) && !error.to_string().contains("http"), "{error}");
        assert!(registry.given_up(PATIENCE).is_none());
        server.reset().await;
        answers(&server, "/registry/schemas/ids/7", 200, json!({"schema": "\"int\""})).await;
        found(&registry, 7).await.unwrap();
        until(&registry, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_that_address_is_trouble_and_a_user_is_shown_only_to_the_registry() {
    let registry = Registry::new("home_delivery", "http://127.0.0.1:1", None).unwrap();
    assert!(!registry.knows(7));
    until(&registry, Some("does not answer")).await;

    let server = MockServer::start().await;
    let answer = |_: &Request| ResponseTemplate::new(200).set_body_json(json!({"schema": "\"int\""}));
    let shown = header("authorization", "Basic dXNlcjpzZWNyZXQ=");
    Mock::given(method("GET")).and(path("/schemas/ids/7")).and(shown).respond_with(answer).mount(&server).await;
    let user = ("user".to_owned(), Some("secret".to_owned().into()));
    let registry = Registry::new("home_delivery", &server.uri(), Some(user)).unwrap();
    found(&registry, 7).await.unwrap();
    assert!(!format!("{registry:?}").contains("secret"));
    for url in
        ["http://user:secret@localhost", "http://user@localhost", "ftp://x", "localhost:8081", "http://x/?a=b", ""]
    {
        assert!(Registry::new("home_delivery", url, None).is_err(), "{url}");
    }
}
