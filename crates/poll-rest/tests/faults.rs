//! What a source in trouble costs: time, and nothing else.

mod support;

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use embedded_postgres::test::eventually;
use poll_rest::{Auth, BreakerState};
use serde_json::json;
use support::{CUSTOMER, ORDERS, World, ok, raw_server, somebody, status};
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{any, path};
use wiremock::{Mock, ResponseTemplate};

impl World {
    async fn everybody(&self, count: u32) {
        for id in 1..=count {
            let email = format!("{id}@x.com");
            self.customer(&email, ok(&somebody(id, &email))).await;
        }
        Mock::given(path(ORDERS)).respond_with(ok(&json!([]))).mount(&self.store).await;
    }

    async fn offer_everybody(&self, count: u32) {
        let emails: Vec<String> = (1..=count).map(|id| format!("{id}@x.com")).collect();
        self.offer(&emails.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    /// Answers the first `times` requests like this, before all other answers.
    async fn at_first(&self, times: u64, answer: ResponseTemplate) {
        let first = Mock::given(any()).respond_with(answer).up_to_n_times(times).with_priority(1);
        first.mount(&self.store).await;
    }
}

/// One poll of a server that misbehaves in one way; returns the state of the poll and how long it took.
async fn asked_once(pieces: &[&[u8]], between: Duration, stays: bool) -> (World, poll_rest::Summary, Duration) {
    let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
    let mut world = World::asking(&raw_server(pieces, between, stays).await).await;
    world.settings.read_timeout = Duration::from_millis(300);
    world.settings.timeout = Duration::from_secs(3);
    world.settings.max_body_bytes = 100_000;
    world.offer(&["1@x.com"]).await;
    let started = Instant::now();
    let summary = world.poll_due().await;
    (world, summary, started.elapsed())
}

const DRIPPING: &str = "a body byte by byte, never silent for long";

#[tokio::test]
async fn a_source_that_stalls_or_breaks_off_costs_no_more_than_its_timeouts() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let with = |rest: &[u8]| [&head[..], rest].concat();
    let silence = Duration::from_millis(1);
    let drip = vec![&b"1"[..]; 500];
    let slow_body = with(b"content-length: 600\r\n\r\n");
    let dripping: Vec<&[u8]> = std::iter::once(&slow_body[..]).chain(drip).collect();
    for (what, pieces, between, stays) in [
        ("no answer at all", vec![], silence, true),
        ("half of the headers", vec![&head[..]], silence, true),
        ("headers and no body", vec![&slow_body[..]], silence, true),
        (DRIPPING, dripping, Duration::from_millis(100), true),
        ("a body that ends early", vec![&with(b"content-length: 600\r\n\r\n{\"Id\":1}")[..]], silence, false),
        ("a broken chunk", vec![&with(b"transfer-encoding: chunked\r\n\r\n5\r\n{\"Id\r\nzz\r\n")[..]], silence, false),
        ("no HTTP", vec![&b"SSH-2.0-OpenSSH_9.6\r\n"[..]], silence, false),
    ] {
        let (world, summary, took) = asked_once(&pieces, between, stays).await;
        assert_eq!((summary.failing, summary.reached, summary.has_failed()), (1, false, true), "{what}");
        let at_most = if what == DRIPPING { 10 } else { 2 };
        assert!(took < Duration::from_secs(at_most), "{what} took {took:?}");
        let poll = world.poll("1@x.com").await;
        assert_eq!((poll.state.as_str(), poll.failures, poll.checked_at), ("failing", 1, None), "{what}");
        assert_eq!((world.count("batches").await, world.count("dead_letters").await), (0, 0), "{what}");
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off_and_kept_as_a_dead_letter() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    let megabyte = vec![b'['; 1 << 20];
    let pieces: Vec<&[u8]> = std::iter::once(&head[..]).chain(std::iter::repeat_n(&megabyte[..], 8)).collect();
    let (world, summary, _) = asked_once(&pieces, Duration::ZERO, true).await;
    assert_eq!((summary.failing, summary.dead_letters, summary.breaker), (1, 1, BreakerState::Closed));
    let letter = "select array[reason, detail, truncated::text, (octet_length(payload) < 70000)::text] from staging.dead_letters";
    assert_eq!(world.value(letter).await, json!(["too_large", "more than 100000 bytes", "true", "true"]));
}

#[tokio::test]
async fn what_is_no_json_by_its_own_account_and_redirects_are_failures() {
    let world = World::new().await;
    let elsewhere = World::new().await;
    world.customer("html@x.com", status(200).set_body_raw("<html>", "text/html")).await;
    let to = format!("{}/elsewhere", elsewhere.store.uri());
    world.customer("moved@x.com", status(302).insert_header("location", to)).await;
    world.customer("ok@x.com", ok(&somebody(1, "ok@x.com"))).await;
    world.orders("1", ok(&json!([]))).await;
    world.offer(&["html@x.com", "moved@x.com", "ok@x.com"]).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.known, summary.failing, summary.requests), (1, 2, 4), "neither is asked for again at once");
    assert!(!summary.has_failed());
    assert_eq!(world.count("dead_letters").await, 0);
    assert!(elsewhere.store.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn no_redirect_is_followed_wherever_it_leads_and_our_credentials_stay_here() {
    let elsewhere = World::new().await;
    let port = elsewhere.store.address().port();
    Mock::given(any()).respond_with(ok(&somebody(1, "1@x.com"))).mount(&elsewhere.store).await;
    for to in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://2130706433:{port}/"),
        "http://169.254.169.254/latest/meta-data/iam".to_owned(),
        "file:///etc/passwd".to_owned(),
        "//x".to_owned(),
    ] {
        let mut world = World::new().await;
        world.settings.auth = Some(Auth::Bearer("t0ken".to_owned().into()));
        world.settings.headers.insert("x-api-key".to_owned(), "k3y".to_owned().into());
        for code in [301, 302, 303, 307, 308] {
            let email = format!("{code}@x.com");
            world.customer(&email, status(code).insert_header("location", to.as_str())).await;
            world.offer(&[&email]).await;
        }
        let summary = world.poll_due().await;
        assert_eq!((summary.failing, summary.requests, summary.records), (5, 5, 0), "{to}");
    }
    assert!(elsewhere.store.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_address_that_is_nobodys_source_is_refused_before_anything_is_asked() {
    for url in ["http://169.254.169.254", "http://[::ffff:169.254.169.254]", "http://0.0.0.0:8080", "http://[fe80::1]"]
    {
        let world = World::asking(url).await;
        let cancel = CancellationToken::new();
        let refused = poll_rest::poll_due(world.settings.clone(), world.options(), &mut world.lander(), cancel).await;
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("base_url is a link-local, multicast or unspecified address"), "{url}: {message}");
    }
}

#[tokio::test]
async fn a_storm_of_errors_opens_the_breaker_and_loses_nothing() {
    let mut world = World::new().await;
    world.settings.breaker_failures = 5;
    world.settings.concurrency = 2;
    world.offer_everybody(50).await;
    world.at_first(u64::MAX, status(500)).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.breaker, summary.has_failed()), (BreakerState::Open, true));
    assert!((5..=6).contains(&summary.requests), "{} requests", summary.requests);
    let untouched = "select count(*) from staging.polls where state = 'due' and next_at <= now()";
    assert!(world.value(untouched).await.as_i64() >= Some(48));
    assert_eq!(world.value("select health->>'breaker' from staging.sources").await, "open");

