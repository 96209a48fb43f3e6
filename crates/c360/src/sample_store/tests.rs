use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Endpoint, Fault, Store, serve};

const CUSTOMER: &str =
    r#"{"Id":1,"Name":"Matthew Groves","Email":"matthew.groves@couchbase.com","Password":"edzchzmatv5"}"#;
const FIRST: &str = r#"{"OrderId":1,"PurchaseDate":"2019-04-25T15:15:5800838522","CustomerId":1,"Items":[{"OrderId":1,"ProductId":200,"Quantity":2,"Price":87.8100}]}"#;
const SECOND: &str = r#"{"OrderId":"1b", "CustomerId":"1", "Items":[]}"#;
const PRODUCT: &str = r#"{"ProductId":200,"Name":"Café table","Price":18446744073709551616.10}"#;

const BY_EMAIL: &str = "/api/onlineStore/getCustomerDetailsByEmail?customerEmail=matthew.groves%40couchbase.com";
const ORDERS: &str = "/api/onlineStore/getOrdersByCustomerId?customerId=1";
const PRODUCTS: &str = "/api/onlineStore/getProductDetailsByProductId?productId=200";

fn data() -> String {
    let idle = r#"{"Id":2,"Name":"Ada","Email":" Ada@Example.org "}"#;
    format!(r#"{{"customers":[{CUSTOMER},{idle}],"orders":[{FIRST},{SECOND}],"products":[{PRODUCT}]}}"#)
}

struct Server {
    store: Store,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let store = Store::parse(&data()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            stopped.await.ok();
        };
        let task = tokio::spawn(serve(listener, store.clone(), shutdown));
        Self { store, address, stop, task }
    }

    /// The status and all of the answer.
    async fn get(&self, target: &str, header: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: store\r\nconnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    async fn body(&self, target: &str) -> (u16, String) {
        let (status, answer) = self.get(target, "").await;
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn etag(&self, target: &str) -> String {
        let (_, answer) = self.get(target, "").await;
        let line = answer.lines().find_map(|line| line.strip_prefix("etag: "));
        line.unwrap().to_owned()
    }
}

#[tokio::test]
async fn answers_records_as_they_stand_in_the_data() {
    let server = Server::start().await;
    assert_eq!(server.body(BY_EMAIL).await, (200, CUSTOMER.to_owned()));
    assert_eq!(server.body(ORDERS).await, (200, format!("[{FIRST},{SECOND}]")));
    assert_eq!(server.body(PRODUCTS).await, (200, PRODUCT.to_owned()));
    let (_, answer) = server.get(PRODUCTS, "").await;
    assert!(answer.contains("content-type: application/json\r\n"));
}

#[tokio::test]
async fn compares_emails_trimmed_and_without_case() {
    let server = Server::start().await;
    let asked = "/api/onlineStore/getCustomerDetailsByEmail?customerEmail=%20ADA%40example.ORG";
    assert_eq!(server.body(asked).await.0, 200);
}

#[tokio::test]
async fn a_customer_without_orders_has_an_empty_list() {
    let server = Server::start().await;
    let asked = "/api/onlineStore/getOrdersByCustomerId?customerId=2";
    assert_eq!(server.body(asked).await, (200, "[]".to_owned()));
}

#[tokio::test]
async fn an_unknown_key_is_404_and_a_missing_one_400() {
    let server = Server::start().await;
    for (parameter, endpoint) in [
        ("customerEmail", "getCustomerDetailsByEmail"),
        ("customerId", "getOrdersByCustomerId"),
        ("productId", "getProductDetailsByProductId"),
    ] {
        let path = format!("/api/onlineStore/{endpoint}");
        let missing = (400, format!(r#"{{"error":"{parameter} is missing"}}"#));
        assert_eq!(server.body(&format!("{path}?{parameter}=9")).await, (404, r#"{"error":"not found"}"#.to_owned()));
        for wrong in ["", "?", "?other=1", &format!("?{parameter}=")] {
            assert_eq!(server.body(&format!("{path}{wrong}")).await, missing);
        }
    }
    assert_eq!(server.body("/api/onlineStore/listCustomers").await.0, 404);
    assert_eq!(server.body("/healthz").await, (200, "ok".to_owned()));
}

#[tokio::test]
async fn what_the_caller_has_already_is_304() {
    let server = Server::start().await;
    let etag = server.etag(ORDERS).await;
    for tags in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let (status, answer) = server.get(ORDERS, &format!("if-none-match: {tags}\r\n")).await;
        assert_eq!(status, 304);
        assert!(answer.contains(&etag) && answer.ends_with("\r\n\r\n"));
    }
    assert_eq!(server.get(ORDERS, "if-none-match: \"other\"\r\n").await.0, 200);
    assert_eq!(server.get(BY_EMAIL, &format!("if-none-match: {etag}\r\n")).await.0, 200);
}

#[tokio::test]
async fn changed_data_has_another_tag() {
    let server = Server::start().await;
    let before = server.etag(ORDERS).await;
    server.store.replace(&data().replace("87.8100", "87.81")).unwrap();
    assert_ne!(server.etag(ORDERS).await, before);
    server.store.replace("[]").unwrap_err();
    assert_eq!(server.body(ORDERS).await.0, 200);
}

#[tokio::test]
async fn a_fault_strikes_its_key_as_often_as_it_says() {
    let server = Server::start().await;
    let unavailable = Fault::on(Endpoint::Orders).key("1").status(StatusCode::SERVICE_UNAVAILABLE);
    server.store.inject(unavailable.header(header::RETRY_AFTER, HeaderValue::from_static("1")).times(2));
    assert_eq!(server.body("/api/onlineStore/getOrdersByCustomerId?customerId=2").await.0, 200);
    for _ in 0..2 {
        let (status, answer) = server.get(ORDERS, "").await;
        assert_eq!(status, 503);
        assert!(answer.contains("retry-after: 1\r\n"));
    }
    assert_eq!(server.body(ORDERS).await.0, 200);
}

#[tokio::test]
async fn a_fault_can_answer_anything_until_healed() {
    let server = Server::start().await;
    server.store.inject(Fault::on(Endpoint::Customer).key("MATTHEW.GROVES@couchbase.com").body("<html>"));
    assert_eq!(server.body(BY_EMAIL).await, (200, "<html>".to_owned()));
    server.store.heal();
    assert_eq!(server.body(BY_EMAIL).await, (200, CUSTOMER.to_owned()));
}

#[tokio::test]
async fn a_late_answer_is_the_true_one() {
    let server = Server::start().await;
    server.store.inject(Fault::on(Endpoint::Product).delay(Duration::from_millis(20)));
    let asked = tokio::time::Instant::now();
    assert_eq!(server.body(PRODUCTS).await, (200, PRODUCT.to_owned()));
    assert!(asked.elapsed() >= Duration::from_millis(20));
}

#[tokio::test]
async fn faults_can_come_with_the_data() {
    let faults = r#""faults":[{"endpoint":"orders","key":"1","status":500,"headers":{"x-y":"z"},"times":1}],"orders""#;
    let server = Server::start().await;
    server.store.replace(&data().replace(r#""orders""#, faults)).unwrap();
    assert_eq!(server.body(ORDERS).await.0, 500);
    assert_eq!(server.body(ORDERS).await.0, 200);
}

#[tokio::test]
async fn stops_when_told_after_finishing_what_is_under_way() {
    let server = Server::start().await;
    server.store.inject(Fault::on(Endpoint::Product).delay(Duration::from_millis(50)).times(1));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("GET {PRODUCTS} HTTP/1.1\r\nhost: store\r\n\r\n").as_bytes()).await.unwrap();
    while server.store.state().faults[0].times != Some(0) {
        tokio::task::yield_now().await;
    }
    server.stop.send(()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"));
    server.task.await.unwrap().unwrap();
}

#[test]
fn the_data_of_the_demo_is_the_stores_own() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/online_store.json");
    let store = Store::load(&path).unwrap();
    assert_eq!(store.look_up(Endpoint::Customer, "matthew.groves@couchbase.com").0.unwrap().body, CUSTOMER);
    let orders = store.look_up(Endpoint::Orders, "1").0.unwrap().body;
    assert!(orders.starts_with(b"[{\"OrderId\":1,\"PurchaseDate\":\"2019-04-25T15:15:5800838522\""));
}

#[test]
fn data_that_contradicts_itself_is_refused_without_naming_anybody() {
    let twice = format!(r#"{{"customers":[{CUSTOMER},{CUSTOMER}],"orders":[],"products":[]}}"#);
    let refusal = format!("{:#}", Store::parse(&twice).unwrap_err());
    assert_eq!(refusal, "customer 1: there is another with the same customerEmail");
    for wrong in [
        r#"{"customers":[{"Id":null,"Email":"a@example.com"}],"orders":[],"products":[]}"#,
        r#"{"customers":[],"orders":[{"OrderId":1}],"products":[]}"#,
        r#"{"customers":[],"orders":[],"products":[],"more":[]}"#,
        r#"{"customers":[],"orders":[],"products":[],"faults":[{"endpoint":"orders","status":5}]}"#,
    ] {
        Store::parse(wrong).unwrap_err();
    }
}

/// The status and the body of the answer to something that is told.
async fn tell(server: &Server, what: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let length = body.len();
    let head = format!("{what} HTTP/1.1\r\nhost: store\r\nconnection: close\r\ncontent-type: application/json\r\n");
    stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

#[tokio::test]
async fn a_customer_changes_and_says_when() {
    let server = Server::start().await;
    let (status, changed) = tell(&server, "PATCH /api/onlineStore/customers/1", r#"{"Name": "Matt"}"#).await;
    assert_eq!(status, 200);
    assert_eq!(server.body(BY_EMAIL).await, (200, changed.clone()));
    let record: serde_json::Value = serde_json::from_str(&changed).unwrap();
    assert_eq!((&record["Name"], &record["Password"]), (&"Matt".into(), &"edzchzmatv5".into()));
    assert!(record["ModifiedAt"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{changed}");
    for (id, body, expected) in [
        ("7", r#"{"Name": "x"}"#, 404),
        ("1", "[]", 400),
        ("1", r#"{"Email": "x@y"}"#, 422),
        ("1", r#"{"Name": ""}"#, 422),
    ] {
        let what = format!("PATCH /api/onlineStore/customers/{id}");
        assert_eq!(tell(&server, &what, body).await.0, expected, "{id} {body}");
    }
    assert_eq!(server.body(BY_EMAIL).await, (200, changed), "what is refused changes nothing");
}

#[tokio::test]
async fn a_customer_is_made_once_with_the_next_number() {
    let server = Server::start().await;
    let new = r#"{"Email": "New@example.org", "Name": "New"}"#;
    let (status, made) = tell(&server, "POST /api/onlineStore/customers", new).await;
    assert_eq!(status, 201, "{made}");
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["Id"], 3);
    assert_eq!(tell(&server, "POST /api/onlineStore/customers", new).await.0, 409);
    assert_eq!(tell(&server, "POST /api/onlineStore/customers", r#"{"Name": "x"}"#).await.0, 422);
    let known = "/api/onlineStore/getCustomerDetailsByEmail?customerEmail=new%40example.org";
    assert_eq!(server.body(known).await.0, 200);
    assert_eq!(server.body("/api/onlineStore/getOrdersByCustomerId?customerId=3").await, (200, "[]".to_owned()));
}
