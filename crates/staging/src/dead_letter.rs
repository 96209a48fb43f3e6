//! Dead letters: what could not become a record, kept whole and sealed until an operator decides.

use model::Reject;
use serde_json::Value;

/// At most this much of an oversized record is kept.
pub(crate) const KEPT_BYTES: usize = 64 << 10;

/// A record that could not be landed.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// `{topic, partition, offset}`, `{file, line, byte_offset}` or `{request}`.
    pub origin: Value,
    /// Why.
    pub reject: Reject,
    /// The bytes as they came; sealed at landing.
    pub payload: Vec<u8>,
    /// Whether the payload is only the beginning of what came.
    pub truncated: bool,
    /// The source's id, where it could be read all the same.
    pub external_id: Option<String>,
}

impl DeadLetter {
    /// A dead letter of these bytes; of a record over the size limit only the beginning is kept.
    pub fn new(origin: Value, reject: Reject, payload: &[u8]) -> Self {
        let truncated = reject.reason == model::Reason::TooLarge && payload.len() > KEPT_BYTES;
        let kept = if truncated { &payload[..KEPT_BYTES] } else { payload };
        Self { origin, reject, payload: kept.to_vec(), truncated, external_id: None }
    }

    /// Notes the id of the record, so that a full export does not take its member for gone.
    #[must_use]
    pub fn with_external_id(mut self, external_id: Option<String>) -> Self {
        self.external_id = external_id;
        self
    }
}
