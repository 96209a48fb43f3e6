//! REST sources by configuration alone, as a shell sees them: real processes, a real Postgres, real HTTP on 127.0.0.1.

use std::time::{Duration, Instant};

use chrono::Utc;
use embedded_postgres::test::eventually;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};
use staging::health::Speaker;
use wiremock::matchers::{any, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::support::{Home, Running};

const PER_PAGE: usize = 2;

/// A shop, an installation that asks it, and a database.
struct Place {
    home: Home,
    shop: MockServer,
}

/// Asked about one customer at a time, by emails that a file of members brings.
const ASKED: &str = r#"
requests_per_second = 1000
refresh_every = "24h"
breaker_failures = 3
[sources.shop.customer]
request = "/customer?email={email}&key=canary-key"
external_id = "id"
email = "email"
attributes = { name = "name" }
"#;

/// A list by Link headers, with the orders in the customers.
const LISTED: &str = r#"
requests_per_second = 1000
[sources.shop.customer]
external_id = "id"
email = "email"
attributes = { name = "name" }
[sources.shop.order]
records = "orders"
order_id = "number"
customer_external_id = "customer"
[sources.shop.list.customer]
request = "/customers?since={since}&key=canary-key"
records = "data"
every = "1h"
"#;

impl Place {
    async fn with(shop_keys: &str) -> Self {
        let shop = MockServer::start().await;
        let text = format!(
            "[sources.shop]\nkind = \"rest\"\nbase_url = {:?}\n{shop_keys}
             [sources.members]\nkind = \"csv\"\ndirectory = \"drop\"\nsettle = \"0s\"
             [sources.members.customer]\nexternal_id = \"id\"\nemail = \"email\"\nattributes = {{ name = \"name\" }}\n",
            shop.uri()
        );
        let home = Home::new(&text).await.with("C360_LOG", "trace,sqlx=info");
        std::fs::create_dir(home.path("drop")).unwrap();
        Self { home, shop }
    }

    /// Runs a command; returns its exit code, what it prints as JSON, and what it logs.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, Value, String) {
        let output = self.home.command(arguments).output().unwrap();
        let logged = String::from_utf8_lossy(&output.stderr).into_owned();
        for secret in ["canary", "@x.com"] {
            assert!(!logged.contains(secret), "{secret} in {logged}");
        }
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), logged)
    }

    fn start(&self, arguments: &[&str]) -> Running {
        self.home.start(arguments, "daemon.log")
    }

    /// The first column of all rows.
    async fn column(&self, sql: &str) -> Vec<Value> {
        let sql = format!("select to_jsonb(x) from ({sql}) as rows (x)");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut self.home.connection().await).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// A file with these members.
    fn drop_members(&self, ids: std::ops::RangeInclusive<u32>) {
        let rows: Vec<String> = ids.map(|id| format!("{id},{id}@x.com,Member {id}\n")).collect();
        let text = format!("id,email,name\n{}", rows.concat());
        self.home.write("drop/members.csv", text);
    }

    /// The shop knows whoever it is asked about, under this name.
    async fn knows_everybody(&self, name: &str) {
        let name = name.to_owned();
        let answer = move |request: &Request| {
            let email = request.url.query_pairs().next().unwrap().1.into_owned();
            let id: u32 = email.split('@').next().unwrap().parse().unwrap();
            ResponseTemplate::new(200).set_body_json(json!({"id": 100 + id, "email": email, "name": name}))
        };
        Mock::given(path("/customer")).respond_with(answer).mount(&self.shop).await;
    }

    /// The names that the shop has given, of those that are customers.
    async fn names(&self) -> Vec<Value> {
        self.column("select attributes->>'name' from customer360.xrefs where system = 'shop' order by external_id")
            .await
    }

    async fn asked(&self) -> usize {
        self.shop.received_requests().await.unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_asks_about_one_customer_or_all_lands_and_consolidates() {
    let place = Place::with(ASKED).await;
    place.drop_members(1..=5);
    place.knows_everybody("Old").await;
    assert_eq!(place.run(&["run", "--once"]).0, Some(0));
    assert_eq!(place.names().await, ["Old"; 5]);
    let asked = place.asked().await;

    place.shop.reset().await;
    place.knows_everybody("New").await;
    let (code, document, _) = place.run(&["refresh", "shop", "--email", "3@X.com", "--dry-run"]);
    assert_eq!((code, &document["customers"], asked), (Some(0), &json!(1), 5));
    assert_eq!(place.run(&["refresh", "shop", "--dry-run"]).1["customers"], 5);
    assert_eq!(place.asked().await, 0, "a dry run asks nothing");

    let (code, document, _) = place.run(&["refresh", "shop", "--email", "3@X.com", "--json"]);
    assert_eq!((code, &document["asked"], &document["records"]), (Some(0), &json!(1), &json!(1)), "{document}");
    assert_eq!(place.names().await, ["Old", "Old", "New", "Old", "Old"]);

    let (code, document, _) = place.run(&["refresh", "shop"]);
    assert_eq!((code, &document["asked"], &document["records"]), (Some(0), &json!(5), &json!(4)), "{document}");
    assert_eq!(place.names().await, ["New"; 5]);

    for (arguments, expected) in [
        (&["refresh", "shop", "--email", "nobody@x.org"][..], 66),
        (&["refresh", "shop", "--email", "no email"], 66),
        (&["refresh", "shopp"], 66),
        (&["refresh", "members"], 2),
    ] {
        let (code, _, said) = place.run(arguments);
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
        assert!(!said.contains("x.org"), "{said}");
    }
    place.shop.reset().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&place.shop).await;
    let (code, document, said) = place.run(&["refresh", "shop"]);
    assert_eq!((code, &document["breaker"]), (Some(69), &json!("open")), "{said}");
    assert!(said.contains("shop failed; what is due stays due"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_beside_a_daemon_ends_when_the_answer_has_landed_whoever_asked() {
    let place = Place::with(ASKED).await;
    place.drop_members(1..=20);
    place.knows_everybody("Old").await;
    let _daemon = place.start(&["run", "--no-http"]);
    // The daemon makes the schema first.
    let landed = "select count(*) from customer360.xrefs where system = 'shop' and customer_id is not null";
    let is_there = "select count(*) from pg_tables where schemaname = 'customer360' and tablename = 'dirty_marks'";
    eventually("the schema is there", async || place.column(is_there).await == [json!(1)]).await;
    eventually("all are known", async || place.column(landed).await == [json!(20)]).await;

    place.shop.reset().await;
    place.knows_everybody("New").await;
    for id in [7, 8, 9] {
        let (code, _, said) = place.run(&["refresh", "shop", "--email", &format!("{id}@x.com")]);
        assert_eq!(code, Some(0), "{said}");
        let checked = format!("select state from staging.polls where match_key = '{id}@x.com' and next_at > now()");
        assert_eq!(place.column(&checked).await, ["known"]);
        let landed = format!("select count(*) from staging.records where source = 'shop' and email = '{id}@x.com'");
        assert_eq!(place.column(&landed).await, [json!(2)], "{said}");
    }
    let (code, document, said) = place.run(&["refresh", "shop"]);
    let both = document["asked"].as_u64().unwrap() + document["asked_elsewhere"].as_u64().unwrap();
    assert_eq!((code, both), (Some(0), 20), "{document} {said}");
    eventually("all are new", async || place.names().await == ["New"; 20]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_does_not_wait_for_ever_for_a_process_that_has_stopped_and_says_so() {
    let place =
        Place::with(&format!("timeout = \"1s\"\nread_timeout = \"1s\"\nconnect_timeout = \"1s\"\n{ASKED}")).await;
    place.drop_members(1..=2);
    place.knows_everybody("Old").await;
    assert_eq!(place.run(&["run", "--once"]).0, Some(0));
    // Another process is faster, whenever the customer is made due, and never asks.
    place
        .home
        .execute(
            "create function staging.take() returns trigger language plpgsql as $$ begin
                 if new.next_at = 'epoch' then new.next_at := now() + interval '2 minutes'; end if;
                 return new;
             end $$",
        )
        .await;
    place
        .home
        .execute("create trigger take before update on staging.polls for each row execute function staging.take()")
        .await;
    let since = Instant::now();
    let (code, document, said) = place.run(&["refresh", "shop", "--email", "1@x.com"]);
    assert_eq!((code, &document["asked"], &document["held"]), (Some(69), &json!(0), &json!(1)), "{document} {said}");
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    for sentence in ["another process asks the source", "it may have stopped"] {
        assert!(said.contains(sentence), "{sentence} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_daemon_is_in_trouble_with_is_not_hidden_by_a_command_that_works() {
    let place = Place::with(ASKED).await;
    place.drop_members(1..=2);
    place.knows_everybody("Old").await;
    assert_eq!(place.run(&["run", "--once"]).0, Some(0));
    let mut connection = place.home.connection().await;
    let refused = json!({"breaker": "open", "stopped": ["the source refuses our credentials"]});
    staging::health::report(&mut connection, "shop", Speaker::Daemon, &refused, Utc::now()).await.unwrap();
    for command in [&["refresh", "shop"][..], &["run", "--once"]] {
        assert_eq!(place.run(command).0, Some(0), "{command:?}");
        let (code, document, _) = place.run(&["status", "--check", "--json"]);
        assert_eq!((code, &document["sources"]["shop"]["breaker"]), (Some(1), &json!("open")), "{document}");
        assert_eq!(document["sources"]["shop"]["stopped"], refused["stopped"], "{document}");
    }
}

/// A page of the list: so many customers, every one with an order.
fn page(customers: usize, number: usize, name: &str) -> ResponseTemplate {
    let ids = (1..=customers).skip((number - 1) * PER_PAGE).take(PER_PAGE);
    let data: Vec<Value> = ids
        .map(|id| {
            json!({"id": id, "email": format!("{id}@x.com"), "name": format!("{name} {id}"),
                   "orders": [{"number": format!("o{id}"), "total": 1}]})
        })
        .collect();
    let answer = ResponseTemplate::new(200).set_body_json(json!({ "data": data }));
    if customers <= number * PER_PAGE {
        return answer;
    }
    answer.insert_header("link", format!("</customers?p={}&key=canary-key>; rel=\"next\"", number + 1))
}

fn number(request: &Request) -> usize {
    request.url.query_pairs().find(|(name, _)| name == "p").map_or(1, |(_, page)| page.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_by_configuration_alone_and_a_kill_in_the_middle_loses_and_doubles_nothing() {
    let place = Place::with(LISTED).await;
    // The third page does not come.
    let answer = |request: &Request| match number(request) {
        3 => ResponseTemplate::new(200).set_delay(Duration::from_mins(1)),
        number => page(9, number, "Customer"),
    };
    Mock::given(path("/customers")).respond_with(answer).mount(&place.shop).await;
    let mut victim = place.start(&["run", "--once"]);
    eventually("the third page is asked for", async || place.asked().await == 3).await;
    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    let row = "select jsonb_build_array(pages, complete_until, next_page is null) from staging.lists";
    assert_eq!(place.column(row).await, [json!([2, null, false])]);

    place.shop.reset().await;
    let answer = |request: &Request| page(9, number(request), "Customer");
    Mock::given(path("/customers")).respond_with(answer).mount(&place.shop).await;
    // Its lease runs out.
    place.home.execute("update staging.lists set next_at = now()").await;
    let (code, _, said) = place.run(&["run", "--once"]);
    assert_eq!(code, Some(0), "{said}");
    let requests = place.shop.received_requests().await.unwrap();
    assert_eq!(number(&requests[0]), 3, "it goes on where the other one was");
    let names = "select document->'profile'->>'name' from customer360.documents order by 1";
    let expected: Vec<String> = (1..=9).map(|id| format!("Customer {id}")).collect();
    assert_eq!(place.column(names).await, expected);
    let orders = "select count(*) from customer360.orders where customer_id is not null";
    assert_eq!(place.column(orders).await, [json!(9)]);
    assert_eq!(place.column("select sum(record_count) from staging.batches").await, [json!(18)], "each landed once");

    let (code, document, said) = place.run(&["status", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let list = &document["sources"]["shop"]["lists"]["customer"];
    assert_eq!(
        (&list["due_seconds"], &list["pages"], &list["failures"]),
        (&json!(0), &json!(0), &json!(0)),
        "{document}"
    );
    assert!(list["complete_until"].is_string());
    assert_eq!(place.run(&["refresh", "shop", "--email", "1@x.com"]).0, Some(2), "it is asked about nobody");
    let (code, document, _) = place.run(&["refresh", "shop", "--json"]);
    assert_eq!((code, &document["records"]), (Some(0), &json!(0)), "nothing has changed: {document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_does_not_end_is_a_failed_source_and_status_says_why() {
    let place = Place::with(LISTED).await;
    let answer = |_: &Request| page(9, 1, "Customer");
    Mock::given(path("/customers")).respond_with(answer).mount(&place.shop).await;
    let (code, _, said) = place.run(&["run", "--once"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("failed: shop"), "{said}");
    let (code, document, _) = place.run(&["status", "--json", "--check"]);
    assert_eq!(code, Some(1));
    let trouble = document["sources"]["shop"]["trouble"].as_str().unwrap();
    assert_eq!(trouble, "list_customer: a page has come twice: the source does not page as the configuration says");
    assert_eq!(place.column("select count(*) from customer360.documents").await, [json!(2)], "what it brought stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_keep_the_rate_of_one_together() {
    let place = Place::with(&ASKED.replace("requests_per_second = 1000", "requests_per_second = 50")).await;
    place.drop_members(1..=150);
    assert_eq!(place.run(&["import", "members"]).0, Some(0));
    place.knows_everybody("Customer").await;
    let since = Instant::now();
    let mut others = [place.start(&["run", "--once"]), place.start(&["run", "--once"])];
    eventually("all are asked", async || place.asked().await >= 150).await;
    let took = since.elapsed();
    assert!(took > Duration::from_millis(2_600), "150 requests within {took:?}");
    for other in &mut others {
        assert!(other.0.wait().unwrap().success());
    }
    assert_eq!((place.asked().await, place.names().await.len()), (150, 150));
}
