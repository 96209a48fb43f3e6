//! What an entry of a type holds.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use model::Limits;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::problem::Problem;

const MAX_NOTE_CHARS: usize = 20_000;
const MAX_LINE_CHARS: usize = 500;
const MAX_URL_CHARS: usize = 2_000;
const MAX_OBJECT_BYTES: usize = 32 << 10;
pub(in crate::api) const MAX_NUMBER_DIGITS: u64 = 100;

/// The content of an entry, checked.
pub(crate) struct Content {
    pub(super) kind: String,
    pub(super) value: Value,
}

/// What is no name of a configured type, because it stands for something else on a timeline or behind the customer in a path,
/// of the API or of the dashboard.
pub const TAKEN_TYPES: [&str; 16] = [
    "note",
    "notes",
    "contact",
    "contacts",
    "link",
    "links",
    "order",
    "interaction",
    "change",
    "timeline",
    "recommendations",
    "refresh",
    "profile",
    "lists",
    "decide",
    "export",
];

/// The type that a part of a path stands for.
pub(crate) fn type_of(object_types: &[String], kind: &str) -> Result<String, Problem> {
    let kind = match kind {
        "notes" => "note",
        "contacts" => "contact",
        "links" => "link",
        kind if object_types.iter().any(|configured| configured == kind) => kind,
        _ => return Err(Problem::not_found()),
    };
    Ok(kind.to_owned())
}

impl Content {
    /// Reads and checks the body of a request.
    pub(super) fn read(
        object_types: &[String],
        kind: &str,
        body: Result<Json<Map<String, Value>>, JsonRejection>,
    ) -> Result<Self, Problem> {
        let kind = type_of(object_types, kind)?;
        let Json(members) = body.map_err(|rejection| rejected(&rejection, "members"))?;
        Self::check(kind, members)
    }

    /// Checks what an entry of this type is to hold.
    pub(crate) fn check(kind: String, members: Map<String, Value>) -> Result<Self, Problem> {
        if !is_storable(&members) {
            let allowed = format!(
                "text without the character NUL, numbers of at most {MAX_NUMBER_DIGITS} digits when written out, and \
                 nesting of at most 64"
            );
            return Err(Problem::unprocessable("body", allowed));
        }
        let check = Check { members: &members };
        match kind.as_str() {
            "note" => check.only(&["text"]).and_then(|()| check.text("text", MAX_NOTE_CHARS)),
            "contact" => check
                .only(&["value", "label"])
                .and_then(|()| check.text("value", MAX_LINE_CHARS))
                .and_then(|()| check.maybe("label", MAX_LINE_CHARS)),
            "link" => check
                .only(&["url", "title"])
                .and_then(|()| check.url("url"))
                .and_then(|()| check.maybe("title", MAX_LINE_CHARS)),
            _ => check.size(),
        }?;
        Ok(Self { kind, value: Value::Object(members) })
    }
}

/// What is wrong with a body; `members` are those of the object that it has to be.
pub(in crate::api) fn rejected(rejection: &JsonRejection, members: &str) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(StatusCode::PAYLOAD_TOO_LARGE),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .with_detail("send JSON, with Content-Type: application/json"),
        StatusCode::UNPROCESSABLE_ENTITY => Problem::unprocessable("body", format!("a JSON object with {members}")),
        _ => Problem::bad("body", "a JSON object"),
    }
}

/// Whether Postgres can hold it as `jsonb`, as it can what sources send, and its numbers stay short there.
pub(in crate::api) fn is_storable(value: &impl Serialize) -> bool {
    let is_held = serde_json::to_vec(value).is_ok_and(|json| model::inspect(&json, Limits::default()).is_ok());
    is_held && serde_json::to_value(value).is_ok_and(|value| has_short_numbers(&value))
}

/// Postgres writes numbers out without exponent: a few thousand short ones could make an answer of hundreds of megabytes.
fn has_short_numbers(value: &Value) -> bool {
    match value {
        Value::Number(number) => digits(&number.to_string()) <= MAX_NUMBER_DIGITS,
        Value::Array(items) => items.iter().all(has_short_numbers),
        Value::Object(members) => members.values().all(has_short_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// At most so many digits a number has that is written out.
fn digits(number: &str) -> u64 {
    let (written, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let written = written.bytes().filter(u8::is_ascii_digit).count() as u64;
    exponent.parse::<i64>().map_or(u64::MAX, |exponent| written.saturating_add(exponent.unsigned_abs()))
}

/// The members of a body.
struct Check<'a> {
    members: &'a Map<String, Value>,
}

impl Check<'_> {
    fn only(&self, allowed: &[&str]) -> Result<(), Problem> {
        match self.members.keys().find(|name| !allowed.contains(&name.as_str())) {
            Some(name) => Err(Problem::unprocessable(name, format!("there are only {}", allowed.join(" and ")))),
            None => Ok(()),
        }
    }

    fn text(&self, name: &str, most: usize) -> Result<(), Problem> {
        match self.members.get(name) {
            Some(Value::String(text)) if !text.trim().is_empty() && text.chars().count() <= most => Ok(()),
            _ => Err(Problem::unprocessable(name, format!("text of 1 to {most} characters"))),
        }
    }

    fn maybe(&self, name: &str, most: usize) -> Result<(), Problem> {
        if self.members.contains_key(name) { self.text(name, most) } else { Ok(()) }
    }

    /// Only what a browser opens without running it.
    fn url(&self, name: &str) -> Result<(), Problem> {
        self.text(name, MAX_URL_CHARS)?;
        let url = self.members.get(name).and_then(Value::as_str).unwrap_or_default();
        let is_web = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
        if is_web && !url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Ok(());
        }
        Err(Problem::unprocessable(name, "an address that begins with https:// or http://"))
    }

    fn size(&self) -> Result<(), Problem> {
        let bytes = serde_json::to_string(self.members).map_or(usize::MAX, |text| text.len());
        if self.members.is_empty() || bytes > MAX_OBJECT_BYTES {
            return Err(Problem::unprocessable(
                "body",
                format!("a JSON object with members, of at most {MAX_OBJECT_BYTES} bytes"),
            ));
        }
        Ok(())
    }
}
