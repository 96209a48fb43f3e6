//! A store to ask, a database to land in, and the reference mapping between them.

#![expect(dead_code, reason = "every test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "what does not work here is a failed test")]

pub(crate) mod shop;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use embedded_postgres::test::TestDatabase;
use model::mapping::Context;
use model::{CredentialKey, Credentials, InstallationKey, Limits};
use poll_rest::{Settings, Summary};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgPool, Row};
use staging::{DEFAULT_PARTITION_WIDTH, Lander, Seal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

pub(crate) const SOURCE: &str = "online_store";
pub(crate) const CUSTOMER: &str = "/api/onlineStore/getCustomerDetailsByEmail";
pub(crate) const ORDERS: &str = "/api/onlineStore/getOrdersByCustomerId";
pub(crate) const PRODUCT: &str = "/api/onlineStore/getProductDetailsByProductId";

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) pool: PgPool,
    pub(crate) store: MockServer,
    pub(crate) settings: Settings,
}

impl World {
    pub(crate) async fn new() -> Self {
        let store = MockServer::start().await;
        let uri = store.uri();
        Self { store, ..Self::asking(&uri).await }
    }

    /// A world whose source is not the mock.
    pub(crate) async fn asking(base_url: &str) -> Self {
        let database = embedded_postgres::test::database().await;
        let pool = database.pool().await;
        staging::migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
        Self { database, pool, store: MockServer::start().await, settings: settings(base_url) }
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.database.url.parse().unwrap()
    }

    pub(crate) fn lander(&self) -> Lander {
        Lander::new(self.options(), Seal::new(&InstallationKey::new([7; 32])), DEFAULT_PARTITION_WIDTH)
    }

    pub(crate) async fn offer(&self, emails: &[&str]) {
        let emails: Vec<String> = emails.iter().map(|&email| email.to_owned()).collect();
        let keys: Vec<String> = emails.iter().map(|email| email.to_lowercase()).collect();
        staging::polls::offer(&self.pool, &[SOURCE.to_owned()], &keys, &emails, Utc::now()).await.unwrap();
    }

    pub(crate) async fn poll_due(&self) -> Summary {
        let cancel = CancellationToken::new();
        poll_rest::poll_due(self.settings.clone(), self.options(), &mut self.lander(), cancel).await.unwrap()
    }

    /// Everything is due again.
    pub(crate) async fn time_passes(&self) {
        self.execute("update staging.polls set next_at = now() - interval '1 hour'").await;
        self.execute("update staging.polled_products set next_at = now() - interval '1 hour'").await;
    }

    pub(crate) async fn polls_are_due(&self) {
        self.execute("update staging.polls set next_at = now() - interval '1 hour'").await;
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    /// The first column of all rows.
    pub(crate) async fn column(&self, sql: &str) -> Vec<Value> {
        let sql = format!("select to_jsonb(x) from ({sql}) as rows (x)");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.pool).await.unwrap();
        rows.iter().map(|row| row.get::<Value, _>(0)).collect()
    }

    pub(crate) async fn value(&self, sql: &str) -> Value {
        self.column(sql).await.into_iter().next().unwrap_or(Value::Null)
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.value(&format!("select count(*) from staging.{table}")).await.as_i64().unwrap()
    }

    pub(crate) async fn poll(&self, key: &str) -> Poll {
        let sql = "select state, external_id, checked_at, next_at, failures from staging.polls where match_key = $1";
        let row = sqlx::query(sql).bind(key).fetch_one(&self.pool).await.unwrap();
        Poll {
            state: row.get(0),
            external_id: row.get(1),
            checked_at: row.get(2),
            next_at: row.get(3),
            failures: row.get(4),
        }
    }

    /// How many requests the store had, by path.
    pub(crate) async fn requests(&self, path: &str) -> usize {
        let requests = self.store.received_requests().await.unwrap();
        requests.iter().filter(|request| request.url.path() == path).count()
    }

    pub(crate) async fn customer(&self, email: &str, answer: ResponseTemplate) {
        self.answer(CUSTOMER, "customerEmail", email, answer).await;
    }

