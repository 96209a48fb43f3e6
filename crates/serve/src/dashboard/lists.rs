//! Named lists of customers, kept from the page of a customer by whoever may.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::Dashboard;
use super::frame::Frame;
use super::visitor::{Posted, Reader};
use crate::api::{Api, Caller, lists};
use crate::keys::Role;
use crate::problem::Problem;

/// The lists that the reader may put a customer on; none for whoever keeps no lists.
pub(super) async fn keepable(dashboard: &Dashboard, reader: &Reader) -> Result<Vec<String>, Problem> {
    let key = &reader.caller.key;
    if key.role < Role::Agent || key.only.is_some() {
        return Ok(Vec::new());
    }
    let mut session = dashboard.api.ask(&reader.caller).await?;
    Ok(sqlx::query_scalar("select name from customer360.lists order by name").fetch_all(&mut *session).await?)
}

/// `POST /customers/{customer}/lists`: puts the customer on a list.
pub(super) async fn put(
    State(dashboard): State<Arc<Dashboard>>,
    Path(customer): Path<String>,
    posted: Posted,
) -> Response {
    keep(&dashboard, customer, posted, lists::put).await
}

/// `POST /customers/{customer}/lists/remove`: takes the customer off a list.
pub(super) async fn take(
    State(dashboard): State<Arc<Dashboard>>,
    Path(customer): Path<String>,
    posted: Posted,
) -> Response {
    keep(&dashboard, customer, posted, lists::take).await
}

/// Does what the API does with a list and a customer, and goes back to the customer.
async fn keep<Kept: Future<Output = Result<StatusCode, Problem>>>(
    dashboard: &Dashboard,
    customer: String,
    posted: Posted,
    keep: impl FnOnce(State<Arc<Api>>, Caller, Path<(String, String)>) -> Kept,
) -> Response {
    let frame = Frame::of(dashboard, &posted.reader);
    let back = format!("/customers/{customer}?did=listed#lists");
    let list = posted.fields.get("list").cloned().unwrap_or_default();
    match keep(State(dashboard.api.clone()), posted.reader.caller, Path((list, customer))).await {
        Ok(_) => Redirect::to(&back).into_response(),
        Err(problem) => frame.failure(&problem),
    }
}
