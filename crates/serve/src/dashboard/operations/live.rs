//! `GET /operations/live`: the parts of the page as they change, as server-sent events.
//!
//! An event `parts` has the drawn parts that are not what was sent last, as HTML; each replaces the element with its id. The
//! first has all of them, because the page may be older. A stream costs no statement while the dead letters are the same.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use chrono::Utc;
use futures::stream;
use sqlx::types::Uuid;
use staging::overview::DeadLetters;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use super::letters::{self, Asked};
use super::{may_operate, parts};
use crate::dashboard::Dashboard;
use crate::dashboard::frame::Frame;
use crate::dashboard::locale::Locale;
use crate::dashboard::visitor::Reader;
use crate::problem::Problem;
use crate::watch::{STALE_AFTER, Snapshot};

/// A browser asks for the next stream by itself, and has to show its cookie again.
const LASTS: Duration = Duration::from_mins(10);
/// Whoever is gone is noticed when something is sent.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Proxies that collect answers before they pass them on leave this one alone.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// Whoever listens.
struct Listener {
    dashboard: Arc<Dashboard>,
    key_id: Uuid,
    locale: Locale,
    asked: Asked,
    token: String,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// What was sent last.
    sent: BTreeMap<&'static str, String>,
    /// The counts by which the list of dead letters was drawn last.
    counts: Option<Vec<DeadLetters>>,
    until: Instant,
    _permit: OwnedSemaphorePermit,
}

/// `GET /operations/live`
pub(in crate::dashboard) async fn stream(
    State(dashboard): State<Arc<Dashboard>>,
    reader: Reader,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let frame = Frame::of(&dashboard, &reader);
    let token = frame.token().to_owned();
    match Listener::new(dashboard, reader, &query, token) {
        Ok(listener) => {
            let events = stream::unfold(listener, |mut listener| async move {
                let event = listener.next().await?;
                Some((Ok::<_, Infallible>(event), listener))
            });
            let alive = KeepAlive::new().interval(ALIVE_EVERY);
            ([UNBUFFERED], Sse::new(events).keep_alive(alive)).into_response()
        }
        Err(problem) => frame.failure(&problem),
    }
}

impl Listener {
    fn new(
        dashboard: Arc<Dashboard>,
        reader: Reader,
        query: &BTreeMap<String, String>,
        token: String,
    ) -> Result<Self, Problem> {
        may_operate(&reader.caller)?;
        let too_many = |_| {
            Problem::new(StatusCode::TOO_MANY_REQUESTS)
                .with_detail("too many pages are live already: read this one as it is")
                .after(60)
        };
        let permit = dashboard.operations.streams.clone().try_acquire_owned().map_err(too_many)?;
        let mut snapshots = dashboard.watch.subscribe();
        // What is known counts as new.
        snapshots.mark_changed();
        Ok(Self {
            key_id: reader.caller.key.key_id,
            locale: reader.visitor.locale,
            asked: Asked::of(query)?,
            token,
            snapshots,
            sent: BTreeMap::new(),
            counts: None,
            until: Instant::now() + LASTS,
            dashboard,
            _permit: permit,
        })
    }

    /// What has changed, once something has; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            self.dashboard.watch.want();
            let stopping = self.dashboard.operations.cancel.clone();
            // Where nothing is heard of the database the page is to say that it is not live.
            let until = self.until.min(Instant::now() + STALE_AFTER);
            let changed = stopping.run_until_cancelled(timeout_at(until, self.snapshots.changed()));
            changed.await?.ok()?.ok()?;
            let snapshot = self.snapshots.borrow_and_update().clone();
            if !self.may_still().await {
                return None;
            }
            let Some(snapshot) = snapshot else { continue };
            let drawn = self.drawn(&snapshot).await;
            let news: Vec<_> = drawn.into_iter().filter(|(id, html)| self.sent.get(id) != Some(html)).collect();
            if !news.is_empty() {
                let html: String = news.iter().map(|(_, html)| html.as_str()).collect();
                self.sent.extend(news);
                return Some(Event::default().event("parts").data(html));
            }
        }
    }

    /// Whether the key is still one that may listen; while the database is away nobody knows better.
    async fn may_still(&self) -> bool {
        let key = self.dashboard.api.keyring.of_id(self.key_id, Utc::now()).await;
        key.as_ref().map_or(true, Option::is_some)
    }

    async fn drawn(&mut self, snapshot: &Snapshot) -> BTreeMap<&'static str, String> {
        let locale = self.locale.at(Utc::now());
        let mut drawn = parts::drawn(&self.dashboard, &locale, snapshot).unwrap_or_default();
        if self.counts.as_ref() != Some(&snapshot.facts.dead_letters)
            && let Ok(letters) = letters::drawn(&self.dashboard, &locale, snapshot, &self.asked, &self.token).await
        {
            self.counts = Some(snapshot.facts.dead_letters.clone());
            drawn.insert("letters", letters);
        }
        drawn
    }
}
