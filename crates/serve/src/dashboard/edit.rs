//! The form with which attributes of a profile are edited, and edits taken back.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::{Map, Value};
use sqlx::types::Uuid;

use super::Dashboard;
use super::frame::{Frame, details, page};
use super::locale::{Locale, Moment};
use super::profile;
use super::systems::label;
use super::visitor::{Fields, Posted, Reader};
use crate::api::customer::{self, Customer, Refusal};
use crate::api::edit;
use crate::api::etag::IfMatch;
use crate::keys::Role;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "edit.html")]
struct Form {
    frame: Frame,
    customer_id: Uuid,
    name: String,
    version: i64,
    attributes: Vec<Attribute>,
    error: Option<String>,
}

/// An attribute to edit.
struct Attribute {
    /// What the group is called that begins with it.
    begins: Option<String>,
    /// Whether a group ends with it.
    ends: bool,
    name: String,
    label: String,
    /// What the field says.
    value: String,
    /// What the profile says, by which it is known whether somebody has touched the field.
    was: String,
    /// What the profile says by now, if that is neither what the form was opened with nor what the field says.
    now: Option<String>,
    edited: Option<Edited>,
    /// What is allowed, if it was something else.
    error: Option<String>,
}

/// What somebody has written in place of what a system says.
struct Edited {
    by: String,
    at: Moment,
    /// The system and its id, and what it says.
    system: String,
    says: String,
    is_taken_back: bool,
}

/// The form, with the profile as it is now and over it what somebody has touched.
fn form(dashboard: &Dashboard, frame: Frame, locale: &Locale, customer: &Customer, sent: &Fields) -> Form {
    let attribute = |set: &[String], name: &String| {
        let is_group = set.len() > 1;
        let was = customer.profile.get(name).map_or_else(String::new, profile::text);
        let edited = customer.xrefs.iter().find_map(|xref| {
            let edit = xref.edits.get(name)?;
            Some(Edited {
                by: edit.by.clone(),
                at: locale.ago(edit.at),
                system: format!("{} {}", xref.system, profile::external_id(xref)),
                says: if edit.replaced.is_null() { "nothing".to_owned() } else { profile::text(&edit.replaced) },
                is_taken_back: sent.contains_key(&format!("back:{name}")),
            })
        });
        let value = touched(sent, name).map_or_else(|| was.clone(), str::to_owned);
        let is_news = sent.get(&format!("was:{name}")).is_some_and(|opened_with| *opened_with != was) && value != was;
        let now = is_news.then(|| if was.is_empty() { "nothing".to_owned() } else { was.clone() });
        Attribute {
            begins: (is_group && set.first() == Some(name)).then(|| profile::group_label(set)),
            ends: is_group && set.last() == Some(name),
            label: label(name),
            name: name.clone(),
            value,
            was,
            now,
            edited,
            error: None,
        }
    };
    let settings = &dashboard.api.settings;
    let sets = profile::of_form(&settings.attributes, &settings.rules.survivorship);
    Form {
        frame,
        customer_id: customer.customer_id,
        name: profile::name(&customer.profile, customer.email.as_deref(), customer.customer_id),
        version: customer.version,
        attributes: sets.iter().flat_map(|set| set.iter().map(|name| attribute(set, name))).collect(),
        error: None,
    }
}

/// What a field says, if it is not what it said when it was shown.
fn touched<'f>(sent: &'f Fields, name: &str) -> Option<&'f str> {
    let said = sent.get(&format!("value:{name}"))?;
    (Some(said) != sent.get(&format!("was:{name}"))).then_some(said)
}

/// What is to be written: the fields that were touched, with the type that the value had, and null to take an edit back.
fn changes(dashboard: &Dashboard, customer: &Customer, sent: &Fields) -> Map<String, Value> {
    let change = |name: &String| {
        if sent.contains_key(&format!("back:{name}")) {
            return Some((name.clone(), Value::Null));
        }
        let said = touched(sent, name)?.trim();
        Some((name.clone(), typed(customer.profile.get(name), said)))
    };
    dashboard.api.settings.attributes.iter().filter_map(change).collect()
}

