//! Neither secrets nor personal data come out by any error, log line or table that shows them. A test binary of its own:
//! it listens to everything that the process logs.

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poll_rest::{Auth, OAuth2};
use serde_json::json;
use support::shop::{Shop, Style};
use support::{World, ok, raw_server, somebody, status};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};
use wiremock::Mock;
use wiremock::matchers::{any, path};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

const EMAIL: &str = "canary-email@x.com";

const TOKEN: &str = "/oauth/token";

/// Worlds whose lists go wrong in one way each, and one in which all is well.
async fn worlds_with_lists() -> Vec<World> {
    let mut worlds = Vec::new();
    let customers = json!([{"Id": 1, "Name": "canary-body", "Email": EMAIL}, {"Id": true, "Name": "canary-body"}]);
    let page = |next: &str| json!({"data": {"customers": customers}, "meta": {"next": next}});
    for answer in [
        status(500).set_body_string("canary-body"),
        status(404).set_body_string("canary-body"),
        status(200).set_body_raw("{\"data\": \"canary-body", "application/json"),
        ok(&json!({"data": {"customers": "canary-body"}})),
        ok(&json!({"data": {"customers": []}, "meta": {"next": {"canary-body": 1}}})),
        ok(&page("http://elsewhere.test/canary-next?token=canary-next")),
        ok(&page("file:///canary-next")),
        ok(&page("/api/customers?cursor=canary-next")),
        ok(&page("")),
    ] {
        let shop = Shop::with(Style::Url, 0);
        let list = shop.list();
        let list = poll_rest::List { request: format!("{}?all=1", list.request), ..list };
        let mut world = World::with_shop(&shop, list).await;
        shop.inside().instead = Some(Box::new(move |_| Some(answer.clone())));
        Mock::given(path(TOKEN)).respond_with(ok(&json!({"access_token": "canary-token"}))).mount(&world.store).await;
        world.settings.product = None;
        worlds.push(world);
    }
    worlds
}

#[tokio::test]
async fn nothing_that_is_secret_or_personal_is_ever_shown() {
    let log = Log::default();
    // Ours at the finest level, the HTTP client's as far as the program lets them through.
    let filter = EnvFilter::new("trace,wiremock=off");
    tracing_subscriber::registry().with(fmt::layer().with_writer(log.clone())).with(filter).init();
    let mut shown = Vec::new();

    let slow = raw_server(Vec::new(), Duration::ZERO, true).await;
    let nobody = "http://user:canary-userinfo@127.0.0.1:9".to_owned();
    let mut worlds = vec![World::asking(&slow).await, World::asking(&nobody).await];
    for answer in [
        status(500).set_body_string("canary-body"),
        status(401).set_body_string("canary-body"),
        status(302).insert_header("location", "http://x/?canary-location"),
        status(200).set_body_raw("{\"Email\":\"canary-body", "application/json"),
        status(200).set_body_raw("canary-body", "text/html"),
        ok(&json!({"Id": true, "Name": "canary-body", "Password": "canary-password"})),
        ok(&somebody(1, EMAIL)),
    ] {
        let world = World::new().await;
        Mock::given(any()).respond_with(answer).mount(&world.store).await;
        worlds.push(world);
    }
    worlds.extend(worlds_with_lists().await);
    let with_tokens = worlds.len();
    for answer in [
        status(500).set_body_string("canary-body"),
        status(401).set_body_string(r#"{"error_description":"canary-body"}"#),
        status(302).insert_header("location", "http://x/?canary-location"),
        ok(&json!({"access_token": "canary-token\u{7f}é"})),
        ok(&json!({"access_token": "canary-token", "token_type": "canary-type"})),
        ok(&json!({"access_token": "canary-token", "expires_in": "canary-time"})),
    ] {
        let world = World::new().await;
        Mock::given(path(TOKEN)).respond_with(answer).mount(&world.store).await;
        Mock::given(any()).respond_with(status(401).set_body_string("canary-body")).mount(&world.store).await;
        worlds.push(world);
    }
    for (number, mut world) in worlds.into_iter().enumerate() {
        let customer = world.settings.customer.as_mut().unwrap();
        customer.request = customer.request.take().map(|request| format!("{request}&key=canary-query"));
        world.settings.headers.insert("x-api-key".to_owned(), "canary-header".to_owned().into());
        let base_url = secrecy::ExposeSecret::expose_secret(&world.settings.base_url).to_owned();
        let bearer = Auth::Bearer("canary-token".to_owned().into());
        let oauth2 = Auth::OAuth2(OAuth2 {
            token_url: format!("{base_url}{TOKEN}?key=canary-query").into(),
            client_id: "c360".to_owned(),
            client_secret: "canary-secret".to_owned().into(),
            scope: None,
        });
        let uses_tokens = number >= with_tokens || number % 2 == 1;
        world.settings.auth = Some(if uses_tokens { oauth2 } else { bearer });
        for list in &mut world.settings.lists {
            list.request = format!("{}&key=canary-query", list.request);
        }
        world.settings.read_timeout = Duration::from_millis(200);
        world.settings.breaker_failures = 2;
        world.offer(&[EMAIL]).await;
        shown.push(format!("{:?}", world.settings));
        let cancel = CancellationToken::new();
        let outcome = poll_rest::poll_due(world.settings.clone(), world.options(), &mut world.lander(), cancel).await;
        shown.push(format!("{outcome:?}"));
        shown.push(format!("{:?}", world.column("select to_jsonb(s) from staging.sources s").await));
        let letters = "select array[origin::text, reason, detail] from staging.dead_letters";
        shown.push(format!("{:?}", world.column(letters).await));
        let origins = "select origin from staging.batches";
        shown.push(format!("{:?}", world.column(origins).await));
        let stored = "select array[validators::text, payload] from staging.polls left join staging.records on true";
        let stored = format!("{:?}", world.column(stored).await);
        assert!(!stored.contains("edzchzmatv5") && !stored.contains("canary-password"), "{stored}");
        for bad in ["a header\n", "é\u{7f}"] {
            let mut settings = world.settings.clone();
            settings.headers.insert("x-other".to_owned(), format!("canary-header{bad}").into());
            let cancel = CancellationToken::new();
            let refused = poll_rest::poll_due(settings, world.options(), &mut world.lander(), cancel).await;
            let refused = refused.map_err(|error| format!("{error} {error:?}"));
            shown.push(format!("{refused:?}"));
        }
    }
    // A page's cursor is the source's, and is kept; that is no place where anything is shown.
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        logged.contains("a list cannot be read to its end") && logged.contains("the token endpoint answers 401"),
        "{logged}"
    );
    assert!(logged.contains("a poll failed") && logged.contains("refuses our credentials"), "{logged}");
    shown.push(logged);
    for text in shown {
        let found = text.find("canary").map(|at| text.get(at.saturating_sub(300)..at + 60));
        assert!(found.is_none(), "{found:?}");
    }
}
