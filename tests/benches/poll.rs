//! How fast customers are asked about, landing included, beside a loop that makes the same requests and drops the answers.
//!
//! ROWS customers (100,000), CONCURRENCY requests at a time (32), by a source that takes LATENCY milliseconds for each (10).
//! Both take turns, RUNS times (3). Source and loop are processes of their own, so that the memory of this one is that of
//! asking.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::extract::RawQuery;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::{Router, response::IntoResponse};
use c360_tests::bench::{Resident, Watch, cluster, database, number, report, rows, runs, timed};
use c360_tests::source;
use chrono::Utc;
use futures::StreamExt;
use model::mapping::CustomerMapping;
use model::{CredentialKey, Limits};
use poll_rest::Settings;
use reqwest::Client;
use sqlx::Executor;
use sqlx::postgres::PgConnectOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const SOURCE: &str = "online_store";
const DATABASE: &str = "polled";
const PATH: &str = "/customers";
const PATIENCE: Duration = Duration::from_secs(10);
/// So many emails are made known by one statement.
const OFFERED: usize = 10_000;

/// The source, which ends with this process.
struct Source {
    process: Child,
    base_url: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let (rows, concurrency) = (rows(100_000), number("CONCURRENCY", 32));
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => serve(port.parse()?, Duration::from_millis(number("LATENCY", 10) as u64)).await,
        ["get", base_url] => get_all(base_url, rows, concurrency).await,
        _ => bench(rows, concurrency).await,
    }
}

async fn bench(rows: usize, concurrency: usize) -> Result<()> {
    let source = Source::start().await?;
    let cluster = cluster()?;
    let (options, mut connection) = database(&cluster, DATABASE).await?;
    let emails: Vec<String> = (0..rows).map(email).collect();
    let (mut asked, mut got) = (vec![], vec![]);
    for run in 0..runs(3) {
        connection.execute("truncate staging.polls, staging.batches, staging.records").await?;
        for emails in emails.chunks(OFFERED) {
            staging::polls::offer(&mut connection, &[SOURCE.to_owned()], emails, emails, Utc::now()).await?;
        }
        connection.execute("vacuum analyze staging.polls").await?;
        connection.execute("checkpoint").await?;
        let (seconds, resident) = timed(async || ask(&source, &options, rows, concurrency).await).await?;
        asked.push(seconds);
        got.push(timed(async || this_program(&["get", &source.base_url])?.wait().context("the loop")).await?.0);
        println!("run {run}: asked {seconds:.2} s, bare loop {:.2} s; {resident}", got[run]);
    }
    let what = format!("asking about {rows} customers, {concurrency} at a time");
    report(&what, rows, &asked, "bare GET loop", &got, "goal 0.95");
    Ok(())
}

/// Asks about everybody; the memory of this process meanwhile.
async fn ask(source: &Source, options: &PgConnectOptions, rows: usize, concurrency: usize) -> Result<Resident> {
    let (settings, options) = (settings(&source.base_url, concurrency), options.clone());
    let watch = Watch::begin(std::process::id());
    let asking = async move {
        let mut lander = source::lander(&options);
        poll_rest::poll_due(settings, options, &mut lander, CancellationToken::new()).await
    };
    let done = tokio::spawn(asking).await??;
    ensure!((done.known, done.records) == (rows as u64, rows as u64), "{done:?}");
    watch.end()
}

/// The limit: the same requests, as many at a time.
async fn get_all(base_url: &str, rows: usize, concurrency: usize) -> Result<()> {
    let client = client()?;
    let get = async |id: usize| {
        let url = format!("{base_url}{PATH}?email={}", email(id));
        client.get(url).send().await?.error_for_status()?.bytes().await
    };
    let mut answers = futures::stream::iter(0..rows).map(get).buffer_unordered(concurrency);
    while let Some(answer) = answers.next().await {
        ensure!(!answer?.is_empty(), "an empty answer");
    }
    Ok(())
}

fn client() -> Result<Client> {
    // An error says that the process has a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Client::builder().no_proxy().build()?)
}

/// Answers about anybody, after a while.
async fn serve(port: u16, latency: Duration) -> Result<()> {
    let answer = async move |RawQuery(query): RawQuery| {
        tokio::time::sleep(latency).await;
        let email = query.unwrap_or_default().replace("email=", "").replace("%40", "@");
        let id = email.chars().filter(char::is_ascii_digit).collect::<String>();
        let body = format!(
            r#"{{"id":{id},"name":"Matthew Groves {id}","email":"{email}","password":"edzchzmatv{id}","phone":"811.128.4320 x4808","address1":"600 Sporer Curve","address2":"Suite 528","city":"West Evertchester"}}"#
        );
        ([(CONTENT_TYPE, "application/json")], body).into_response()
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    Ok(axum::serve(listener, Router::new().route(PATH, get(answer))).await?)
}

impl Source {
    async fn start() -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port();
        let source = Self {
            process: this_program(&["serve", &port.to_string()])?,
            base_url: format!("http://127.0.0.1:{port}"),
        };
        let answers = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.context("the source does not listen")?;
        Ok(source)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A part of the work in a process of its own.
fn this_program(words: &[&str]) -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?).args(words).spawn()?)
}

fn email(id: usize) -> String {
    format!("matthew.groves{id}@example.org")
}

fn settings(base_url: &str, concurrency: usize) -> Settings {
    let customer = CustomerMapping {
        request: Some(format!("{PATH}?email={{email}}")),
        ..source::customer("id", &["name", "phone", "address1", "city"])
    };
    Settings {
        source: SOURCE.to_owned(),
        base_url: base_url.to_owned().into(),
        headers: BTreeMap::new(),
        auth: None,
        private_addresses: false,
        requests_per_second: 1_000_000.0,
        concurrency,
        refresh_every: Duration::from_hours(24),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(15),
        timeout: Duration::from_secs(30),
        max_body_bytes: 1 << 20,
        breaker_failures: 5,
        breaker_cooldown: Duration::from_secs(30),
        customer: Some(customer),
        order: None,
        product: None,
        interaction: None,
        lists: Vec::new(),
        context: source::context(),
        fingerprint_key: CredentialKey::new(&source::key()),
        limits: Limits::default(),
        ttl: Duration::from_hours(168),
    }
}
