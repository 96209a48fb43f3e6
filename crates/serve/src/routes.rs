//! The routes, and what holds for all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::api::{Api, Writer};
use crate::problem::{self, Problem};
use crate::readiness::Readiness;
use crate::watch::Watch;
use crate::{Settings, api, dashboard, metrics, probes};

/// A request that takes longer is given up, with everything that it was doing.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// But for what looks through everything that is kept, on a connection of its own.
const UNHURRIED: [&str; 2] = ["/customers/{customer}/decide/erase", "/customers/{customer}/export"];
/// Nobody has more to say in one request.
const MAX_BODY_BYTES: usize = 1 << 20;

pub(crate) fn router(
    settings: Settings,
    counted: PrometheusHandle,
    watch: Arc<Watch>,
    cancel: CancellationToken,
) -> (Router, Writer) {
    let readiness = Readiness::new(settings.database.clone());
    let (api, writer) = Api::new(settings);
    let api = Arc::new(api);
    let (asked, document) = api::router(api.clone());
    let router = Router::new()
        .merge(asked)
        .merge(dashboard::router(api, &document, watch, cancel))
        .route("/readyz", get(probes::ready).with_state(Arc::new(readiness)))
        .route("/metrics", get(probes::counts).with_state(counted))
        .route("/healthz", get(probes::alive))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(middleware::from_fn(within_time))
        .layer(middleware::from_fn(measured))
        .layer(RequestBodyLimitLayer::new(MAX_BODY_BYTES))
        .layer(middleware::from_fn(dashboard::errors_as_pages))
        .layer(middleware::map_response(problem::from_plain))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid));
    (router, writer)
}

/// Counts requests by route and outcome, and how long they took. Never by path: that names persons.
async fn measured(request: Request, next: Next) -> Response {
    let asked = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let outcome = match response.status() {
        status if status.is_server_error() => "failed",
        status if status.is_client_error() => "refused",
        _ => "answered",
    };
    ::metrics::histogram!(metrics::REQUEST_SECONDS, "route" => route.clone()).record(asked.elapsed().as_secs_f64());
    ::metrics::counter!(metrics::REQUESTS, "route" => route, "outcome" => outcome).increment(1);
    response
}

async fn within_time(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    if UNHURRIED.contains(&route) {
        return next.run(request).await;
    }
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE)
            .with_detail("the request took too long and was given up")
            .after(1)
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{pause, sleep};

    use super::*;

    #[tokio::test]
    async fn only_what_looks_through_everything_takes_as_long_as_it_takes() {
        let slow = || get(async || sleep(ANSWER_WITHIN * 2).await);
        let router =
            UNHURRIED.into_iter().fold(Router::new().route("/customers", slow()), |r, path| r.route(path, slow()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router.layer(middleware::from_fn(within_time))).into_future());
        for (path, status) in
            [("/customers", "503"), ("/customers/1/decide/erase", "200"), ("/customers/1/export", "200")]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: c360\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            pause();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            tokio::time::resume();
            assert_eq!(answer.split(' ').nth(1), Some(status), "{path}");
        }
    }
}
