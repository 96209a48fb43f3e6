//! The routes, and what holds for all of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::limit::RequestBodyLimitLayer;

use crate::probes;
use crate::problem::{self, Problem};
use crate::readiness::Readiness;

/// A request that takes longer is given up, with everything that it was doing.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Nobody has more to say in one request.
const MAX_BODY_BYTES: usize = 1 << 20;

pub(crate) fn router(readiness: Readiness, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/readyz", get(probes::ready).with_state(Arc::new(readiness)))
        .route("/metrics", get(probes::counts).with_state(metrics))
        .route("/healthz", get(probes::alive))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(middleware::from_fn(within_time))
        .layer(RequestBodyLimitLayer::new(MAX_BODY_BYTES))
        .layer(middleware::map_response(problem::from_plain))
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE)
            .with_detail("the request took too long and was given up")
            .into_response(),
    }
}