    pub(crate) async fn orders(&self, id: &str, answer: ResponseTemplate) {
        self.answer(ORDERS, "customerId", id, answer).await;
    }

    pub(crate) async fn product(&self, id: &str, answer: ResponseTemplate) {
        self.answer(PRODUCT, "productId", id, answer).await;
    }

    async fn answer(&self, at: &str, parameter: &str, value: &str, answer: ResponseTemplate) {
        let request = Mock::given(method("GET")).and(path(at)).and(query_param(parameter, value));
        request.respond_with(answer).mount(&self.store).await;
    }

    /// The store's Matthew, with one order of one product.
    pub(crate) async fn matthew(&self) {
        self.customer("matthew.groves@couchbase.com", ok(&matthew())).await;
        self.orders("1", ok(&orders_of_matthew())).await;
        self.product("200", ok(&json!({"ProductId": 200, "Name": "Teapot", "Colour": "red"}))).await;
    }
}

#[derive(Debug)]
pub(crate) struct Poll {
    pub(crate) state: String,
    pub(crate) external_id: Option<String>,
    pub(crate) checked_at: Option<DateTime<Utc>>,
    pub(crate) next_at: DateTime<Utc>,
    pub(crate) failures: i32,
}

pub(crate) fn matthew() -> Value {
    json!({"Id": 1, "Name": "Matthew Groves", "Email": "matthew.groves@couchbase.com", "Password": "edzchzmatv5"})
}

pub(crate) fn orders_of_matthew() -> Value {
    json!([{"OrderId": 1, "PurchaseDate": "2019-04-25T15:15:5800838522", "CustomerId": 1,
            "Items": [{"OrderId": 1, "ProductId": 200, "Quantity": 2, "Price": 87.81}]}])
}

/// A customer with this id and email who has no orders.
pub(crate) fn somebody(id: u32, email: &str) -> Value {
    json!({"Id": id, "Name": "Some Body", "Email": email, "Password": "edzchzmatv5"})
}

pub(crate) fn ok(body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

pub(crate) fn status(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status)
}

pub(crate) fn settings(base_url: &str) -> Settings {
    let customer = json!({
        "request": format!("{CUSTOMER}?customerEmail={{email}}"),
        "external_id": "Id", "email": "Email", "credential": "Password", "attributes": {"name": "Name"},
    });
    let order = json!({
        "request": format!("{ORDERS}?customerId={{external_id}}"),
        "order_id": "OrderId", "customer_external_id": "CustomerId", "purchased_at": "PurchaseDate",
        "cancelled": [],
        "lines": {"path": "Items", "product_id": "ProductId", "quantity": "Quantity", "unit_price": "Price"},
    });
    let product = json!({
        "request": format!("{PRODUCT}?productId={{product_id}}"), "product_id": "ProductId", "name": "Name",
    });
    let context =
        Context { credentials: Credentials::digest(&InstallationKey::new([7; 32])), timezone: chrono_tz::Tz::UTC };
    Settings {
        source: SOURCE.to_owned(),
        base_url: base_url.to_owned().into(),
        headers: BTreeMap::new(),
        auth: None,
        private_addresses: false,
        requests_per_second: 1000.0,
        concurrency: 8,
        refresh_every: Duration::from_hours(24),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(15),
        timeout: Duration::from_secs(30),
        max_body_bytes: 8 << 20,
        breaker_failures: 1000,
        breaker_cooldown: Duration::from_secs(30),
        customer: Some(serde_json::from_value(customer).unwrap()),
        order: Some(serde_json::from_value(order).unwrap()),
        product: Some(serde_json::from_value(product).unwrap()),
        interaction: None,
        lists: Vec::new(),
        context,
        fingerprint_key: CredentialKey::new(&InstallationKey::new([7; 32])),
        limits: Limits::default(),
        ttl: Duration::from_hours(25),
    }
}

/// A server that answers every request with these bytes, piece by piece, and then is silent.
pub(crate) async fn raw_server(pieces: Vec<Vec<u8>>, between: Duration, stays: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let pieces = pieces.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                for piece in pieces {
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(between).await;
                }
                if stays {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    url
}
