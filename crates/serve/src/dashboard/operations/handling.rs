//! Retrying and discarding dead letters: the same as `c360 dead-letters retry` and `discard`, for those that were selected.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use chrono::Utc;
use staging::dead_letters::{self, Selection};
use status::words::count;
use tokio::time::{Instant, timeout, timeout_at};

use super::letters::{PAGE, Row, rows};
use super::{Operations, may_operate};
use crate::api::audit;
use crate::dashboard::Dashboard;
use crate::dashboard::frame::{Frame, page};
use crate::dashboard::visitor::{Fields, Posted, Reader};
use crate::problem::Problem;

/// A retry that takes longer goes on, and whoever asked for it is told so; well below the time for a request.
const RETRY_WITHIN: Duration = Duration::from_secs(20);
/// Until then the page that follows may be waited for.
const SEEN_WITHIN: Duration = Duration::from_secs(25);

/// That a retry takes long.
#[derive(Template)]
#[template(path = "operations/retried.html")]
struct GoesOn {
    frame: Frame,
}

/// What would be discarded.
#[derive(Template)]
#[template(path = "operations/discard.html")]
struct Preview {
    frame: Frame,
    what: String,
    rows: Vec<Row>,
}

/// What was done, to be said on the page. What became of a retry is known to the server that did it, until the next one.
pub(super) fn did(dashboard: &Dashboard, query: &BTreeMap<String, String>) -> Vec<String> {
    let number = query.get("count").and_then(|count| count.parse().ok());
    match (query.get("did").map(String::as_str), number) {
        (Some("discarded"), Some(number)) => vec![format!("{} discarded.", count(number, "dead letter"))],
        (Some("retried"), Some(number)) => {
            let (latest, lines) = dashboard.operations.retried().clone();
            if i64::try_from(latest) == Ok(number) { lines } else { vec!["Retried.".to_owned()] }
        }
        _ => Vec::new(),
    }
}

impl Operations {
    fn retried(&self) -> MutexGuard<'_, (u64, Vec<String>)> {
        self.retried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers of the letters that a form selects.
fn selected(fields: &Fields) -> Result<Vec<i64>, Problem> {
    let numbers = fields.keys().filter_map(|name| name.strip_prefix("letter-"));
    let ids: Result<Vec<i64>, _> = numbers.map(str::parse).collect();
    match ids {
        Ok(ids) if (1..=PAGE).contains(&ids.len()) => Ok(ids),
        _ => Err(Problem::unprocessable("dead letters", format!("select 1 to {PAGE} of them"))),
    }
}

/// What the audit log says; a letter's fate is found by its number.
fn action(what: &str, ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    format!("{what} {}", ids.join(" "))
}

/// `POST /operations/dead-letters/retry`
pub(in crate::dashboard) async fn retry(State(dashboard): State<Arc<Dashboard>>, posted: Posted) -> Response {
    let frame = Frame::of(&dashboard, &posted.reader);
    match retried(&dashboard, &posted).await {
        Ok(Some(lines)) => {
            let mut retried = dashboard.operations.retried();
            *retried = (retried.0 + 1, lines);
            Redirect::to(&format!("/operations?did=retried&count={}", retried.0)).into_response()
        }
        Ok(None) => page(StatusCode::ACCEPTED, &GoesOn { frame }),
        Err(problem) => frame.failure(&problem),
    }
}

/// What became of the selected letters; `None` while that takes long.
async fn retried(dashboard: &Arc<Dashboard>, posted: &Posted) -> Result<Option<Vec<String>>, Problem> {
    may_operate(&posted.reader.caller)?;
    let ids = selected(&posted.fields)?;
    let Ok(turn) = dashboard.operations.retrying.clone().try_lock_owned() else {
        let busy = "another retry is under way: try again when it is done";
        return Err(Problem::new(StatusCode::CONFLICT).with_detail(busy));
    };
    // Landing is a transaction of each source's own, so it is noted before.
    let mut session = dashboard.api.whole().await?;
    audit::written(&mut session, &posted.reader.caller, &action("retry_dead_letters", &ids), None).await?;
    drop(session);
    let begun = Instant::now();
    let retrying = dashboard.api.settings.retry.run(ids);
    // On a task of its own: a request that is given up does not stop it halfway.
    let task = tokio::spawn(async move {
        let _turn = turn;
        retrying.await
    });
    let Ok(ended) = timeout(RETRY_WITHIN, task).await else { return Ok(None) };
    let unfinished = |error: String| {
        tracing::error!(%error, "a retry of dead letters was not finished");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
            .with_detail("the retry was not finished; what has landed has landed, and the same once more does the rest")
    };
    let lines = ended.map_err(|error| unfinished(error.to_string()))?.map_err(|error| unfinished(error.to_string()))?;
    // Whoever goes back to the page sees what has changed.
    let _ = timeout_at(begun + SEEN_WITHIN, dashboard.watch.since(Instant::now())).await;
    Ok(Some(lines))
}

/// `POST /operations/dead-letters/discard`: shows what would be discarded, and with `sure` discards it.
pub(in crate::dashboard) async fn discard(State(dashboard): State<Arc<Dashboard>>, posted: Posted) -> Response {
    let frame = Frame::of(&dashboard, &posted.reader);
    if posted.fields.contains_key("sure") {
        return match discarded(&dashboard, &posted).await {
            Ok(count) => Redirect::to(&format!("/operations?did=discarded&count={count}")).into_response(),
            Err(problem) => frame.failure(&problem),
        };
    }
    match preview(&dashboard, &posted).await {
        Ok(rows) => {
            let what = count(i64::try_from(rows.len()).unwrap_or(i64::MAX), "dead letter");
            page(StatusCode::OK, &Preview { frame, what, rows })
        }
        Err(problem) => frame.failure(&problem),
    }
}

async fn preview(dashboard: &Dashboard, posted: &Posted) -> Result<Vec<Row>, Problem> {
    let Posted { reader: Reader { visitor, caller, .. }, fields } = posted;
    may_operate(caller)?;
    let parked = Some(dead_letters::State::Parked);
    let selection = Selection { ids: Some(selected(fields)?), state: parked, ..Selection::default() };
    let session = dashboard.api.whole().await?;
    let letters = dead_letters::list(session, &selection, None, i64::MAX).await?;
    if letters.is_empty() {
        let gone = "these dead letters are not parked any more: somebody has retried or discarded them";
        return Err(Problem::new(StatusCode::CONFLICT).with_detail(gone));
    }
    Ok(rows(dashboard, &visitor.locale, &letters))
}

/// Discards the selected letters that are parked, and says how many.
async fn discarded(dashboard: &Dashboard, posted: &Posted) -> Result<i64, Problem> {
    may_operate(&posted.reader.caller)?;
    let ids = selected(&posted.fields)?;
    let action = action("discard_dead_letters", &ids);
    let parked = Some(dead_letters::State::Parked);
    let selection = Selection { ids: Some(ids), state: parked, ..Selection::default() };
    let mut transaction = dashboard.api.begin().await?;
    let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
    let (discarded, _) = dead_letters::discard(&mut *transaction, &selection, limit, Utc::now()).await?;
    audit::written(&mut transaction, &posted.reader.caller, &action, None).await?;
    transaction.commit().await?;
    dashboard.watch.since(Instant::now()).await;
    Ok(discarded)
}
