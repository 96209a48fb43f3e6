//! A dead letter as an ingester parks it: what came, why it could not be landed, and what reading it again takes.

use chrono::{DateTime, Utc};
use model::{Entity, ExternalId, Mapped, Operation, Position, Record, Reject};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::erased::{Erased, Said, Verdict};

/// At most this much of an oversized record is kept.
const KEPT_BYTES: usize = 64 << 10;

/// A record that could not be landed.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// `{topic, partition, offset}`, `{file, line, byte_offset}` or `{request}`.
    pub origin: Value,
    /// Why.
    pub reject: Reject,
    /// The bytes as they came; sealed at landing.
    pub payload: Vec<u8>,
    /// Whether what is kept is only a part of what came.
    pub truncated: bool,
    /// The source's id, where it could be read all the same.
    pub external_id: Option<String>,
    /// What reading it again takes beside the payload; sealed at landing. Without it the letter cannot be retried.
    pub context: Option<Context>,
}

/// What reading a dead letter again takes beside its payload, so that it gives what it would have given when it came:
/// the same records at the same positions. Sealed as the payload is, for a key or an email is personal, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// Whatever the source's ingester needs; only it knows the form. Of an object `entity` says what the letter's id is of, and
    /// `customer` whose it is.
    Source(Value),
    /// The letter is a record that was read and could not be stored or consolidated.
    Record(Box<KeptRecord>),
}

/// A record but for its payload, which is the letter's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptRecord {
    entity: String,
    operation: String,
    external_id: String,
    id_is_number: bool,
    email: Option<String>,
    credential: Option<String>,
    position: Vec<u8>,
    observed_at: DateTime<Utc>,
    attributes: String,
    moved_to: Option<Value>,
    /// Otherwise the letter holds the attributes, so that there is something to see.
    has_payload: bool,
}

impl DeadLetter {
    /// A dead letter of these bytes; of a record over the size limit only the beginning is kept.
    pub fn new(origin: Value, reject: Reject, payload: &[u8]) -> Self {
        let truncated = reject.reason == model::Reason::TooLarge && payload.len() > KEPT_BYTES;
        let kept = if truncated { &payload[..KEPT_BYTES] } else { payload };
        Self { origin, reject, payload: kept.to_vec(), truncated, external_id: None, context: None }
    }

    /// A dead letter of a record that was read and could not be stored or consolidated.
    pub fn of_record(origin: Value, reject: Reject, record: &Record) -> Self {
        Self {
            origin,
            reject,
            payload: record.payload.as_ref().unwrap_or(&record.mapped.attributes).as_bytes().to_vec(),
            truncated: false,
            external_id: Some(record.mapped.external_id.as_str().to_owned()),
            context: Some(Context::Record(Box::new(KeptRecord::of(record)))),
        }
    }

    /// Notes the id of the record, so that a full export does not take its member for gone.
    #[must_use]
    pub fn with_external_id(mut self, external_id: Option<String>) -> Self {
        self.external_id = external_id;
        self
    }

    /// Whether it is of somebody erased, as far as that can be seen in it.
    pub(crate) fn is_of_erased(&self, source: &str, erased: &Erased) -> bool {
        is_of_erased(source, self.external_id.as_deref(), &self.payload, self.context.as_ref(), erased)
    }

    /// Notes what the source's ingester needs to read it again. One of which only a part is kept has no use for it.
    #[must_use]
    pub fn with_context(mut self, context: &impl Serialize) -> Self {
        let context = serde_json::to_value(context).ok().filter(|_| !self.truncated);
        self.context = context.map(Context::Source);
        self
    }
}

/// Whether a letter is of somebody erased: by the id that could be read, by the record that it was, or because its bytes, or
/// what reading them again takes, name an erased email.
pub(crate) fn is_of_erased(
    source: &str,
    external_id: Option<&str>,
    payload: &[u8],
    context: Option<&Context>,
    erased: &Erased,
) -> bool {
    let about = context.map(About::of).unwrap_or_default();
    let in_context = |context: &Context| match context {
        Context::Source(value) => names(value, erased),
        Context::Record(kept) => kept.is_of_erased(source, erased),
    };
    let is_customer = about.entity.is_none_or(|entity| entity == Entity::Customer.as_str());
    external_id.is_some_and(|id| is_customer && erased.has_id(source, id))
        || about.customer.is_some_and(|id| erased.has_id(source, id))
        || erased.is_named_in(payload)
        || context.is_some_and(in_context)
}

/// What a context says of whom a letter is about, whatever else an ingester notes.
#[derive(Default)]
struct About<'c> {
    /// What the letter's id is of; a customer's where nothing is said.
    entity: Option<&'c str>,
    /// The source's id of the customer whose order it is, or whose list it was found in.
    customer: Option<&'c str>,
}

