//! The dashboard: golden records as pages for people, drawn by the server.
//!
//! A page asks for what it shows through the functions of the API, in the name of the [`Caller`](crate::api::Caller) that the
//! cookie of whoever signed in leads to: it shows what that key may see, and writes what it may write. Everything can be
//! read and every form sent without JavaScript; `assets/dashboard.js` adds results while typing, keys, longer timelines, and parts
//! of the page for operators as they change.
//!
//! Whatever comes from a source or a form is escaped by the templates; Markdown is drawn by `markdown.rs`. Should something
//! get through all the same, the Content-Security-Policy lets no page run or load anything but our own files.

mod assets;
mod chart;
mod counts;
mod customer;
mod customers;
mod decide;
mod docs;
mod edit;
mod entries;
mod erase;
mod export;
mod filters;
mod foreseen;
mod frame;
mod insights;
mod kept;
mod lists;
mod locale;
mod make;
mod markdown;
mod named;
mod older;
mod operations;
mod operator;
mod outside;
mod profile;
mod refresh;
mod session;
mod sign_in;
mod systems;
mod timeline;
mod views;
mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::middleware;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::docs::Docs;
use self::operations::Operations;
pub(crate) use self::outside::drawn as errors_as_pages;
use self::session::Sessions;
use self::sign_in::Failures;
use self::systems::Systems;
use crate::api::Api;
use crate::watch::Watch;

/// What the pages share.
struct Dashboard {
    api: Arc<Api>,
    sessions: Sessions,
    failures: Failures,
    systems: Systems,
    docs: Docs,
    watch: Arc<Watch>,
    operations: Operations,
}

/// The routes of the pages; one of them shows the document that describes the API.
pub(crate) fn router(api: Arc<Api>, document: &Value, watch: Arc<Watch>, cancel: CancellationToken) -> Router {
    let dashboard = Arc::new(Dashboard {
        sessions: Sessions::new(&api.settings.key),
        failures: Failures::new(),
        systems: Systems::new(&api.settings.systems),
        docs: Docs::new(document),
        watch,
        operations: Operations::new(cancel),
        api,
    });
    Router::new()
        .route("/customers", get(customers::show).post(make::make))
        .route("/customers/{customer}/profile/edit", get(edit::show).post(edit::change))
        .route("/customers/{customer}/{kind}", post(entries::add))
        .route("/customers/{customer}/{kind}/{entry_id}", get(entries::show).post(entries::change))
        .route("/lists", get(lists::show).post(lists::make))
        .route("/views", post(views::save))
        // So far there are forms that people type into.
        .route_layer(middleware::from_fn_with_state(dashboard.clone(), kept::kept))
        .route("/", get(async || Redirect::to("/customers")))
        .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/theme", post(sign_in::theme))
        .route("/customers.csv", get(export::customers))
        .route("/customers/new", get(make::show))
        .route("/customers/{customer}", get(customer::show))
        .route("/customers/{customer}/timeline", get(older::timeline))
        .route("/customers/{customer}/timeline/orders", get(older::orders))
        .route("/customers/{customer}/decide/{what}", get(decide::show).post(decide::make))
        .route("/customers/{customer}/decide/erase", get(erase::show).post(erase::erase))
        .route("/customers/{customer}/export", get(export::customer))
        .route("/customers/{customer}/refresh", post(refresh::ask))
        .route("/customers/{customer}/lists", post(lists::put))
        .route("/customers/{customer}/lists/remove", post(lists::take))
        .route("/customers/{customer}/{kind}/{entry_id}/remove", post(entries::remove))
        .route("/customers/{customer}/{kind}/{entry_id}/undo", post(entries::undo))
        .route("/lists/remove", get(lists::sure).post(lists::remove))
        .route("/views/remove", post(views::remove))
        .route("/insights", get(insights::show))
        .route("/operations", get(operations::show))
        .route("/operations/live", get(operations::live::stream))
        .route("/operations/dead-letters/retry", post(operations::handling::retry))
        .route("/operations/dead-letters/discard", post(operations::handling::discard))
        .route("/docs", get(docs::show))
        .route("/assets/{file}", get(assets::file))
        .layer(middleware::map_response(guarded))
        .with_state(dashboard)
}

/// What a page may load and run, and who may keep or frame it.
const POLICY: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Pages belong to one reader, so nobody keeps them.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in POLICY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
