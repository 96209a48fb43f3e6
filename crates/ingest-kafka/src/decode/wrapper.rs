//! `{"schema": ..., "payload": ...}`: what Connect's JSON converter puts around a value, and the looking over of every value.
//!
//! Message after message of a topic has the same schema, several times as long as the row. So the last one is remembered,
//! with what it says of the columns: a message that begins with the same bytes is looked over and validated only behind them.

use std::sync::{Arc, Mutex, PoisonError};

use model::mapping::Mapping;
use model::{Limits, Reason, Reject, inspect};
use serde::de::IgnoredAny;

use super::members::{members, offset_in, trim};
use super::shape::is_nothing;
use super::types::Types;

/// A value taken out of its wrapper.
#[derive(Debug)]
pub(super) struct Wrapped<'a> {
    pub(super) schema: &'a str,
    pub(super) payload: &'a str,
    /// The payloads before it, where members repeat.
    pub(super) repeated: Vec<&'a str>,
}

/// A value that was looked over and is valid JSON, or nothing.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    /// All of it.
    pub(super) text: &'a str,
    /// What of it is the value.
    pub(super) payload: &'a str,
    /// See [`Wrapped`].
    pub(super) repeated: Vec<&'a str>,
    /// What its schema says of the columns that are read; `None` without a schema.
    pub(super) types: Option<Arc<Types>>,
}

/// Opens the values of a topic.
#[derive(Debug)]
pub(super) struct Wrapper {
    limits: Limits,
    mappings: Arc<[Mapping]>,
    last: Mutex<Option<Arc<Known>>>,
}

/// A schema that was read.
#[derive(Debug)]
struct Known {
    /// The value up to its payload.
    start: String,
    types: Arc<Types>,
}

/// Takes a value out of its wrapper, where it has one.
pub(super) fn unwrap(text: &str) -> Option<Wrapped<'_>> {
    let (mut schema, mut payload, mut repeated) = (None, None, Vec::new());
    for member in members(text) {
        match &*member.name() {
            "schema" => schema = Some(member.value),
            "payload" => repeated.extend(payload.replace(member.value)),
            _ => return None,
        }
    }
    Some(Wrapped { schema: schema?, payload: payload?, repeated })
}

/// What a schema says of the columns that some mapping reads.
pub(super) fn types_of(schema: &str, mappings: &[Mapping]) -> Types {
    Types::of_schema(schema, |column| mappings.iter().any(|mapping| mapping.reads(column)))
}

impl Wrapper {
    pub(super) fn new(limits: Limits, mappings: Arc<[Mapping]>) -> Self {
        Self { limits, mappings, last: Mutex::default() }
    }

    /// Looks a value over, validates it, and takes it out of its wrapper.
    pub(super) fn open<'a>(&self, value: &'a [u8]) -> Result<Opened<'a>, Reject> {
        if let Some(opened) = self.open_as_before(value) {
            return Ok(opened);
        }
        let text = inspect(value, self.limits)?;
        if is_nothing(text) {
            return Ok(Opened { text, payload: text, repeated: Vec::new(), types: None });
        }
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
            Reject::new(Reason::NotJson, format!("line {} column {}", error.line(), error.column()))
        })?;
        let payload = trim(text);
        let Some(wrapped) = unwrap(payload) else {
            return Ok(Opened { text, payload, repeated: Vec::new(), types: None });
        };
        let types = Arc::new(types_of(wrapped.schema, &self.mappings));
        let start = &text[..offset_in(text, wrapped.payload)];
        if wrapped.repeated.is_empty() && offset_in(text, wrapped.schema) < start.len() {
            let known = Known { start: start.to_owned(), types: types.clone() };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(known));
        }
        Ok(Opened { text, payload: wrapped.payload, repeated: wrapped.repeated, types: Some(types) })
    }

    /// Opens a value that begins like the last one. `None` is no verdict: all bad values end here, too.
    fn open_as_before<'a>(&self, value: &'a [u8]) -> Option<Opened<'a>> {
        let known = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let payload = value.strip_prefix(known.start.as_bytes())?.strip_suffix(b"}")?;
        if value.len() > self.limits.max_record_bytes {
            return None;
        }
        let inside = Limits { max_depth: self.limits.max_depth.checked_sub(1)?, ..self.limits };
        let payload = inspect(payload, inside).ok()?;
        serde_json::from_str::<IgnoredAny>(payload).ok()?;
        let text = std::str::from_utf8(value).ok()?;
        // Of the same bytes, and as long as the text: so that places in the payload are places in the text.
        let payload = trim(&text[known.start.len()..text.len() - 1]);
        Some(Opened { text, payload, repeated: Vec::new(), types: Some(known.types.clone()) })
    }
}
