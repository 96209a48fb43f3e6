//! A running server, and a client that can misbehave.

pub(crate) mod base;
pub(crate) mod browser;
pub(crate) mod consolidating;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use consolidate::Rules;
use consolidate::erase::Orders;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use model::{Guards, InstallationKey, Survivorship};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use status::{Expected, Kind, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) cancel: CancellationToken,
    pub(crate) recorder: PrometheusRecorder,
    pub(crate) served: JoinHandle<Result<(), serve::Error>>,
}

/// A server in front of this database.
pub(crate) async fn server(database: PgConnectOptions) -> Server {
    let listener = serve::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let recorder = PrometheusBuilder::new().build_recorder();
    let cancel = CancellationToken::new();
    let served = tokio::spawn(serve::serve(listener, settings(database), recorder.handle(), cancel.clone()));
    Server { address, cancel, recorder, served }
}

/// The installation of the reference scenario.
fn settings(database: PgConnectOptions) -> serve::Settings {
    serve::Settings {
        database,
        key: InstallationKey::new([7; 32]),
        attributes: ["name", "phone", "address1", "city", "state", "loyaltyPoints"].map(str::to_owned).into(),
        systems: ["home_delivery", "loyalty", "online_store"].map(str::to_owned).into(),
        object_types: vec!["complaint".to_owned()],
        rules: rules(),
        erased_orders: Orders::Delete,
        takers: consolidate::edit::Takers::default(),
        setup: setup(),
        // The readers of sources are not here; that the right letters are handed over is.
        // Nor are their mappings; that what leaves has been through here is.
        mask: serve::Mask::new(|document| document["masked"] = Value::Bool(true)),
        retry: serve::Retry::new(async |ids| Ok(vec![format!("retried {ids:?}")])),
    }
}

/// The rules of that installation. Three cross-references of one system are too many.
pub(crate) fn rules() -> Rules {
    Rules {
        survivorship: Survivorship {
            prefer: ["home_delivery", "online_store", "loyalty"].map(str::to_owned).into(),
            groups: vec![["address1", "city", "state"].map(str::to_owned).into()],
            ..Survivorship::default()
        },
        guards: Guards::new::<&str>(&[], 2).unwrap(),
        polled_sources: vec!["online_store".to_owned()],
    }
}

/// What the status expects of it.
pub(crate) fn setup() -> Setup {
    let source = |kind| Expected { kind, late_after: None, ttl: Duration::from_hours(25) };
    let files = Kind::Csv { directory: "drop".into(), scan_every: Duration::from_secs(30) };
    let sources =
        [("home_delivery", source(Kind::Kafka)), ("loyalty", source(files)), ("online_store", source(Kind::Rest))];
    Setup {
        sources: sources.map(|(name, source)| (name.to_owned(), source)).into(),
        rules: model::fingerprint(&Survivorship::default(), &Guards::none()),
        listen: ([127, 0, 0, 1], 8360).into(),
    }
}

/// A server whose database is nowhere.
pub(crate) async fn server_without_database() -> Server {
    server(PgConnectOptions::new_without_pgpass().socket("/nowhere")).await
}

impl Server {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The answer to a request that is sent as it is.
    pub(crate) async fn send(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        // A server that has refused already may close before it has read everything.
        let _ = stream.write_all(request).await;
        Answer::parse(&read_to_end(&mut stream).await)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: c360\r\nconnection: close\r\n\r\n").as_bytes()).await
    }
}

impl Server {
    /// The answer to a GET under `/api/v1`, asked with this key.
    pub(crate) async fn ask(&self, key: &str, path: &str) -> Answer {
        let head = format!("GET /api/v1{path} HTTP/1.1\r\nhost: c360\r\nconnection: close\r\n");
        self.send(format!("{head}authorization: Bearer {key}\r\n\r\n").as_bytes()).await
    }

    /// The answer to any request under `/api/v1`; the headers each end their line.
    pub(crate) async fn request(&self, key: &str, what: &str, headers: &str, body: &str) -> Answer {
        let (method, path) = what.split_once(' ').unwrap();
        let length = body.len();
        let head = format!("{method} /api/v1{path} HTTP/1.1\r\nhost: c360\r\nconnection: close\r\n{headers}");
        let head = format!("{head}authorization: Bearer {key}\r\ncontent-length: {length}\r\n");
        self.send(format!("{head}content-type: application/json\r\n\r\n{body}").as_bytes()).await
    }

    /// The items of all pages of a list, with this many on each.
    pub(crate) async fn all_pages(&self, key: &str, path: &str, limit: usize) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let answer = self.ask(key, &format!("{path}{join}limit={limit}{cursor}")).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let page = answer.json();
            let on_page = page["items"].as_array().unwrap();
            assert!(on_page.len() <= limit);
            items.extend(on_page.iter().cloned());
            match &page["next_cursor"] {
                Value::Null => return items,
                next => cursor = format!("&cursor={}", next.as_str().unwrap()),
            }
        }
    }
}

/// Everything until the server closes, or resets because it does not want the rest of what we sent. A minute is for ever,
/// on the clock that the test has.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    timeout(Duration::from_mins(1), read_on(stream)).await.expect("the server closes the connection")
}

async fn read_on(stream: &mut TcpStream) -> Vec<u8> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) => return bytes,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What was sent in chunks of text, whole or not at all.
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").unwrap_or_else(|| panic!("it breaks off after {body:?}"));
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return body;
        }
        body.push_str(&after[..length]);
        rest = &after[length + 2..];
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) exact_head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap();
        let (exact_head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer but {text:?}"));
        let status = exact_head.split(' ').nth(1).unwrap().parse().unwrap();
        let head = exact_head.to_ascii_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
        Self { status, head, exact_head: exact_head.to_owned(), body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}