pub(super) fn typed(was: Option<&Value>, said: &str) -> Value {
    let same_kind = |value: &Value| match was {
        Some(Value::Number(_)) => value.is_number(),
        Some(Value::Bool(_)) => value.is_boolean(),
        _ => false,
    };
    let parsed = serde_json::from_str(said).ok().filter(same_kind);
    parsed.unwrap_or_else(|| Value::String(said.to_owned()))
}

async fn known(dashboard: &Dashboard, reader: &Reader, customer_id: Uuid) -> Result<Customer, Refusal> {
    reader.caller.at_least(Role::Agent)?;
    let customer = customer::read(&dashboard.api, &reader.caller, &customer_id.to_string(), &[]).await?;
    if customer.deleted_at.is_some() { Err(Problem::not_found().into()) } else { Ok(customer) }
}

/// `GET /customers/{customer}/profile/edit`
pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    reader: Reader,
    Path(customer_id): Path<Uuid>,
) -> Response {
    let frame = Frame::of(&dashboard, &reader);
    match known(&dashboard, &reader, customer_id).await {
        Ok(customer) => {
            let form = form(&dashboard, frame, &reader.visitor.locale, &customer, &Fields::new());
            page(StatusCode::OK, &form)
        }
        Err(refusal) => frame.refusal(&refusal, "/profile/edit"),
    }
}

/// `POST /customers/{customer}/profile/edit`
pub(super) async fn change(
    State(dashboard): State<Arc<Dashboard>>,
    Path(customer_id): Path<Uuid>,
    posted: Posted,
) -> Response {
    let (reader, sent) = (&posted.reader, &posted.fields);
    let frame = Frame::of(&dashboard, reader);
    let customer = match known(&dashboard, reader, customer_id).await {
        Ok(customer) => customer,
        Err(refusal) => return frame.refusal(&refusal, "/profile/edit"),
    };
    let changes = changes(&dashboard, &customer, sent);
    if changes.is_empty() {
        return Redirect::to(&format!("/customers/{customer_id}")).into_response();
    }
    // A form without a version is none of ours, and changes nothing. One may be of somebody who was merged into this customer.
    let of = sent.get("customer").and_then(|of| of.parse().ok());
    let version = IfMatch::only(sent.get("version").and_then(|version| version.parse().ok()), of);
    let written = edit::write(&dashboard.api, &reader.caller, &customer_id.to_string(), changes, &version).await;
    let problem = match written {
        Ok(written) => {
            let waits = if written.has_followed { "" } else { "&waits=1" };
            return Redirect::to(&format!("/customers/{customer_id}?did=edited{waits}")).into_response();
        }
        Err(Refusal::Problem(problem)) => problem,
        Err(refusal) => return frame.refusal(&refusal, "/profile/edit"),
    };
    let mut form = form(&dashboard, frame, &reader.visitor.locale, &customer, sent);
    let status = match StatusCode::from_u16(problem.status) {
        Ok(StatusCode::PRECONDITION_FAILED) => {
            let error = "The profile has changed since you opened it. What you have not touched is as it is now; save again to write the rest over it.";
            form.error = Some(error.to_owned());
            StatusCode::CONFLICT
        }
        Ok(StatusCode::UNPROCESSABLE_ENTITY) => {
            for error in &problem.errors {
                match form.attributes.iter_mut().find(|attribute| attribute.name == error.field) {
                    Some(attribute) => attribute.error = Some(format!("Write {}", error.detail)),
                    None => form.error = Some(details(&problem)),
                }
            }
            StatusCode::UNPROCESSABLE_ENTITY
        }
        _ => return form.frame.failure(&problem),
    };
    page(status, &form)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_keeps_the_type_that_it_had() {
        for (was, said, typed_as) in [
            (Some(json!(47)), "48", json!(48)),
            (Some(json!(47)), "many", json!("many")),
            (Some(json!("47")), "48", json!("48")),
            (Some(json!(true)), "false", json!(false)),
            (Some(json!("a")), "", json!("")),
            (None, "1", json!("1")),
        ] {
            assert_eq!(typed(was.as_ref(), said), typed_as, "{was:?} {said}");
        }
    }
}
