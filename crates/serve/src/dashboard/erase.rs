//! Erasing a customer from the customer's page: the only step that cannot be undone. Whoever does it types the email.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use consolidate::erase::{Outcome, Receipt};
use sqlx::types::Uuid;

use super::Dashboard;
use super::decide::known;
use super::frame::{Frame, page};
use super::locale::{Locale, Moment};
use super::profile;
use super::systems::counted;
use super::visitor::{Posted, Reader};
use crate::api::customer::Customer;
use crate::api::decide;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "erase.html")]
struct Erase {
    frame: Frame,
    customer_id: Uuid,
    name: String,
    /// What is asked to be typed, and what that is.
    named_by: &'static str,
    goes: String,
    tables: Vec<Rows>,
    /// Whether something else was typed.
    is_other: bool,
}

#[derive(Template)]
#[template(path = "erased.html")]
struct Erased {
    frame: Frame,
    erasure_id: Uuid,
    at: Moment,
    tables: Vec<Rows>,
}

/// How many rows of a table go.
struct Rows {
    table: &'static str,
    rows: String,
}

fn rows(receipt: &Receipt, locale: &Locale) -> Vec<Rows> {
    let rows = |(table, rows): (&&'static str, &u64)| Rows { table, rows: locale.count(signed(*rows)) };
    receipt.removed.iter().map(rows).collect()
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[derive(Template)]
#[template(path = "erased_before.html")]
struct ErasedBefore {
    frame: Frame,
}

/// In words what goes, of what people know by name and there is.
fn goes(receipt: &Receipt, locale: &Locale) -> String {
    let of = |(table, one, many)| {
        let rows = signed(receipt.removed.get(table).copied().unwrap_or_default());
        (rows > 0).then(|| counted(locale, rows, one, many))
    };
    let named = [
        ("customer360.xrefs", "cross-reference", "cross-references"),
        ("customer360.orders", "order", "orders"),
        ("customer360.interactions", "interaction", "interactions"),
        ("customer360.entries", "note or other entry", "notes and other entries"),
    ];
    let parts: Vec<String> = named.into_iter().filter_map(of).collect();
    if parts.is_empty() { "What is known".to_owned() } else { parts.join(", ") }
}

/// What has to be typed: the email, or the id of a customer without one.
fn named_by(customer: &Customer) -> (&'static str, String) {
    match &customer.email {
        Some(email) => ("email", email.clone()),
        None => ("id", customer.customer_id.to_string()),
    }
}

/// `GET /customers/{customer}/decide/erase`: what would go.
pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    reader: Reader,
    Path(customer_id): Path<Uuid>,
) -> Response {
    match known(&dashboard, &reader, customer_id).await {
        Ok(customer) => preview(&dashboard, &reader, &customer, false).await,
        Err(refusal) => Frame::of(&dashboard, &reader).refusal(&refusal, "/decide/erase"),
    }
}

async fn preview(dashboard: &Dashboard, reader: &Reader, customer: &Customer, is_other: bool) -> Response {
    let (frame, locale) = (Frame::of(dashboard, reader), &reader.visitor.locale);
    let receipt = match decide::erase(&dashboard.api, &reader.caller, customer.customer_id, true).await {
        Ok(Outcome::Erased(receipt)) => receipt,
        Ok(_) => return frame.failure(&Problem::not_found()),
        Err(problem) => return frame.failure(&problem),
    };
    let status = if is_other { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let erase = Erase {
        frame,
        customer_id: customer.customer_id,
        name: profile::name(&customer.profile, customer.email.as_deref(), customer.customer_id),
        named_by: named_by(customer).0,
        goes: goes(&receipt, locale),
        tables: rows(&receipt, locale),
        is_other,
    };
    page(status, &erase)
}

/// `POST /customers/{customer}/decide/erase`: erases whoever was named, and shows the receipt.
pub(super) async fn erase(
    State(dashboard): State<Arc<Dashboard>>,
    Path(customer_id): Path<Uuid>,
    posted: Posted,
) -> Response {
    let reader = &posted.reader;
    let customer = match known(&dashboard, reader, customer_id).await {
        Ok(customer) => customer,
        Err(refusal) => return Frame::of(&dashboard, reader).refusal(&refusal, "/decide/erase"),
    };
    let typed = posted.fields.get("typed").map(|typed| typed.trim().to_lowercase());
    if typed != Some(named_by(&customer).1) {
        return preview(&dashboard, reader, &customer, true).await;
    }
    let frame = Frame::of(&dashboard, reader);
    match decide::erase(&dashboard.api, &reader.caller, customer_id, false).await {
        Ok(Outcome::Erased(receipt)) => {
            let locale = &reader.visitor.locale;
            let (erasure_id, tables) = (receipt.erasure_id, rows(&receipt, locale));
            page(StatusCode::OK, &Erased { frame, erasure_id, at: locale.ago(receipt.erased_at), tables })
        }
        // By the same form, sent twice.
        Ok(Outcome::Already) => page(StatusCode::OK, &ErasedBefore { frame }),
        Ok(Outcome::Unknown) => frame.failure(&Problem::not_found()),
        Err(problem) => frame.failure(&problem),
    }
}