    world.store.reset().await;
    world.everybody(50).await;
    world.polls_are_due().await;
    let summary = world.poll_due().await;
    assert_eq!((summary.known, summary.records, summary.has_failed()), (50, 50, false));
}

#[tokio::test]
async fn the_daemon_goes_on_by_itself_when_the_source_is_back() {
    let mut world = World::new().await;
    world.settings.breaker_failures = 3;
    world.settings.breaker_cooldown = Duration::from_millis(1500);
    world.offer_everybody(20).await;
    world.at_first(u64::MAX, status(503)).await;
    let cancel = CancellationToken::new();
    let daemon = poll_rest::run(world.settings.clone(), world.options(), world.lander(), cancel.clone());
    let daemon = tokio::spawn(daemon);
    let breaker = async || world.value("select health->>'breaker' from staging.sources").await;
    eventually("the breaker opens", async || breaker().await == "open").await;
    let asked = world.requests(CUSTOMER).await;
    assert!(asked < 20, "{asked} requests");

    world.store.reset().await;
    world.everybody(20).await;

    eventually("all land", async || world.count("records").await == 20).await;
    eventually("the breaker closes", async || breaker().await == "closed").await;
    cancel.cancel();
    daemon.await.unwrap().unwrap();
    assert_eq!(world.value("select count(distinct external_id) from staging.records").await, 20);
}

