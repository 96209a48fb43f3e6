//! OAuth 2 client credentials: when tokens are fetched, what is sent, and what happens when nobody gives one.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use embedded_postgres::test::eventually;
use poll_rest::{Auth, BreakerState, OAuth2};
use serde_json::{Value, json};
use support::{CUSTOMER, ORDERS, World, ok, somebody, status};
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{body_string_contains, header, header_exists, path};
use wiremock::{Mock, Request, ResponseTemplate};

const TOKEN: &str = "/oauth/token";

impl World {
    /// A world whose store wants a token; the token endpoint is on the same server.
    async fn with_tokens() -> Self {
        let mut world = Self::new().await;
        world.settings.auth = Some(Auth::OAuth2(OAuth2 {
            token_url: format!("{}{TOKEN}", world.store.uri()).into(),
            client_id: "c360 client".to_owned(),
            client_secret: "s:e/c".to_owned().into(),
            scope: Some("customers:read orders:read".to_owned()),
        }));
        world
    }

    /// The endpoint gives `token-1`, `token-2`, ...
    async fn gives_tokens(&self, expires_in: Value) {
        let given = AtomicUsize::new(0);
        let answer = move |_: &Request| {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            let token = format!("token-{number}");
            ok(&json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in}))
                .set_delay(Duration::from_millis(50))
        };
        Mock::given(path(TOKEN)).respond_with(answer).mount(&self.store).await;
    }

    /// The store knows these customers, for whoever has this token, and refuses everybody else.
    async fn knows(&self, count: u32, token: &str) {
        let authorization = format!("Bearer {token}");
        for id in 1..=count {
            let email = format!("{id}@x.com");
            let asked = Mock::given(path(CUSTOMER)).and(wiremock::matchers::query_param("customerEmail", &email));
            let answer = ok(&somebody(id, &email));
            asked.and(header("authorization", authorization.as_str())).respond_with(answer).mount(&self.store).await;
        }
        let orders = Mock::given(path(ORDERS)).and(header("authorization", authorization.as_str()));
        orders.respond_with(ok(&json!([]))).mount(&self.store).await;
        for at in [CUSTOMER, ORDERS] {
            Mock::given(path(at)).respond_with(status(401)).with_priority(9).mount(&self.store).await;
        }
    }

    async fn offer_numbers(&self, numbers: std::ops::RangeInclusive<u32>) {
        let emails: Vec<String> = numbers.map(|id| format!("{id}@x.com")).collect();
        self.offer(&emails.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn one_token_is_fetched_when_the_first_request_needs_it_and_all_share_it() {
    let mut world = World::with_tokens().await;
    world.settings.headers.insert("X-Api-Key".to_owned(), "k3y".to_owned().into());
    world.gives_tokens(json!(3600)).await;
    world.knows(20, "token-1").await;
    assert_eq!(world.poll_due().await.requests, 0);
    assert_eq!(world.requests(TOKEN).await, 0, "nothing to ask, no token");

    world.offer_numbers(1..=20).await;
    let summary = world.poll_due().await;

    assert_eq!((summary.known, summary.failing, summary.requests), (20, 0, 40));
    let requests = world.store.received_requests().await.unwrap();
    let fetched: Vec<&Request> = requests.iter().filter(|request| request.url.path() == TOKEN).collect();
    assert_eq!(fetched.len(), 1);
    assert_eq!(
        String::from_utf8_lossy(&fetched[0].body),
        "grant_type=client_credentials&scope=customers%3Aread%20orders%3Aread"
    );
    // Name and secret, each as in a form, as basic authentication: c360%20client:s%3Ae%2Fc
    assert_eq!(fetched[0].headers["authorization"], "Basic YzM2MCUyMGNsaWVudDpzJTNBZSUyRmM=");
    assert!(!fetched[0].headers.contains_key("x-api-key"), "the source's headers are the source's");
    let asked = requests.iter().filter(|request| request.url.path() == CUSTOMER);
    assert!(asked.clone().count() > 0 && asked.clone().all(|request| request.headers["x-api-key"] == "k3y"));
}

#[tokio::test]
async fn a_token_is_renewed_before_its_time_is_over() {
    let world = World::with_tokens().await;
    world.gives_tokens(json!("1")).await;
    world.knows(1, "token-1").await;
    let cancel = CancellationToken::new();
    let daemon = poll_rest::run(world.settings.clone(), world.options(), world.lander(), cancel.clone());
    let daemon = tokio::spawn(daemon);
    world.offer_numbers(1..=1).await;
    eventually("the first lands", async || world.count("records").await == 1).await;

    // From now on the store knows another token only, and a refused one would be seen.
    world.store.reset().await;
    let answer = ok(&json!({"access_token": "token-2", "expires_in": 3600}));
    Mock::given(path(TOKEN)).respond_with(answer).mount(&world.store).await;
    world.knows(2, "token-2").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.offer_numbers(2..=2).await;
    world.execute("select pg_notify('c360_polls', '')").await;
    eventually("the second lands", async || world.count("records").await == 2).await;
    cancel.cancel();
    daemon.await.unwrap().unwrap();
    let requests = world.store.received_requests().await.unwrap();
    assert!(requests.iter().all(|request| request.headers["authorization"] != "Bearer token-1"));
    assert_eq!(world.requests(TOKEN).await, 1);
}

#[tokio::test]
async fn a_token_that_the_source_refuses_is_renewed_once_and_nobody_is_alarmed() {
    let world = World::with_tokens().await;
    world.gives_tokens(json!(3600)).await;
    world.knows(10, "token-2").await;
    world.offer_numbers(1..=10).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.known, summary.failing, summary.breaker), (10, 0, BreakerState::Closed));
    assert_eq!(world.requests(TOKEN).await, 2, "all whose token was refused share the new one");
    assert_eq!(world.value("select health->'stopped' from staging.sources").await, json!([]));
}

