//! Message keys: they name the row that a delete deletes.

use model::mapping::{Columns, Mapping};
use model::{ExternalId, Field, Fields, Limits, Reason, Reject, inspect};

use super::members::{is_object, trim};
use super::shape::{is_nothing, unwrap};

/// A key as it came.
#[derive(Debug)]
pub(super) enum Key<'a> {
    /// There is none.
    Absent,
    /// Columns, bare or taken out of `{schema, payload}`.
    Columns(Fields<'a>),
    /// One value that is not named: JSON, or text as a string serializer writes it.
    Value(Field<'a>),
}

impl<'a> Key<'a> {
    pub(super) fn read(bytes: Option<&'a [u8]>, limits: Limits) -> Result<Self, Reject> {
        let text = inspect(bytes.unwrap_or_default(), limits).map_err(|reject| in_key(&reject))?;
        if is_nothing(text) {
            return Ok(Self::Absent);
        }
        if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
            return Ok(Self::Value(Field::Text(text.into())));
        }
        let text = trim(text);
        let payload = unwrap(text).map_or(text, |(payload, _)| payload);
        let unreadable = |_| Reject::new(Reason::NotJson, "in the key");
        Ok(match payload {
            payload if is_nothing(payload) => Self::Absent,
            payload if is_object(payload) => Self::Columns(Fields::from_json(payload, None).map_err(unreadable)?),
            payload => Self::Value(Field::from_raw(payload, None).map_err(unreadable)?),
        })
    }

    /// The id that the key holds for a mapping.
    pub(super) fn external_id(&self, mapping: &Mapping) -> Result<ExternalId, Reject> {
        let missing = |detail: &str| Reject::new(Reason::NoExternalId, detail);
        match (self, mapping.id_columns()) {
            (Self::Absent, _) => Err(missing("no key")),
            (Self::Columns(fields), _) => mapping.external_id(fields).map_err(|reject| in_key(&reject)),
            (Self::Value(_), Columns::Join(names)) if names.len() > 1 => Err(missing("the key holds only one value")),
            (Self::Value(value), columns) => {
                ExternalId::from_field(value, &columns.label()).map_err(|reject| in_key(&reject))
            }
        }
    }
}

fn in_key(reject: &Reject) -> Reject {
    Reject::new(reject.reason, format!("in the key: {}", reject.detail))
}
