//! Errors of what is around all handlers (layers, routing, extractors) as pages, for whoever asks for one. Whoever asks the
//! API, or for anything else, has them as problems.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use super::frame::Frame;
use super::guarded;
use super::visitor::Visitor;
use crate::problem::Problem;

/// Draws an error that nobody has drawn yet.
pub(crate) async fn drawn(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let visitor = wants_page(&parts).then(|| Visitor::of(&parts));
    let response = next.run(Request::from_parts(parts, body)).await;
    match (visitor, problem(&response)) {
        (Some(visitor), Some(problem)) => guarded(Frame::visiting(&visitor).failure(&problem)).await,
        _ => response,
    }
}

fn wants_page(parts: &Parts) -> bool {
    let is_html = |accept: &HeaderValue| accept.to_str().is_ok_and(|accept| accept.contains("text/html"));
    !parts.uri.path().starts_with("/api/") && parts.headers.get(ACCEPT).is_some_and(is_html)
}

/// The problem that an answer is, or has not said; none for pages, and for JSON of another kind.
fn problem(response: &Response) -> Option<Problem> {
    if let Some(problem) = response.extensions().get::<Problem>() {
        return Some(problem.clone());
    }
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !is_error || kind.ends_with(b"json") || kind.starts_with(b"text/html") {
        return None;
    }
    let problem = Problem::new(response.status());
    let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
    Some(after.into_iter().fold(problem, Problem::after))
}
