//! Message keys: they name the row that a delete deletes.

use std::borrow::Cow;

use model::mapping::{Columns, Mapping};
use model::{ExternalId, Field, Fields, Limits, Reason, Reject, inspect};

use super::members::{is_object, trim};
use super::shape::is_nothing;
use super::types::{Types, write_out_unnamed, write_out_value};
use super::wrapper::unwrap;

/// A key as it came.
#[derive(Debug)]
pub(super) enum Key<'a> {
    /// There is none.
    Absent,
    /// Columns, bare or taken out of `{schema, payload}`: the JSON of an object.
    Columns(Cow<'a, str>),
    /// One value that is not named: JSON.
    Value(Cow<'a, str>),
    /// The same as a string serializer writes it.
    Text(&'a str),
}

impl<'a> Key<'a> {
    /// `mappings` tell which columns have to be readable.
    pub(super) fn read(bytes: Option<&'a [u8]>, limits: Limits, mappings: &[Mapping]) -> Result<Self, Reject> {
        let text = inspect(bytes.unwrap_or_default(), limits).map_err(|reject| in_key(&reject))?;
        if is_nothing(text) {
            return Ok(Self::Absent);
        }
        if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
            return Ok(Self::Text(text));
        }
        let text = trim(text);
        let (payload, schema) = unwrap(text).map_or((text, None), |wrapped| (wrapped.payload, Some(wrapped.schema)));
        let is_id = |column: &str| is_id(mappings, column);
        let written = match schema {
            _ if is_nothing(payload) => return Ok(Self::Absent),
            Some(schema) if is_object(payload) => Types::of_schema(schema, is_id).write_out(payload, |_| false),
            Some(schema) => write_out_value(schema, payload),
            None => Ok(write_out_unnamed(payload)),
        };
        let written = written.map_err(|reject| in_key(&reject))?;
        Ok(if is_object(payload) && is_object(&written) { Self::Columns(written) } else { Self::Value(written) })
    }

    /// A key whose JSON was made of Avro.
    pub(super) fn of_json(json: String) -> Self {
        match &*json {
            nothing if is_nothing(nothing) => Self::Absent,
            object if is_object(object) => Self::Columns(json.into()),
            _ => Self::Value(json.into()),
        }
    }

    /// The id that the key holds for a mapping.
    pub(super) fn external_id(&self, mapping: &Mapping) -> Result<ExternalId, Reject> {
        let missing = |detail: &str| Reject::new(Reason::NoExternalId, detail);
        let unreadable = |_| Reject::new(Reason::NotJson, "in the key");
        let value = match (self, mapping.id_columns()) {
            (Self::Absent, _) => return Err(missing("no key")),
            (Self::Columns(object), _) => {
                let fields = Fields::from_json(object, None).map_err(unreadable)?;
                return mapping.external_id(&fields).map_err(|reject| in_key(&reject));
            }
            (_, Columns::Join(names)) if names.len() > 1 => return Err(missing("the key holds only one value")),
            (Self::Value(json), _) => Field::from_raw(json, None).map_err(unreadable)?,
            (Self::Text(text), _) => Field::Text((*text).into()),
        };
        ExternalId::from_field(&value, &mapping.id_columns().label()).map_err(|reject| in_key(&reject))
    }
}

/// Whether a mapping has its id from this column.
pub(super) fn is_id(mappings: &[Mapping], column: &str) -> bool {
    mappings.iter().any(|mapping| mapping.id_columns().names().iter().any(|id| id == column))
}

pub(super) fn in_key(reject: &Reject) -> Reject {
    Reject::new(reject.reason, format!("in the key: {}", reject.detail))
}