#[tokio::test]
async fn a_source_that_refuses_every_token_stops_the_feed_with_one_alarm() {
    let mut world = World::with_tokens().await;
    world.settings.concurrency = 1;
    world.gives_tokens(json!(3600)).await;
    world.knows(10, "another").await;
    world.offer_numbers(1..=10).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.requests, summary.asked, summary.has_failed()), (2, 0, true));
    assert_eq!(world.requests(TOKEN).await, 2);
    let said = world.value("select health->'stopped' from staging.sources").await;
    assert_eq!(said, json!(["the source answers 401: it refuses our credentials"]));
}

#[tokio::test]
async fn a_token_endpoint_that_refuses_us_stops_the_feed_and_is_named() {
    for refused in [400, 401, 403] {
        let mut world = World::with_tokens().await;
        world.settings.concurrency = 1;
        let answer = status(refused).set_body_string(r#"{"error":"invalid_client"}"#);
        Mock::given(path(TOKEN)).respond_with(answer).mount(&world.store).await;
        world.offer_numbers(1..=10).await;

        let summary = world.poll_due().await;

        assert_eq!((summary.requests, summary.asked, summary.has_failed()), (1, 0, true), "{refused}");
        assert_eq!(world.requests(CUSTOMER).await, 0, "nothing is asked without a token");
        let said = world.value("select health->'stopped' from staging.sources").await;
        assert_eq!(said, json!([format!("the token endpoint answers {refused}: it refuses our credentials")]));
        let as_before = "select count(*) from staging.polls where state = 'due' and failures = 0 and next_at <= now()";
        assert_eq!(world.value(as_before).await, 10);
    }
}

#[tokio::test]
async fn a_token_endpoint_in_trouble_is_the_sources_trouble() {
    for (what, answer) in [
        ("an error", status(503)),
        ("no token", ok(&json!({"error": "later"}))),
        ("another kind of token", ok(&json!({"access_token": "t", "token_type": "mac"}))),
        ("no JSON", status(200).set_body_string("<html>")),
        ("a redirect", status(302).insert_header("location", "http://127.0.0.1:1/elsewhere")),
        ("silence", ok(&json!({"access_token": "t"})).set_delay(Duration::from_mins(1))),
    ] {
        let mut world = World::with_tokens().await;
        world.settings.breaker_failures = 2;
        world.settings.read_timeout = Duration::from_millis(200);
        Mock::given(path(TOKEN)).respond_with(answer).mount(&world.store).await;
        world.offer_numbers(1..=10).await;
        let summary = world.poll_due().await;
        assert_eq!((summary.breaker, summary.has_failed()), (BreakerState::Open, true), "{what}");
        assert_eq!(world.requests(CUSTOMER).await, 0, "{what}");

        world.store.reset().await;
        world.gives_tokens(json!(60)).await;
        world.knows(10, "token-1").await;
        world.polls_are_due().await;
        assert_eq!(world.poll_due().await.known, 10, "{what}: it is back");
    }
}

#[tokio::test]
async fn those_who_wait_for_a_token_share_its_failure() {
    let mut world = World::with_tokens().await;
    world.settings.breaker_failures = 8;
    world.settings.read_timeout = Duration::from_millis(500);
    let answer = ok(&json!({"access_token": "t"})).set_delay(Duration::from_mins(1));
    Mock::given(path(TOKEN)).respond_with(answer).mount(&world.store).await;
    world.offer_numbers(1..=8).await;
    let started = std::time::Instant::now();
    let summary = world.poll_due().await;
    assert_eq!((summary.failing, summary.breaker), (8, BreakerState::Open));
    assert!(started.elapsed() < Duration::from_secs(2), "one after another: {:?}", started.elapsed());
}

#[tokio::test]
async fn an_endpoint_that_reads_the_secret_in_the_body_only_gets_it_there() {
    let world = World::with_tokens().await;
    let in_body = body_string_contains("client_id=c360%20client&client_secret=s%3Ae%2Fc");
    let answer = ResponseTemplate::new(200).set_body_json(json!({"access_token": "token-1"}));
    Mock::given(path(TOKEN)).and(in_body).respond_with(answer).mount(&world.store).await;
    Mock::given(path(TOKEN)).and(header_exists("authorization")).respond_with(status(401)).mount(&world.store).await;
    world.knows(3, "token-1").await;
    world.offer_numbers(1..=3).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.known, summary.failing), (3, 0));
    assert_eq!(world.requests(TOKEN).await, 2, "tried once the one way and once the other");
}