impl<'c> About<'c> {
    fn of(context: &'c Context) -> Self {
        match context {
            Context::Source(value) => Self { entity: value["entity"].as_str(), customer: value["customer"].as_str() },
            Context::Record(kept) => Self { entity: Some(&kept.entity), customer: None },
        }
    }
}

/// Whether a text in it, or bytes, which are lists of numbers, name an erased email.
fn names(value: &Value, erased: &Erased) -> bool {
    match value {
        Value::String(text) => erased.is_named_in(text.as_bytes()),
        Value::Array(values) => {
            let bytes: Option<Vec<u8>> = values.iter().map(|value| u8::try_from(value.as_u64()?).ok()).collect();
            bytes.is_some_and(|bytes| erased.is_named_in(&bytes)) || values.iter().any(|value| names(value, erased))
        }
        Value::Object(members) => members.values().any(|value| names(value, erased)),
        _ => false,
    }
}

impl KeptRecord {
    fn is_of_erased(&self, source: &str, erased: &Erased) -> bool {
        let Some(entity) = Entity::parse(&self.entity) else { return false };
        let moved_to = self.moved_to.as_ref().and_then(|id| ExternalId::from_json(&id.to_string()));
        let said = Said {
            source,
            entity,
            external_id: &self.external_id,
            moved_to: moved_to.as_ref(),
            email: self.email.as_deref(),
            attributes: &self.attributes,
            payload: None,
        };
        erased.judge(&said) != Verdict::Keep
    }

    fn of(record: &Record) -> Self {
        let mapped = &record.mapped;
        Self {
            entity: mapped.entity.as_str().to_owned(),
            operation: record.operation.as_str().to_owned(),
            external_id: mapped.external_id.as_str().to_owned(),
            id_is_number: mapped.external_id.is_number(),
            email: mapped.email.clone(),
            credential: mapped.credential.clone(),
            position: record.position.as_bytes().to_vec(),
            observed_at: record.observed_at,
            attributes: mapped.attributes.clone(),
            moved_to: record.moved_to.as_ref().map(ExternalId::to_json),
            has_payload: record.payload.is_some(),
        }
    }

    /// The record, with the letter's payload; `None` if it has words that this program does not know.
    pub(super) fn record(&self, payload: &[u8]) -> Option<Record> {
        let moved_to = self.moved_to.as_ref().map(|id| ExternalId::from_json(&id.to_string()));
        Some(Record {
            operation: Operation::parse(&self.operation)?,
            mapped: Mapped {
                entity: Entity::parse(&self.entity)?,
                external_id: ExternalId::from_parts(self.external_id.clone(), self.id_is_number),
                email: self.email.clone(),
                credential: self.credential.clone(),
                attributes: self.attributes.clone(),
            },
            position: Position::from(self.position.clone()),
            observed_at: self.observed_at,
            moved_to: match moved_to {
                Some(id) => Some(id?),
                None => None,
            },
            payload: if self.has_payload { Some(String::from_utf8(payload.to_vec()).ok()?) } else { None },
        })
    }
}

#[cfg(test)]
mod tests {
    use model::Reason;
    use serde_json::json;

    use super::*;

    fn record(payload: Option<&str>) -> Record {
        Record {
            operation: Operation::Delete,
            mapped: Mapped {
                entity: Entity::Order,
                external_id: ExternalId::from_parts("18446744073709551617".to_owned(), true),
                email: Some(String::new()),
                credential: Some("digest".to_owned()),
                attributes: r#"{"z":1e400,"a":0.10}"#.to_owned(),
            },
            position: Position::from(vec![0, 255, 10]),
            observed_at: "2019-04-25T15:15:58.008385Z".parse().unwrap(),
            moved_to: ExternalId::from_text("0027"),
            payload: payload.map(str::to_owned),
        }
    }

    #[test]
    fn a_record_comes_out_of_its_letter_as_it_went_in() {
        for payload in [Some(r#"{"id" : 7}"#), None] {
            let record = record(payload);
            let reject = Reject::new(Reason::CannotConsolidate, "");
            let letter = DeadLetter::of_record(json!({}), reject, &record);
            assert_eq!(letter.payload, payload.unwrap_or(&record.mapped.attributes).as_bytes());
            let context: Context = serde_json::from_slice(&serde_json::to_vec(&letter.context).unwrap()).unwrap();
            let Context::Record(kept) = context else { panic!("{context:?}") };
            assert_eq!(kept.record(&letter.payload), Some(record));
        }
    }
}
