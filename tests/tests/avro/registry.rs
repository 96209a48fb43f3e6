//! A stand-in for the schema registry: as much of its REST API as Confluent's client and c360 use.
//!
//! No registry server can be had as a package. What is registered here comes from Confluent's own client, and the words of
//! its answers are those of the API's documentation.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What `Authorization: Basic` says of `c360` and `registry-secret`.
const BASIC: &str = "Basic YzM2MDpyZWdpc3RyeS1zZWNyZXQ=";

#[derive(Default)]
struct Known {
    /// Schema and references of each id, which is its place here and one.
    schemas: Vec<Value>,
    forgotten: BTreeSet<u64>,
    wants_password: bool,
    asked: usize,
}

type Shared = Arc<Mutex<Known>>;
type Answer = (StatusCode, Json<Value>);

/// A running (or stopped) registry with what was registered.
pub(crate) struct Registry {
    address: SocketAddr,
    known: Shared,
    server: Option<JoinHandle<()>>,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut registry = Self { address: any, known: Shared::default(), server: None };
        registry.restart().await;
        registry
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it, with all its connections. What was registered stays.
    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/schemas/ids/{id}", get(schema))
            .route("/subjects/{subject}/versions", post(register))
            .with_state(self.known.clone());
        self.server = Some(tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }));
    }

    /// As if a schema had been registered elsewhere, or not at all.
    pub(crate) fn forget(&self, id: u64) {
        self.known().forgotten.insert(id);
    }

    pub(crate) fn remember(&self, id: u64) {
        self.known().forgotten.remove(&id);
    }

    /// Whoever reads has to show a password from now on, or no longer.
    pub(crate) fn want_password(&self, wants: bool) {
        self.known().wants_password = wants;
    }

    /// How often a schema was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.known().asked
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

async fn schema(State(known): State<Shared>, headers: HeaderMap, Path(id): Path<u64>) -> Answer {
    let mut known = known.lock().unwrap();
    known.asked += 1;
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
    if known.wants_password && shown != Some(BASIC) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error_code": 401, "message": "Unauthorized"})));
    }
    let place = usize::try_from(id).unwrap().checked_sub(1);
    match place.and_then(|place| known.schemas.get(place)).filter(|_| !known.forgotten.contains(&id)) {
        Some(schema) => (StatusCode::OK, Json(schema.clone())),
        None => {
            (StatusCode::NOT_FOUND, Json(json!({"error_code": 40_403, "message": format!("Schema {id} not found")})))
        }
    }
}

/// The same schema has the same id, whatever the subject.
async fn register(State(known): State<Shared>, Path(_): Path<String>, Json(body): Json<Value>) -> Answer {
    let mut known = known.lock().unwrap();
    let schema = json!({"schema": body["schema"], "references": body["references"]});
    let place = known.schemas.iter().position(|other| *other == schema).unwrap_or_else(|| {
        known.schemas.push(schema);
        known.schemas.len() - 1
    });
    (StatusCode::OK, Json(json!({"id": place + 1})))
}
