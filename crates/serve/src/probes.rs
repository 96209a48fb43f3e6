//! What orchestrators and Prometheus ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::readiness::Readiness;

/// The process runs; whether it can do anything is another question, which a restart does not answer.
pub(crate) async fn alive() -> &'static str {
    "alive\n"
}

/// Whether requests and landings can succeed now, and why not.
pub(crate) async fn ready(State(readiness): State<Arc<Readiness>>) -> Response {
    let reasons = readiness.reasons().await;
    let body = Json(json!({"ready": reasons.is_empty(), "reasons": reasons}));
    if reasons.is_empty() {
        ([(CACHE_CONTROL, "no-store")], body).into_response()
    } else {
        let headers = [(CACHE_CONTROL, "no-store"), (RETRY_AFTER, "1")];
        (StatusCode::SERVICE_UNAVAILABLE, headers, body).into_response()
    }
}

/// What the process counts.
pub(crate) async fn counts(State(metrics): State<PrometheusHandle>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}
