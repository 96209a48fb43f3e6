//! HTTP: routes, entity tags and the faults' effect on an answer.

use std::collections::HashMap;
use std::future::Future;
use std::io;

use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::catalog::Answer;
use super::{Endpoint, Fault, Store};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

type Body = Result<Json<Map<String, Value>>, JsonRejection>;
type Parameters = Result<Query<HashMap<String, String>>, QueryRejection>;

/// Answers requests until `shutdown` resolves, then finishes those under way and returns.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(&store)).with_graceful_shutdown(shutdown).await
}

fn router(store: &Store) -> Router {
    let mut router = Router::new().route("/healthz", get(|| async { "ok" }));
    for endpoint in Endpoint::QUESTIONS {
        let store = store.clone();
        let handler = move |parameters: Parameters, headers: HeaderMap| async move {
            match parameters.ok().and_then(|mut all| all.remove(endpoint.parameter())).filter(|key| !key.is_empty()) {
                Some(key) => answer(&store, endpoint, &key, &headers).await,
                None => error(StatusCode::BAD_REQUEST, &format!("{} is missing", endpoint.parameter())),
            }
        };
        router = router.route(endpoint.path(), get(handler));
    }
    let (updated, created) = (store.clone(), store.clone());
    let update = async move |Path(id): Path<String>, body: Body| told(&updated, Endpoint::Update, Some(id), body).await;
    let create = async move |body: Body| told(&created, Endpoint::Create, None, body).await;
    router = router.route(Endpoint::Update.path(), patch(update)).route(Endpoint::Create.path(), post(create));
    router.fallback(|| async { error(StatusCode::NOT_FOUND, "no such endpoint") })
}

/// Without a key in the path it is the member of the body that is called so.
async fn told(store: &Store, endpoint: Endpoint, key: Option<String>, body: Body) -> Response {
    let Ok(Json(body)) = body else { return error(StatusCode::BAD_REQUEST, "the body is not a JSON object") };
    let named = || body.get(endpoint.parameter()).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (told, fault) = store.tell(endpoint, &key.unwrap_or_else(named), body.clone());
    if let Some(fault) = &fault {
        tokio::time::sleep(fault.wait()).await;
    }
    let done = if endpoint == Endpoint::Create { StatusCode::CREATED } else { StatusCode::OK };
    match told {
        Some(Ok(answer)) => json_body(done, answer.body),
        Some(Err((status, text))) => error(status, text),
        None => error(fault.and_then(|fault| fault.status).unwrap_or(StatusCode::OK), "a fault made on purpose"),
    }
}

async fn answer(store: &Store, endpoint: Endpoint, key: &str, headers: &HeaderMap) -> Response {
    let (answer, fault) = store.look_up(endpoint, key);
    if let Some(fault) = &fault {
        tokio::time::sleep(fault.wait()).await;
    }
    let mut response = match (answer, &fault) {
        (_, Some(Fault { status: Some(status), body: None, .. })) => error(*status, "a fault made on purpose"),
        (_, Some(Fault { status, body: Some(body), .. })) => {
            json_body(status.unwrap_or(StatusCode::OK), Bytes::copy_from_slice(body.as_bytes()))
        }
        (Some(answer), _) => found(answer, headers),
        (None, _) => error(StatusCode::NOT_FOUND, "not found"),
    };
    response.headers_mut().extend(fault.into_iter().flat_map(|fault| fault.headers));
    response
}

fn found(answer: Answer, request: &HeaderMap) -> Response {
    let etag = [(ETAG, answer.etag.clone())];
    if has(request, &answer.etag) {
        return (StatusCode::NOT_MODIFIED, etag).into_response();
    }
    (etag, json_body(StatusCode::OK, answer.body)).into_response()
}

/// Whether the caller has this very content; weak tags count, as RFC 9110 asks for with `If-None-Match`.
fn has(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let lists = request.get_all(IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
}

fn error(status: StatusCode, text: &str) -> Response {
    json_body(status, json!({ "error": text }).to_string().into())
}

fn json_body(status: StatusCode, body: Bytes) -> Response {
    (status, [(CONTENT_TYPE, JSON)], body).into_response()
}
