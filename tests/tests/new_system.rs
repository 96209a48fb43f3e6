//! `docs/NEW_SYSTEM.md`, followed word by word: its blocks behind the reference configuration, on real parts.

#![expect(clippy::unwrap_used, reason = "a test without its world can only fail")]

use axum::Router;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use c360_tests::event::Event;
use c360_tests::program::Installation;
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC, Connect, Postgres, shipped_postgres};
use embedded_postgres::test::{eventually, look_until};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

const PAGE: &str = include_str!("../../docs/NEW_SYSTEM.md");
const REFERENCE: &str = include_str!("../../c360.toml");

/// What stands in the page's blocks of TOML.
fn blocks() -> String {
    let blocks: Vec<&str> = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 5, "the page has other blocks than this test knows");
    blocks.concat()
}

/// The newsletter's API: one page of subscribers, for whoever has the token. Everything else is unknown here, the online
/// store's customers included.
async fn newsletter() -> String {
    let subscribers = async |headers: HeaderMap, Query(query): Query<std::collections::BTreeMap<String, String>>| {
        if headers.get("authorization").is_none_or(|token| token != "Bearer let me in") {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let first =
            json!([{"uuid": "u-1", "address": "ANN@example.org", "full_name": "Ann Author", "frequency": "weekly"}]);
        let data = if query["page"] == "1" { first } else { json!([]) };
        Ok(axum::Json(json!({"data": data})))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/subscribers", get(subscribers))).await });
    url
}

async fn produce(broker: &Broker, topic: &str, events: &[Value]) {
    broker.send_all(topic, events.iter().map(Event::without_key)).await.unwrap();
}

async fn rows(pool: &PgPool, sql: &str) -> Vec<Value> {
    let sql = format!("select to_jsonb(q) from ({sql}) q");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
}

/// Runs the page's commands; what `status --json` says.
fn run(installation: &Installation) -> Value {
    for arguments in [&["config", "check"][..], &["run", "--once"]] {
        let output = installation.run(arguments).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&installation.run(&["status", "--json"]).unwrap().stdout).unwrap()
}

fn order(number: i64, revision: i64, state: &str, total: &str, items: &Value) -> Value {
    json!({"number": number, "account": "a-1", "placed_at": "2026-03-01T10:00:00Z", "total": total, "state": state,
           "revision": revision, "items": items})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_and_a_fifth_system_and_orders_products_and_emails_are_added_by_the_pages_own_words() {
    let kafka = async {
        let broker = Broker::start().await.unwrap();
        let connect = Connect::start(&broker).await.unwrap();
        (broker, connect)
    };
    let ((broker, connect), tills) = tokio::join!(kafka, async { Postgres::start().await.unwrap() });
    for topic in [CUSTOMERS_TOPIC, "shop-accounts", "shop-orders", "emails"] {
        broker.create_topic(topic, 1).await.unwrap();
    }
    tills
        .execute("insert into customers (id, name, email, password, city) values (7, 'Ann', 'ann@example.org', 'p', 'Keene')")
        .await
        .unwrap();
    connect.register("tills", &shipped_postgres("tills", &tills, &["customers"]).unwrap()).await.unwrap();
    produce(
        &broker,
        "shop-accounts",
        &[json!({"account": "a-1", "contact": {"email": "ann@example.org", "name": "A."}})],
    )
    .await;
    let item = |sku: &str, count: i64, price: &str| json!({"sku": sku, "count": count, "price": price});
    let orders = [
        order(1, 1, "open", "30.00", &json!([item("x", 1, "10.00"), item("y", 2, "10.00")])),
        order(1, 2, "open", "19.98", &json!([item("x", 2, "9.99")])),
        order(2, 1, "VOID", "5", &json!([item("x", 1, "10.00")])),
        order(3, 1, "open", "a lot", &json!([])),
    ];
    produce(&broker, "shop-orders", &orders).await;
    let mail = |id: i64, from: &str, to: Value, headers: Value| {
        let mut mail = json!({"id": id, "kind": "email", "date": "2026-03-01T10:00:00Z", "subject": "Hello", "from": from,
                              "to": to, "message_id": format!("<m{id}@x>"), "folder": "in"});
        mail.as_object_mut().unwrap().extend(headers.as_object().unwrap().clone());
        mail
    };
    let emails = [
        mail(3, "bob@example.org", json!(["ann@example.org"]), json!({"in_reply_to": "<m2@x>"})),
        mail(2, "Ann <ann@example.org>", json!("bob@example.org, cyd@example.org"), json!({"references": "<m1@x>"})),
        mail(1, "bob@example.org", json!([{"email": "ann@example.org", "role": "cc"}]), json!({})),
    ];
    produce(&broker, "emails", &emails).await;

    let database = embedded_postgres::test::database().await;
    let pool = database.pool().await;
    let api = newsletter().await;
    let mut installation = Installation::new(&format!("{REFERENCE}\n{}", blocks()))
        .unwrap()
        .with("C360__DATABASE__URL", &database.url)
        .with("C360__SOURCES__ONLINE_STORE__BASE_URL", &api)
        .with("C360__SOURCES__NEWSLETTER__BASE_URL", &api)
        .with("C360__SOURCES__CATALOGUE__SETTLE", "0s");
    for source in ["HOME_DELIVERY", "TILLS", "WEB_SHOP", "MAILBOX"] {
        installation = installation.with(&format!("C360__SOURCES__{source}__BROKERS"), &broker.bootstrap());
    }
    for directory in ["drop/loyalty", "drop/catalogue"] {
        std::fs::create_dir_all(installation.path().join(directory)).unwrap();
    }
    let file = installation.path().join("drop/catalogue/products.csv");
    std::fs::write(file, "sku,title,colour\nx,Widget,red\ny,Gadget,blue\n").unwrap();

    // The connector publishes its snapshot in its own time.
    let till_rows = async || {
        let status = run(&installation);
        (rows(&pool, "select from customer360.xrefs where system = 'tills'").await.len(), status)
    };
    let (_, status) = look_until("Debezium's snapshot comes", till_rows, |(rows, _)| *rows == 1).await;
    looks_as_the_page_says(&pool, &status).await;

    // The page's promise for every source of Debezium: changes and deletes need no word.
    tills.execute("delete from customers where id = 7").await.unwrap();
    let living = "select from customer360.xrefs where system = 'tills' and deleted_at is null";
    let is_gone = async || {
        run(&installation);
        rows(&pool, living).await.is_empty()
    };
    eventually("the delete comes", is_gone).await;
}

async fn looks_as_the_page_says(pool: &PgPool, status: &Value) {
    let document = rows(pool, "select document from customer360.documents where email = 'ann@example.org'").await;
    let document = &document[0]["document"];
    let systems: Vec<&str> =
        document["xrefs"].as_array().unwrap().iter().map(|xref| xref["external_system"].as_str().unwrap()).collect();
    assert_eq!(systems, ["newsletter", "tills", "web_shop"]);
    assert_eq!((&document["profile"]["newsletter"], &document["profile"]["city"]), (&json!("weekly"), &json!("Keene")));

    let orders = rows(
        pool,
        "select o.order_id, o.total::text, o.cancelled, o.status, trim_scale(o.lines_total)::text as lines_total, c.email,
                (select count(*) from customer360.order_lines l where l.system = o.system and l.order_id = o.order_id) as lines
         from customer360.orders o join customer360.customers c using (customer_id) order by o.order_id",
    )
    .await;
    assert_eq!(
        orders,
        [
            json!({"order_id": "1", "total": "19.98", "cancelled": false, "status": "open", "lines_total": "19.98",
                   "email": "ann@example.org", "lines": 1}),
            json!({"order_id": "2", "total": "5", "cancelled": true, "status": "VOID", "lines_total": "10",
                   "email": "ann@example.org", "lines": 1}),
        ]
    );
    assert_eq!(status["orders_total_differs"], json!({"web_shop": 1}));
    assert_eq!(status["sources"]["web_shop"]["dead_letters"], json!({"bad_value": 1}));

    let products =
        rows(pool, "select product_id, name, attributes from customer360.products order by product_id").await;
    assert_eq!(products[0], json!({"product_id": "x", "name": "Widget", "attributes": {"colour": "red"}}));
    assert_eq!(products.len(), 2);

    let threads = rows(pool, "select distinct thread_id, type, attributes from customer360.interactions").await;
    assert_eq!(threads, [json!({"thread_id": "m1@x", "type": "email", "attributes": {"folder": "in"}})]);
    let who = rows(
        pool,
        "select p.interaction_id as id, p.role from customer360.interaction_participants p
         join customer360.customers c using (customer_id) where c.email = 'ann@example.org' order by 1, 2",
    )
    .await;
    assert_eq!(
        who,
        [json!({"id": "1", "role": "cc"}), json!({"id": "2", "role": "from"}), json!({"id": "3", "role": "to"})]
    );
    let strangers = rows(pool, "select from customer360.interaction_participants where customer_id is null").await;
    assert_eq!(strangers.len(), 4, "bob and cyd are nobody's customers");
}
