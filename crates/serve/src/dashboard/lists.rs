//! Named lists of customers: the page of all lists, and what whoever keeps them does there and on the page of a customer.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::Dashboard;
use super::entries::Field;
use super::frame::{Frame, page};
use super::locale::{Locale, Moment};
use super::visitor::{Posted, Reader};
use crate::api::params::Params;
use crate::api::path::Path;
use crate::api::{Api, Caller, lists};
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "lists.html")]
struct Lists {
    frame: Frame,
    flash: Option<&'static str>,
    /// The name of a new one, for whoever keeps lists.
    new: Option<Field>,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    customers: String,
    made_by: String,
    made_at: Moment,
}

#[derive(Template)]
#[template(path = "remove_list.html")]
struct Remove {
    frame: Frame,
    name: String,
    customers: String,
}

/// `GET /lists`
pub(super) async fn show(State(dashboard): State<Arc<Dashboard>>, reader: Reader, mut params: Params) -> Response {
    let flash = match params.one("did") {
        Ok(did) => did.and_then(|did| match did.as_str() {
            "made" => Some("List made."),
            "removed" => Some("List removed."),
            _ => None,
        }),
        Err(problem) => return Frame::of(&dashboard, &reader).failure(&problem),
    };
    let new = reader.caller.writes_for_everybody().then(|| new(String::new()));
    drawn(&dashboard, &reader, StatusCode::OK, flash, new).await
}

/// What a new list is to be called.
fn new(value: String) -> Field {
    Field {
        name: "name".to_owned(),
        label: "Name of a new list".to_owned(),
        hint: "Letters, digits, _, - and ., like team-7",
        is_long: false,
        is_required: true,
        value,
        error: None,
    }
}

async fn drawn(
    dashboard: &Dashboard,
    reader: &Reader,
    status: StatusCode,
    flash: Option<&'static str>,
    new: Option<Field>,
) -> Response {
    let frame = Frame::of(dashboard, reader);
    let lists = match lists::all(&dashboard.api, &reader.caller).await {
        Ok(lists) => lists,
        Err(problem) => return frame.failure(&problem),
    };
    let rows = lists.into_iter().map(|list| row(list, &reader.visitor.locale)).collect();
    page(status, &Lists { frame, flash, new, rows })
}

fn row(list: lists::List, locale: &Locale) -> Row {
    Row {
        customers: locale.count(list.customers),
        made_at: locale.ago(list.made_at),
        name: list.name,
        made_by: list.made_by,
    }
}

/// `POST /lists`: makes a list.
pub(super) async fn make(State(dashboard): State<Arc<Dashboard>>, posted: Posted) -> Response {
    let name = posted.fields.get("name").map(|name| name.trim().to_owned()).unwrap_or_default();
    let allowed = match lists::add(&dashboard.api, &posted.reader.caller, &name).await {
        Ok(true) => return Redirect::to("/lists?did=made").into_response(),
        Ok(false) => "a name that no list has yet".to_owned(),
        Err(problem) => match problem.errors.first() {
            Some(error) if problem.status == StatusCode::UNPROCESSABLE_ENTITY => error.detail.clone(),
            _ => return Frame::of(&dashboard, &posted.reader).failure(&problem),
        },
    };
    let field = Field { error: Some(format!("Write {allowed}")), ..new(name) };
    drawn(&dashboard, &posted.reader, StatusCode::UNPROCESSABLE_ENTITY, None, Some(field)).await
}

/// `GET /lists/remove?list=`: what comes of removing a list.
pub(super) async fn sure(State(dashboard): State<Arc<Dashboard>>, reader: Reader, mut params: Params) -> Response {
    let frame = Frame::of(&dashboard, &reader);
    let list = async {
        reader.caller.sees_everybody(lists::OF_ALL)?;
        let name = params.one("list")?.ok_or_else(Problem::not_found)?;
        lists::one(&dashboard.api, &reader.caller, &name).await
    };
    match list.await {
        Ok(list) => {
            let customers = reader.visitor.locale.count(list.customers);
            page(StatusCode::OK, &Remove { frame, name: list.name, customers })
        }
        Err(problem) => frame.failure(&problem),
    }
}

/// `POST /lists/remove`
pub(super) async fn remove(State(dashboard): State<Arc<Dashboard>>, posted: Posted) -> Response {
    let frame = Frame::of(&dashboard, &posted.reader);
    let name = posted.fields.get("list").cloned().unwrap_or_default();
    match lists::remove(State(dashboard.api.clone()), posted.reader.caller, Path(name)).await {
        Ok(_) => Redirect::to("/lists?did=removed").into_response(),
        Err(problem) => frame.failure(&problem),
    }
}

/// The lists that the reader may put a customer on; none for whoever keeps no lists.
pub(super) async fn keepable(dashboard: &Dashboard, reader: &Reader) -> Result<Vec<String>, Problem> {
    if !reader.caller.writes_for_everybody() {
        return Ok(Vec::new());
    }
    let session = dashboard.api.ask(&reader.caller).await?;
    Ok(sqlx::query_scalar("select name from customer360.lists order by name").fetch_all(session).await?)
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
