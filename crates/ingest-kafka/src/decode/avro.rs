//! Avro as Confluent's serializers frame it: a zero byte, the id of the writer's schema (big endian), the binary body.
//!
//! A body becomes the JSON text that the JSON converter would have written of the same value, with the values whose meaning
//! is in the schema written out; everything behind it is the same for both. The text is what is kept of the message, too.

mod body;
mod schema;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use model::{Reason, Reject, inspect};

use super::key::{Key, in_key, is_id};
use super::shape::is_nothing;
use super::{Coordinates, Decoder};
use crate::registry::{Found, Registry};
use crate::settings::Format;
use body::Scope;

pub(crate) use schema::Schema;

/// Bytes of the frame: the zero and the id.
const FRAME: usize = 5;

/// How long somebody who looks at a text waits for a registry in trouble.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes taken out of their frame.
struct Framed<'a> {
    schema_id: u32,
    body: &'a [u8],
}

impl<'a> Framed<'a> {
    /// `None` of what begins with another byte than zero, or is too short for a frame.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (frame, body) = bytes.split_first_chunk::<FRAME>()?;
        let [0, id @ ..] = *frame else { return None };
        Some(Self { schema_id: u32::from_be_bytes(id), body })
    }
}

/// Why bytes gave no JSON.
enum Unread {
    Rejected(Reject),
    /// The schema of this id is not here yet.
    Pending(u32),
}

impl From<Reject> for Unread {
    fn from(reject: Reject) -> Self {
        Self::Rejected(reject)
    }
}

impl Decoder {
    /// Whether a value says in one of JSON's ways that there is none.
    pub(super) fn is_nothing(&self, value: &[u8]) -> bool {
        value.first() != Some(&0) && self.wrapper.open(value).is_ok_and(|opened| is_nothing(opened.payload))
    }

    /// The JSON of a value.
    pub(super) fn value_of_avro(
        &self,
        registry: &Registry,
        value: &[u8],
        at: &Coordinates<'_>,
    ) -> Result<String, Reject> {
        self.json_at(registry, value, at, &|column| self.mappings.iter().any(|mapping| mapping.reads(column)))
    }

    /// A key: framed Avro where the source writes it, else JSON or text.
    pub(super) fn key<'a>(&self, key: Option<&'a [u8]>, at: &Coordinates<'_>) -> Result<Key<'a>, Reject> {
        match (&self.format, key) {
            (Format::Avro(registry), Some(key)) if key.first() == Some(&0) => {
                let json = self.json_at(registry, key, at, &|column| is_id(&self.mappings, column));
                json.map(Key::of_json).map_err(|reject| in_key(&reject))
            }
            _ => Key::read(key, self.limits, &self.mappings),
        }
    }

    /// The text that bytes are or become, for people: what cannot be written out stays as it is.
    pub(crate) fn readable<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        let (Format::Avro(registry), Some(0)) = (&self.format, bytes.first()) else {
            return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
        };
        loop {
            match self.json(registry, bytes, &|_| false) {
                Ok(json) => return Some(Cow::Owned(json)),
                Err(Unread::Rejected(_)) => return None,
                Err(Unread::Pending(schema_id)) => registry.wait(schema_id, PATIENCE).ok()?,
            }
        }
    }

    fn json_at(
        &self,
        registry: &Registry,
        bytes: &[u8],
        at: &Coordinates<'_>,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<String, Reject> {
        self.json(registry, bytes, is_wanted).map_err(|unread| match unread {
            Unread::Rejected(reject) => reject,
            Unread::Pending(schema_id) => {
                at.pending.set(Some(schema_id));
                Reject::new(Reason::UnknownSchema, "being asked for")
            }
        })
    }

    fn json(&self, registry: &Registry, bytes: &[u8], is_wanted: &dyn Fn(&str) -> bool) -> Result<String, Unread> {
        let limit = self.limits.max_record_bytes;
        if bytes.len() > limit {
            return Err(Reject::new(Reason::TooLarge, format!("{} bytes, the limit is {limit}", bytes.len())).into());
        }
        let framed = Framed::read(bytes);
        let framed = framed.ok_or_else(|| not_avro("it does not begin with a zero byte and the id of a schema"))?;
        let schema = match registry.schema(framed.schema_id) {
            Found::Schema(schema) => schema,
            Found::Refused(reject) => return Err(reject.into()),
            Found::Pending => return Err(Unread::Pending(framed.schema_id)),
        };
        let stays = |raw: &str| self.placeholder.is_json(raw);
        let scope = Scope { limits: self.limits, stays: &stays, is_wanted };
        let json = body::write(&schema, framed.body, scope)?;
        // NUL, numbers, and what else cannot be stored.
        inspect(json.as_bytes(), self.limits)?;
        Ok(json)
    }
}

/// What is said of bytes that are no Avro, or not what their schema says.
fn not_avro(detail: impl Into<Cow<'static, str>>) -> Reject {
    Reject::new(Reason::NotAvro, detail.into())
}
