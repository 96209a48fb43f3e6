//! What people write on a customer, by forms: the same entries as the API's, each change to be undone.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::{Map, Value};

use super::Dashboard;
use super::frame::{Frame, details, page};
use super::session::once;
use super::systems::label;
use super::timeline::segment;
use super::visitor::{Fields, Posted, Reader};
use crate::api::customer::Refusal;
use crate::api::entries::{self, Content, Entry, IfMatch, Named, Step, type_of};
use crate::keys::Role;
use crate::problem::Problem;

/// A field of a form.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) label: String,
    pub(super) hint: &'static str,
    pub(super) is_long: bool,
    pub(super) is_required: bool,
    pub(super) value: String,
    /// What is allowed, if it was something else.
    pub(super) error: Option<String>,
}

/// Whether there are entries of this type.
pub(super) fn is_kind(object_types: &[String], kind: &str) -> bool {
    type_of(object_types, segment(kind)).is_ok()
}

/// The fields of a type, with what an entry says.
pub(super) fn fields(kind: &str, content: &Value) -> Vec<Field> {
    let field = |name: &str, label: &str, hint, is_required| Field {
        name: name.to_owned(),
        label: label.to_owned(),
        hint,
        is_long: name == "text",
        is_required,
        value: content.get(name).and_then(Value::as_str).unwrap_or_default().to_owned(),
        error: None,
    };
    match kind {
        "note" => vec![field("text", "Note", "Markdown. Everyone who sees this customer can read it.", true)],
        "contact" => vec![
            field("value", "Contact", "A telephone, an email, an address", true),
            field("label", "Who it is, or when", "", false),
        ],
        "link" => vec![
            field("url", "Link", "Begins with https:// or http://", true),
            field("title", "What it leads to", "", false),
        ],
        _ => vec![field("text", "What happened", "Markdown. Everyone who sees this customer can read it.", true)],
    }
}

#[derive(Template)]
#[template(path = "entry.html")]
struct Form {
    frame: Frame,
    customer: String,
    /// Add, or Edit, and what.
    verb: &'static str,
    label: String,
    action: String,
    fields: Vec<Field>,
    /// Of something new: what makes sending the form again safe.
    once: Option<String>,
    /// Of something that is there.
    version: Option<i64>,
    error: Option<String>,
    /// What it says by now, if somebody else has changed it.
    others: Option<String>,
}

/// `GET /customers/{customer}/{kind}/{entry_id}`: the form to edit an entry.
pub(super) async fn show(State(dashboard): State<Arc<Dashboard>>, reader: Reader, Path(of): Path<Named>) -> Response {
    let frame = Frame::of(&dashboard, &reader);
    let entry = async {
        reader.caller.at_least(Role::Agent)?;
        let entry = entries::one(&dashboard.api, &reader.caller, &of).await?;
        if entry.deleted_at.is_some() || !is_editable(&entry) { Err(Problem::not_found()) } else { Ok(entry) }
    };
    match entry.await {
        Ok(entry) => page(StatusCode::OK, &edit(frame, &of, &entry)),
        Err(problem) => frame.failure(&problem),
    }
}

/// An object may hold what no form has a field for.
fn is_editable(entry: &Entry) -> bool {
    let known = fields(&entry.kind, &Value::Null);
    let members = entry.content.as_object().into_iter().flatten();
    members.into_iter().all(|(name, value)| value.is_string() && known.iter().any(|field| field.name == *name))
}

fn edit(frame: Frame, (customer, kind, entry_id): &Named, entry: &Entry) -> Form {
    Form {
        frame,
        customer: customer.clone(),
        verb: "Edit",
        label: label(&entry.kind).to_lowercase(),
        action: format!("/customers/{customer}/{kind}/{entry_id}"),
        fields: fields(&entry.kind, &entry.content),
        once: None,
        version: Some(entry.version),
        error: None,
        others: None,
    }
}

/// What a form says, as an entry holds it: what nobody filled in is not there.
fn content(kind: &str, sent: &Fields) -> Map<String, Value> {
    let filled = |field: Field| {
        let value = sent.get(&field.name).map(|value| value.replace("\r\n", "\n")).unwrap_or_default();
        let is_kept = field.is_required || !value.trim().is_empty();
        is_kept.then_some((field.name, Value::String(value)))
    };
    fields(kind, &Value::Null).into_iter().filter_map(filled).collect()
}

fn version(fields: &Fields) -> IfMatch {
    // A form without a version is none of ours, and changes nothing.
    IfMatch(vec![fields.get("version").and_then(|version| version.parse().ok()).unwrap_or_default()])
}

/// Back to the customer, who says what was done.
fn done(did: &str, customer: &str, entry: &Entry) -> Response {
    let (kind, entry_id, version) = (&entry.kind, entry.entry_id, entry.version);
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("did", did),
            ("kind", kind),
            ("entry", &entry_id.to_string()),
            ("version", &version.to_string()),
        ])
        .finish();
    Redirect::to(&format!("/customers/{customer}?{query}")).into_response()
}

