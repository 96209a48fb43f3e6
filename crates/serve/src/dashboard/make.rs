//! The form with which a customer is made by hand: the same as `POST /customers` of the API.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use consolidate::edit::BY_HAND;
use serde_json::{Map, Value};
use sqlx::types::Uuid;

use super::Dashboard;
use super::entries::Field;
use super::frame::{Frame, details, page};
use super::profile;
use super::session::once;
use super::systems::label;
use super::visitor::{Fields, Posted, Reader};
use crate::api::{edit, entries};
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "make.html")]
struct Form {
    frame: Frame,
    fields: Vec<Field>,
    /// What makes sending the form again safe.
    once: String,
    /// Who has the email already: to be sent again by whoever wants to add to that customer.
    known: Option<Known>,
    error: Option<String>,
}

/// A customer who has the email already.
struct Known {
    customer_id: Uuid,
    name: String,
}

/// What is shown where nobody consolidates: the customer is noted, and has no page yet.
#[derive(Template)]
#[template(path = "made.html")]
struct Noted {
    frame: Frame,
    customer_id: Uuid,
}

/// What the field of an attribute is called.
fn named(attribute: &str) -> String {
    format!("value:{attribute}")
}

/// The form, with what somebody has filled in.
fn form(dashboard: &Dashboard, frame: Frame, sent: &Fields) -> Form {
    let field = |name: String, label: String, hint, is_required| Field {
        value: sent.get(&name).cloned().unwrap_or_default(),
        name,
        label,
        hint,
        is_long: false,
        is_required,
        error: None,
    };
    let email = "Should somebody have it already, the rest is added to that customer.";
    let settings = &dashboard.api.settings;
    let attributes = profile::of_form(&settings.attributes, &settings.rules.survivorship).concat();
    Form {
        frame,
        fields: [field("email".to_owned(), "Email".to_owned(), email, true)]
            .into_iter()
            .chain(attributes.iter().map(|name| field(named(name), label(name), "", false)))
            .collect(),
        once: sent.get("once").map_or_else(once, Clone::clone),
        known: None,
        error: None,
    }
}

/// Who has this email, unless this form has made them.
async fn known(dashboard: &Dashboard, email: &str, external_id: Uuid) -> Result<Option<Known>, Problem> {
    // What is no email is refused with everything else.
    let Ok(customer_id) = dashboard.api.customer_id(email).await else { return Ok(None) };
    let row: Option<(Uuid, Option<String>, Value)> = sqlx::query_as(
        "select c.customer_id, c.email, c.profile
         from customer360.customers c
         where c.customer_id = customer360.resolved($1) and c.deleted_at is null
           and not exists (select from customer360.xrefs x where x.system = $2 and x.external_id = $3)",
    )
    .bind(customer_id)
    .bind(BY_HAND)
    .bind(external_id.to_string())
    .fetch_optional(dashboard.api.whole().await?)
    .await?;
    Ok(row.map(|(customer_id, email, profile)| Known {
        customer_id,
        name: profile::name(&profile, email.as_deref(), customer_id),
    }))
}

/// `GET /customers/new`
pub(super) async fn show(State(dashboard): State<Arc<Dashboard>>, reader: Reader) -> Response {
    let frame = Frame::of(&dashboard, &reader);
    match reader.caller.sees_everybody(edit::AMONG_ALL) {
        Ok(()) => page(StatusCode::OK, &form(&dashboard, frame, &Fields::new())),
        Err(problem) => frame.failure(&problem),
    }
}

/// `POST /customers`: makes the customer, and leads there.
pub(super) async fn make(State(dashboard): State<Arc<Dashboard>>, posted: Posted) -> Response {
    let (sent, caller) = (&posted.fields, &posted.reader.caller);
    let frame = Frame::of(&dashboard, &posted.reader);
    let mut form = form(&dashboard, frame, sent);
    let email = sent.get("email").map(|email| email.trim()).unwrap_or_default();
    let made = async {
        caller.sees_everybody(edit::AMONG_ALL)?;
        let external_id = entries::once(caller, form.once.as_bytes(), &["customers"])?;
        let known = known(&dashboard, email, external_id).await?;
        let is_meant = |known: &Known| sent.get("known") == Some(&known.customer_id.to_string());
        if let Some(known) = known.filter(|known| !is_meant(known)) {
            form.known = Some(known);
            return Ok(None);
        }
        edit::add(&dashboard.api, caller, external_id, email, filled(&dashboard, sent)).await.map(Some)
    };
    match made.await {
        Ok(None) => page(StatusCode::CONFLICT, &form),
        Ok(Some(made)) if made.has_followed => {
            Redirect::to(&format!("/customers/{}?did=made", made.customer_id)).into_response()
        }
        Ok(Some(made)) => page(StatusCode::ACCEPTED, &Noted { frame: form.frame, customer_id: made.customer_id }),
        Err(problem) if problem.status == StatusCode::UNPROCESSABLE_ENTITY => refused(form, &problem),
        Err(problem) => form.frame.failure(&problem),
    }
}

/// The attributes that somebody has filled in.
fn filled(dashboard: &Dashboard, sent: &Fields) -> Map<String, Value> {
    let value = |name: &String| {
        let value = sent.get(&named(name))?.trim();
        (!value.is_empty()).then(|| (name.clone(), Value::String(value.to_owned())))
    };
    dashboard.api.settings.attributes.iter().filter_map(value).collect()
}

/// The form again, with what is wrong at the field that it is wrong with; or another form, when this one has made somebody.
fn refused(mut form: Form, problem: &Problem) -> Response {
    for error in &problem.errors {
        if error.field == entries::IDEMPOTENCY_KEY {
            form.error = Some("This form has made a customer already. Send it again to make another one.".to_owned());
            form.once = once();
            continue;
        }
        let is_it = |field: &&mut Field| field.name == error.field || field.name == named(&error.field);
        match form.fields.iter_mut().find(is_it) {
            Some(field) => field.error = Some(format!("Write {}", error.detail)),
            None => form.error = Some(details(problem)),
        }
    }
    page(StatusCode::UNPROCESSABLE_ENTITY, &form)
}
