//! Named lists of customers, kept from the page of a customer by whoever may.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};

use super::Dashboard;
use super::frame::Frame;
use super::visitor::{Posted, Reader};
use crate::api::lists;
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
    let frame = Frame::of(&dashboard, &posted.reader);
    let list = posted.fields.get("list").cloned().unwrap_or_default();
    let of = Path((list, customer.clone()));
    kept(frame, &customer, lists::put(State(dashboard.api.clone()), posted.reader.caller, of).await.err())
}

/// `POST /customers/{customer}/lists/remove`: takes the customer off a list.
pub(super) async fn take(
    State(dashboard): State<Arc<Dashboard>>,
    Path(customer): Path<String>,
    posted: Posted,
) -> Response {
    let frame = Frame::of(&dashboard, &posted.reader);
    let list = posted.fields.get("list").cloned().unwrap_or_default();
    let of = Path((list, customer.clone()));
    kept(frame, &customer, lists::take(State(dashboard.api.clone()), posted.reader.caller, of).await.err())
}

fn kept(frame: Frame, customer: &str, problem: Option<Problem>) -> Response {
    match problem {
        None => Redirect::to(&format!("/customers/{customer}?did=listed#lists")).into_response(),
        Some(problem) => frame.failure(&problem),
    }
}
