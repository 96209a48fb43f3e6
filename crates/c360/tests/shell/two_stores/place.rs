//! An installation with members in a file, the sample store beside it, and whoever asks it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use c360::sample_store::{Store, serve};
use embedded_postgres::test::eventually;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Home, Running};

pub(crate) const MATTHEW: &str = "matthew.groves@couchbase.com";
pub(crate) const WEI: &str = "wei_pena50@example.org";

/// The store answers for those that the file of members has.
const MEMBERS: &str = "id,email,name\n27,matthew.groves@couchbase.com,Matt\n29,wei_pena50@example.org,Wei\n";

pub(crate) struct Place {
    home: Home,
    api: SocketAddr,
    key: String,
    store: Store,
    store_at: SocketAddr,
    serving: Option<(CancellationToken, JoinHandle<()>)>,
    client: reqwest::Client,
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Place {
    /// Everybody is known, and nobody runs.
    pub(crate) async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/online_store.json");
        let api = free_port();
        let (store, store_at) = (Store::load(&fixture).unwrap(), free_port());
        let home = Home::new(&configuration(api, store_at)).await.with("C360_LOG", "debug,sqlx=info,hyper=info");
        home.write("drop/members.csv", MEMBERS);
        let client = reqwest::Client::builder().timeout(Duration::from_mins(1)).build().unwrap();
        let mut place = Self { home, api, key: String::new(), store, store_at, serving: None, client };
        place.start_store().await;
        assert_eq!(place.run(&["run", "--once"]).0, Some(0));
        let made = place.home.command(&["keys", "add", "ann", "--role", "agent"]).output().unwrap();
        place.key = String::from_utf8(made.stdout).unwrap().trim_end().into();
        assert_eq!(place.name(MATTHEW).await, "Matthew Groves", "as the store says");
        place
    }