/// `POST /customers/{customer}/{kind}`
pub(super) async fn add(
    State(dashboard): State<Arc<Dashboard>>,
    Path((customer, segment)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let (api, caller) = (&dashboard.api, &posted.reader.caller);
    let frame = Frame::of(&dashboard, &posted.reader);
    let kind = match type_of(&api.settings.object_types, &segment) {
        Ok(kind) => kind,
        Err(problem) => return frame.failure(&problem),
    };
    let sent = content(&kind, &posted.fields);
    let written = async {
        let content = Content::check(kind.clone(), sent.clone())?;
        // What nobody sends twice is as good as random.
        let sent_once = posted.fields.get("once").map_or_else(once, Clone::clone);
        let entry_id = entries::once(caller, sent_once.as_bytes(), &[&segment])?;
        entries::write_new(api, caller, &customer, content, entry_id).await
    };
    match written.await {
        Ok(entry) => done("added", &customer, &entry),
        Err(Refusal::Problem(problem)) if problem.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let form = Form {
                frame,
                verb: "Add",
                label: label(&kind).to_lowercase(),
                action: format!("/customers/{customer}/{segment}"),
                fields: fields(&kind, &Value::Object(sent)),
                once: Some(once()),
                version: None,
                error: None,
                others: None,
                customer,
            };
            refused(form, &problem)
        }
        Err(refusal) => frame.refusal(&refusal, &format!("/{segment}")),
    }
}

/// The form again, with what is wrong at the field that it is wrong with.
fn refused(mut form: Form, problem: &Problem) -> Response {
    for error in &problem.errors {
        match form.fields.iter_mut().find(|field| field.name == error.field) {
            Some(field) => field.error = Some(format!("Write {}", error.detail)),
            None => form.error = Some(details(problem)),
        }
    }
    page(StatusCode::UNPROCESSABLE_ENTITY, &form)
}

/// `POST /customers/{customer}/{kind}/{entry_id}`
pub(super) async fn change(State(dashboard): State<Arc<Dashboard>>, Path(of): Path<Named>, posted: Posted) -> Response {
    let (api, caller) = (&dashboard.api, &posted.reader.caller);
    let frame = Frame::of(&dashboard, &posted.reader);
    let kind = match type_of(&api.settings.object_types, &of.1) {
        Ok(kind) => kind,
        Err(problem) => return frame.failure(&problem),
    };
    let sent = content(&kind, &posted.fields);
    let written = async {
        let content = Content::check(kind.clone(), sent.clone())?;
        entries::take(api, caller, &of, &Step::Change(content), &version(&posted.fields)).await
    };
    let problem = match written.await {
        Ok(entry) => return done("changed", &of.0, &entry),
        Err(Refusal::Problem(problem)) if is_about_the_form(&problem) => problem,
        Err(refusal) => return frame.refusal(&refusal, &format!("/{}/{}", of.1, of.2)),
    };
    // As it is by now, so that the next try is meant for what the reader sees.
    let entry = match entries::one(api, caller, &of).await {
        Ok(entry) if entry.deleted_at.is_none() => entry,
        Ok(_) => return frame.failure(&Problem::not_found()),
        Err(problem) => return frame.failure(&problem),
    };
    let mut form = edit(frame, &of, &entry);
    form.fields = fields(&kind, &Value::Object(sent));
    if problem.status == StatusCode::UNPROCESSABLE_ENTITY {
        return refused(form, &problem);
    }
    form.error = Some(format!("{} has changed this since you opened it. Save again to write over it.", entry.author));
    let said = fields(&kind, &entry.content);
    form.others = Some(
        said.into_iter().map(|field| field.value).filter(|value| !value.is_empty()).collect::<Vec<_>>().join("\n"),
    );
    page(StatusCode::CONFLICT, &form)
}

fn is_about_the_form(problem: &Problem) -> bool {
    problem.status == StatusCode::UNPROCESSABLE_ENTITY || problem.status == StatusCode::PRECONDITION_FAILED
}

/// `POST /customers/{customer}/{kind}/{entry_id}/remove`
pub(super) async fn remove(State(dashboard): State<Arc<Dashboard>>, Path(of): Path<Named>, posted: Posted) -> Response {
    take(&dashboard, &of, &posted, &Step::Remove, ("remove", "deleted")).await
}

/// `POST /customers/{customer}/{kind}/{entry_id}/undo`
pub(super) async fn undo(State(dashboard): State<Arc<Dashboard>>, Path(of): Path<Named>, posted: Posted) -> Response {
    take(&dashboard, &of, &posted, &Step::Undo(None), ("undo", "undone")).await
}

async fn take(
    dashboard: &Dashboard,
    of: &Named,
    posted: &Posted,
    step: &Step,
    (action, did): (&str, &str),
) -> Response {
    let (customer, segment, entry_id) = of;
    match entries::take(&dashboard.api, &posted.reader.caller, of, step, &version(&posted.fields)).await {
        Ok(entry) => done(did, customer, &entry),
        Err(refusal) => {
            Frame::of(dashboard, &posted.reader).refusal(&refusal, &format!("/{segment}/{entry_id}/{action}"))
        }
    }
}
