//! Further down than the page of a customer: `GET /customers/{customer}/timeline`, and `/timeline/orders` with what was
//! bought.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use sqlx::types::Uuid;

use super::Dashboard;
use super::customer::{of_timeline, products};
use super::filters::Shown;
use super::frame::{Frame, page};
use super::operator;
use super::profile;
use super::timeline::{Day, Drawing, Order};
use super::visitor::Reader;
use crate::api::customer::Refusal;
use crate::api::params::Params;
use crate::api::timeline;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "older.html")]
struct Older {
    frame: Frame,
    customer_id: Uuid,
    name: String,
    /// Orders with their lines, or else all that happened.
    orders: Option<Vec<Order>>,
    days: Vec<Day>,
    further: Option<String>,
}

pub(super) fn older_link(customer_id: Uuid, shown: &Shown, cursor: &str) -> String {
    format!("/customers/{customer_id}/timeline?{}", shown.query(Some(cursor)))
}

pub(super) fn older_orders_link(customer_id: Uuid, cursor: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("cursor", cursor).finish();
    format!("/customers/{customer_id}/timeline/orders?{query}")
}

/// `GET /customers/{customer}/timeline`
pub(super) async fn timeline(
    State(dashboard): State<Arc<Dashboard>>,
    reader: Reader,
    Path(customer_id): Path<Uuid>,
    mut params: Params,
) -> Response {
    let older = match Shown::take(&mut params, &dashboard.api.settings.object_types) {
        Ok(shown) => {
            let query = reader.visitor.here.split_once('?').map_or("", |(_, query)| query);
            older(&dashboard, &reader, customer_id, query, Some(&shown)).await
        }
        Err(problem) => Err(problem.into()),
    };
    drawn(&dashboard, &reader, older)
}

/// `GET /customers/{customer}/timeline/orders`
pub(super) async fn orders(
    State(dashboard): State<Arc<Dashboard>>,
    reader: Reader,
    Path(customer_id): Path<Uuid>,
    mut params: Params,
) -> Response {
    let older = match params.one("cursor") {
        Ok(cursor) => {
            let query = Shown::only("order").query(cursor.as_deref());
            older(&dashboard, &reader, customer_id, &query, None).await
        }
        Err(problem) => Err(problem.into()),
    };
    drawn(&dashboard, &reader, older)
}

fn drawn(dashboard: &Dashboard, reader: &Reader, older: Result<Older, Refusal>) -> Response {
    match older {
        Ok(older) => page(StatusCode::OK, &older),
        Err(refusal) => Frame::of(dashboard, reader).refusal(&refusal, ""),
    }
}

/// What a timeline answers to this query: as days of what is shown, or else as orders.
async fn older(
    dashboard: &Dashboard,
    reader: &Reader,
    named: Uuid,
    query: &str,
    shown: Option<&Shown>,
) -> Result<Older, Refusal> {
    let (customer_id, page) =
        timeline::page(&dashboard.api, &reader.caller, &named.to_string(), of_timeline(named, query)?).await?;
    dashboard.api.audit.read(&reader.caller, "list_timeline", customer_id).await;
    let products = products(dashboard, reader, page.items.iter()).await?;
    let known = operator::known(dashboard, reader, customer_id).await?;
    let merges = operator::merges(dashboard, customer_id, known.as_ref()).await?;
    let (systems, locale) = (&dashboard.systems, &reader.visitor.locale);
    let drawing = Drawing { customer_id, products: &products, merges: &merges, systems, locale };
    let link = |cursor: &String| match shown {
        Some(shown) => older_link(customer_id, shown, cursor),
        None => older_orders_link(customer_id, cursor),
    };
    Ok(Older {
        frame: Frame::of(dashboard, reader),
        customer_id,
        name: name(dashboard, reader, customer_id).await?,
        days: shown.map_or_else(Vec::new, |_| drawing.days(&page.items)),
        orders: shown.is_none().then(|| page.items.iter().map(|order| drawing.order(order)).collect()),
        further: page.next_cursor.as_ref().map(link),
    })
}

async fn name(dashboard: &Dashboard, reader: &Reader, customer_id: Uuid) -> Result<String, Problem> {
    let (email, profile): (Option<String>, Value) =
        sqlx::query_as("select c.email, c.profile from customer360.customers c where c.customer_id = $1")
            .bind(customer_id)
            .fetch_one(dashboard.api.ask(&reader.caller).await?)
            .await?;
    Ok(profile::name(&profile, email.as_deref(), customer_id))
}