#[tokio::test]
async fn what_passes_by_itself_is_asked_for_again_and_the_pause_is_the_one_asked_for() {
    let world = World::new().await;
    world.everybody(1).await;
    world.at_first(1, status(429).insert_header("retry-after", "1")).await;
    world.offer_everybody(1).await;
    let started = Instant::now();
    let summary = world.poll_due().await;
    assert_eq!((summary.known, summary.failing, summary.requests), (1, 0, 3));
    assert!(started.elapsed() >= Duration::from_secs(1));

    let at = (Utc::now() + TimeDelta::seconds(3)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    world.at_first(1, status(503).insert_header("retry-after", at.as_str())).await;
    world.time_passes().await;
    let started = Instant::now();
    assert_eq!(world.poll_due().await.known, 1);
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_question_that_the_source_does_not_like_says_nothing_about_the_source() {
    let mut world = World::new().await;
    world.settings.breaker_failures = 2;
    world.everybody(10).await;
    world.at_first(6, status(422)).await;
    world.offer_everybody(10).await;
    let summary = world.poll_due().await;
    assert_eq!((summary.asked, summary.breaker), (10, BreakerState::Closed));
    assert!(summary.failing >= 3);
}

#[tokio::test]
async fn refused_credentials_stop_the_feed_and_leave_the_polls_as_they_were() {
    let mut world = World::new().await;
    world.settings.concurrency = 1;
    world.settings.auth = Some(Auth::Bearer("wrong".to_owned().into()));
    world.offer_everybody(10).await;
    world.at_first(u64::MAX, status(401)).await;

    let summary = world.poll_due().await;

    assert_eq!((summary.requests, summary.asked, summary.has_failed()), (1, 0, true));
    let as_before = "select count(*) from staging.polls where state = 'due' and failures = 0 and next_at <= now()";
    assert_eq!(world.value(as_before).await, 10);
    let said = world.value("select health from staging.sources").await;
    assert_eq!(said["stopped"], json!(["the source answers 401: it refuses our credentials"]));
    assert_eq!(said["breaker"], "open");

    world.store.reset().await;
    world.everybody(10).await;
    assert_eq!(world.poll_due().await.known, 10, "a restart asks again");
    assert_eq!(world.value("select health->'stopped' from staging.sources").await, json!([]));
}

#[tokio::test]
async fn no_connection_at_all_is_a_failure_that_passes() {
    let mut world = World::asking("http://127.0.0.1:9").await;
    world.settings.breaker_failures = 5;
    world.offer_everybody(10).await;
    let summary = world.poll_due().await;
    assert_eq!((summary.reached, summary.breaker), (false, BreakerState::Open));
    world.settings.base_url = world.store.uri().into();
    world.everybody(10).await;
    world.polls_are_due().await;
    assert_eq!(world.poll_due().await.known, 10);
}

#[tokio::test]
async fn headers_and_credentials_are_sent() {
    let mut world = World::new().await;
    world.settings.headers.insert("X-Api-Key".to_owned(), "k3y".to_owned().into());
    world.offer(&["1@x.com"]).await;
    for (auth, expected) in [
        (Auth::Bearer("t0ken".to_owned().into()), "Bearer t0ken"),
        (Auth::Basic { user: "u".to_owned(), password: "p".to_owned().into() }, "Basic dTpw"),
    ] {
        world.store.reset().await;
        world.settings.auth = Some(auth);
        world.polls_are_due().await;
        world.poll_due().await;
        let requests = world.store.received_requests().await.unwrap();
        assert_eq!(requests[0].headers["authorization"], expected);
        assert_eq!(requests[0].headers["x-api-key"], "k3y");
        assert_eq!(requests[0].url.path(), CUSTOMER);
    }
}