    /// Runs a command; returns its exit code and what it prints as JSON.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let output = self.home.command(arguments).output().unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    pub(crate) fn status(&self) -> Value {
        self.run(&["status", "--json"]).1
    }

    pub(crate) fn status_page(&self) -> String {
        String::from_utf8(self.home.command(&["status"]).output().unwrap().stdout).unwrap()
    }

    pub(crate) fn start(&self, arguments: &[&str], log: &str) -> Running {
        self.home.start(arguments, log)
    }

    /// A daemon that serves, consolidates and polls.
    pub(crate) async fn daemon(&self, log: &str) -> Running {
        let running = self.start(&["run"], log);
        eventually("the daemon serves", async || {
            let ready = self.client.get(format!("http://{}/readyz", self.api)).send().await;
            ready.is_ok_and(|ready| ready.status().is_success())
        })
        .await;
        eventually("the daemon polls and consolidates", async || {
            let said = "select exists (select from staging.sources where source = 'online_store'
                                       and (health ->> 'daemon')::boolean and health_at > now() - interval '5 seconds')";
            self.value(said).await == true && self.metrics().await.contains("c360_consolidator_active 1")
        })
        .await;
        running
    }

    /// What is asked of the API; `None` if nobody answers.
    pub(crate) async fn try_call(&self, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let url = format!("http://{}/api/v1{path}", self.api);
        let mut request = self.client.request(method.parse().unwrap(), url).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.try_call(method, path, body).await.unwrap()
    }

    /// Another name for a customer.
    pub(crate) async fn edit(&self, email: &str, name: &str) -> (u16, Value) {
        self.call("PATCH", &format!("/customers/{email}"), Some(json!({"profile": {"name": name}}))).await
    }

    pub(crate) async fn refresh(&self, email: &str) -> Value {
        let (status, refreshed) = self.call("POST", &format!("/customers/{email}/refresh"), None).await;
        assert_eq!(status, 200, "{refreshed}");
        refreshed
    }

    pub(crate) async fn metrics(&self) -> String {
        let metrics = self.client.get(format!("http://{}/metrics", self.api)).send().await.unwrap();
        metrics.text().await.unwrap()
    }

    /// The page of a customer, as somebody sees it who signed in.
    pub(crate) async fn page(&self, email: &str) -> String {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let at = |path: &str| format!("http://{}{path}", self.api);
        let shown = client.get(at("/sign-in")).send().await.unwrap();
        let cookie = |answer: &reqwest::Response| {
            let cookies: Vec<&str> =
                answer.headers().get_all("set-cookie").iter().map(|c| c.to_str().unwrap()).collect();
            let pairs: Vec<&str> = cookies.iter().filter_map(|cookie| cookie.split(';').next()).collect();
            pairs.join("; ")
        };
        let visit = cookie(&shown);
        let form = shown.text().await.unwrap();
        let token = form.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let body = format!("token={token}&key={}", self.key);
        let signed_in = client
            .post(at("/sign-in"))
            .header("cookie", visit)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        let session = cookie(&signed_in);
        let page = client.get(at(&format!("/customers/{email}"))).header("cookie", &session).send().await.unwrap();
        assert_eq!(page.status(), 200);
        page.text().await.unwrap()
    }

    /// The only value of a statement.
    pub(crate) async fn value(&self, sql: &str) -> Value {
        let sql = format!("select to_jsonb(x) from ({sql}) as rows (x)");
        let value =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_optional(&mut self.home.connection().await).await.unwrap();
        value.unwrap_or(Value::Null)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.home.execute(sql).await;
    }

    /// A customer's name in the profile.
    pub(crate) async fn name(&self, email: &str) -> Value {
        self.value(&format!("select profile ->> 'name' from customer360.customers where email = '{email}'")).await
    }

    /// What the name was before each of its changes, the latest last.
    pub(crate) async fn names_before(&self, email: &str) -> Vec<String> {
        let sql = format!(
            "select jsonb_agg(old order by change_id) from customer360.changes
             join customer360.customers using (customer_id) where email = '{email}' and attribute = 'name'"
        );
        serde_json::from_value(self.value(&sql).await).unwrap_or_default()
    }

    pub(crate) async fn xref(&self, system: &str, email: &str) -> Value {
        self.value(&format!(
            "select to_jsonb(x) from customer360.xrefs x where system = '{system}' and match_key = '{email}'"
        ))
        .await
    }

    /// The store has changed a customer itself at this time, and nobody has heard of it. What it was told before is forgotten.
    pub(crate) fn change_unheard(&self, email: &str, name: &str, at: &str) {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/online_store.json");
        let mut data: Value = serde_json::from_str(&fs::read_to_string(fixture).unwrap()).unwrap();
        for customer in data["customers"].as_array_mut().unwrap() {
            if customer["Email"] == email {
                customer["Name"] = name.into();
                customer["ModifiedAt"] = at.into();
            }
        }
        self.store.replace(&data.to_string()).unwrap();
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) async fn start_store(&mut self) {
        let listener = TcpListener::bind(self.store_at).await.unwrap();
        let stop = CancellationToken::new();
        let (store, stopped) = (self.store.clone(), stop.clone());
        let serving = tokio::spawn(async move {
            serve(listener, store, stopped.cancelled_owned()).await.unwrap();
        });
        self.serving = Some((stop, serving));
    }

    /// Nobody listens where the store was.
    pub(crate) async fn stop_store(&mut self) {
        let (stop, serving) = self.serving.take().unwrap();
        stop.cancel();
        // Connections that are kept open are not waited for.
        tokio::time::timeout(Duration::from_secs(1), serving).await.ok();
    }

    /// The store's record of a customer, asked of the store itself.
    pub(crate) async fn in_store(&self, email: &str) -> Option<Value> {
        let url = format!("http://{}/api/onlineStore/getCustomerDetailsByEmail", self.store_at);
        let answer = self.client.get(url).query(&[("customerEmail", email)]).send().await.unwrap();
        if answer.status() == 404 {
            return None;
        }
        Some(answer.json().await.unwrap())
    }

    /// Somebody else changes a customer in the store.
    pub(crate) async fn tell_store(&self, id: u32, changes: Value) {
        let url = format!("http://{}/api/onlineStore/customers/{id}", self.store_at);
        let answer = self.client.patch(url).json(&changes).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

fn configuration(api: SocketAddr, store: SocketAddr) -> String {
    format!(
        r#"
        [http]
        listen = "{api}"
        [sources.members]
        kind = "csv"
        directory = "drop"
        settle = "0s"
        [sources.members.customer]
        external_id = "id"
        email = "email"
        attributes = {{ name = "name" }}
        [sources.online_store]
        kind = "rest"
        base_url = "http://{store}"
        requests_per_second = 1000
        timeout = "3s"
        breaker_failures = 3
        breaker_cooldown = "1s"
        [sources.online_store.customer]
        request = "/api/onlineStore/getCustomerDetailsByEmail?customerEmail={{email}}"
        external_id = "Id"
        email = "Email"
        credential = "Password"
        attributes = {{ name = "Name" }}
        [sources.online_store.customer.update]
        request = "/api/onlineStore/customers/{{external_id}}"
        body = {{ Name = "{{name}}" }}
        modified = "ModifiedAt"
        [sources.online_store.customer.create]
        request = "/api/onlineStore/customers"
        body = {{ Name = "{{name}}", Email = "{{email}}" }}
        [survivorship]
        prefer = ["online_store", "members"]
        "#
    )
}
