//! `GET /operations`: how all sources are, what needs somebody, and the dead letters, for operators.
//!
//! What needs attention is decided where `c360 status` has it decided, in crate `status`. A page is its parts, each drawn by
//! itself: [`live`] sends those that have changed. Everything but the list of dead letters comes from the snapshot that all
//! share.

pub(super) mod handling;
mod letters;
pub(super) mod live;
mod parts;
mod sources;

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use self::letters::Asked;
pub(super) use self::parts::unmatched_words;
pub(super) use self::sources::Freshness;
use super::Dashboard;
use super::frame::{Frame, page};
use super::visitor::Reader;
use crate::api::Caller;
use crate::keys::Role;
use crate::problem::Problem;

/// Streams that are open at once; each keeps a connection.
const STREAMS: usize = 64;

/// What the pages of operators share.
pub(super) struct Operations {
    /// The server stops.
    cancel: CancellationToken,
    streams: Arc<Semaphore>,
    /// Held by the retry that is under way.
    retrying: Arc<Mutex<()>>,
    /// What became of the latest retry, by its number: for the page that follows.
    retried: std::sync::Mutex<(u64, Vec<String>)>,
}

impl Operations {
    pub(super) fn new(cancel: CancellationToken) -> Self {
        Self {
            cancel,
            streams: Arc::new(Semaphore::new(STREAMS)),
            retrying: Arc::default(),
            retried: std::sync::Mutex::default(),
        }
    }
}

/// Refuses whoever is no operator of the whole.
pub(super) fn may_operate(caller: &Caller) -> Result<(), Problem> {
    caller.at_least(Role::Operator)?;
    caller.sees_everybody("operations are about all customers")
}

#[derive(Template)]
#[template(path = "operations.html")]
struct Page {
    frame: Frame,
    /// What was done.
    did: Vec<String>,
    /// Where the parts come from when they change.
    live: String,
    /// By their ids.
    parts: BTreeMap<&'static str, String>,
}

/// `GET /operations`
pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    reader: Reader,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let frame = Frame::of(&dashboard, &reader);
    match drawn(&dashboard, &reader, &query, frame.token()).await {
        Ok((asked, parts)) => {
            let live = format!("/operations/live?{}", asked.query());
            page(StatusCode::OK, &Page { frame, did: handling::did(&dashboard, &query), live, parts })
        }
        Err(problem) => frame.failure(&problem),
    }
}

async fn drawn(
    dashboard: &Dashboard,
    reader: &Reader,
    query: &BTreeMap<String, String>,
    token: &str,
) -> Result<(Asked, BTreeMap<&'static str, String>), Problem> {
    may_operate(&reader.caller)?;
    let asked = Asked::of(query)?;
    let snapshot = dashboard.watch.now().await.ok_or_else(away)?;
    let mut parts = parts::drawn(dashboard, &reader.visitor.locale, &snapshot)?;
    let letters = letters::drawn(dashboard, &reader.visitor.locale, &snapshot, &asked, token).await?;
    parts.insert("letters", letters);
    Ok((asked, parts))
}

/// Nobody has found out yet how the sources are.
fn away() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE)
        .with_detail("nothing is known of the sources, because the database does not answer")
        .after(5)
}
