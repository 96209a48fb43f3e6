//! What people write on a customer, by forms: the same entries as the API's, each change to be undone.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::{Map, Value};

use super::Dashboard;
use super::edit::typed;
use super::frame::{Frame, details, page};
use super::session::once;
use super::systems::label;
use super::timeline::{segment, shown};
use super::visitor::{Fields, Posted, Reader};
use crate::api::customer::Refusal;
use crate::api::entries::{self, Content, Entry, Named, Step, type_of};
use crate::api::etag::IfMatch;
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

/// Members of an object that no form has a field for, because it has one of that name itself.
const OF_THE_FORM: [&str; 3] = ["token", "once", "version"];

/// The fields of a type, with what an entry says: of an object one for each member that is no list and no object.
pub(super) fn fields(kind: &str, content: &Value) -> Vec<Field> {
    let field = |name: &str, label: &str, hint, is_required| {
        let value = content.get(name).map(shown).unwrap_or_default();
        Field {
            name: name.to_owned(),
            label: label.to_owned(),
            hint,
            is_long: name == "text" || value.contains('\n'),
            is_required,
            value,
            error: None,
        }
    };
    let markdown = "Markdown. Everyone who sees this customer can read it.";
    match kind {
        "note" => vec![field("text", "Note", markdown, true)],
        "contact" => vec![
            field("value", "Contact", "A telephone, an email, an address", true),
            field("label", "Who it is, or when", "", false),
        ],
        "link" => vec![
            field("url", "Link", "Begins with https:// or http://", true),
            field("title", "What it leads to", "", false),
        ],
        _ => {
            let can_say = |value: &Value| !value.is_null() && !value.is_array() && !value.is_object();
            let has_field =
                |name: &str, value: &Value| name != "text" && !OF_THE_FORM.contains(&name) && can_say(value);
            // One that came from elsewhere may have no text, or another one.
            let text = match content.get("text") {
                Some(value) => can_say(value).then_some(true),
                None => Some(content.is_null()),
            };
            let text = text.map(|is_required| field("text", "What happened", markdown, is_required));
            let others = content.as_object().into_iter().flatten().filter(|(name, value)| has_field(name, value));
            text.into_iter().chain(others.map(|(name, _)| field(name, &label(name), "", false))).collect()
        }
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
        known(&dashboard, &reader, &of).await
    };
    match entry.await {
        Ok(entry) => page(StatusCode::OK, &edit(frame, &of, &entry)),
        Err(refusal) => frame.refusal(&refusal, &format!("/{}/{}", of.1, of.2)),
    }
}

/// The entry, as it is now.
async fn known(dashboard: &Dashboard, reader: &Reader, of: &Named) -> Result<Entry, Refusal> {
    let entry = entries::one(&dashboard.api, &reader.caller, of).await?;
    if entry.deleted_at.is_some() { Err(Problem::not_found().into()) } else { Ok(entry) }
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

/// That the fields that have to say something do: of an object the API takes anything.
fn check_filled(kind: &str, was: &Value, content: &Map<String, Value>) -> Result<(), Problem> {
    let is_blank = |field: &Field| content.get(&field.name).is_none_or(|value| shown(value).trim().is_empty());
    match fields(kind, was).into_iter().find(|field| field.is_required && is_blank(field)) {
        Some(field) => Err(Problem::unprocessable(&field.name, "something")),
        None => Ok(()),
    }
}

/// What a form says, as an entry holds it that was this before: what nobody filled in is not there, and what the form has no
/// field for is as it was.
fn content(kind: &str, was: &Value, sent: &Fields) -> Map<String, Value> {
    let mut content = was.as_object().cloned().unwrap_or_default();
    for field in fields(kind, was) {
        match sent.get(&field.name) {
            Some(said) if field.is_required || !said.trim().is_empty() => {
                let value = typed(was.get(&field.name), said);
                content.insert(field.name, value);
            }
            _ => {
                content.remove(&field.name);
            }
        }
    }
    content
}

fn version(fields: &Fields) -> IfMatch {
    // A form without a version is none of ours, and changes nothing.
    IfMatch::only(fields.get("version").and_then(|version| version.parse().ok()), None)
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
    let sent = content(&kind, &Value::Null, &posted.fields);
    let written = async {
        let content = Content::check(kind.clone(), sent.clone())?;
        check_filled(&kind, &Value::Null, &sent)?;
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
    let was = match known(&dashboard, &posted.reader, &of).await {
        Ok(entry) => entry,
        Err(refusal) => return frame.refusal(&refusal, &format!("/{}/{}", of.1, of.2)),
    };
    let sent = content(&was.kind, &was.content, &posted.fields);
    let written = async {
        let content = Content::check(was.kind.clone(), sent.clone())?;
        check_filled(&was.kind, &was.content, &sent)?;
        entries::take(api, caller, &of, &Step::Change(content), &version(&posted.fields)).await
    };
    let problem = match written.await {
        Ok(entry) => return done("changed", &of.0, &entry),
        Err(Refusal::Problem(problem)) if is_about_the_form(&problem) => problem,
        Err(refusal) => return frame.refusal(&refusal, &format!("/{}/{}", of.1, of.2)),
    };
    // As it is by now, so that the next try is meant for what the reader sees.
    let entry = match known(&dashboard, &posted.reader, &of).await {
        Ok(entry) => entry,
        Err(refusal) => return frame.refusal(&refusal, &format!("/{}/{}", of.1, of.2)),
    };
    let mut form = edit(frame, &of, &entry);
    form.fields = fields(&entry.kind, &Value::Object(sent));
    if problem.status == StatusCode::UNPROCESSABLE_ENTITY {
        return refused(form, &problem);
    }
    form.error = Some(format!("{} has changed this since you opened it. Save again to write over it.", entry.author));
    let said = fields(&entry.kind, &entry.content);
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
