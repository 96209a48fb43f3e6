//! Records: one thing that one source said.

use chrono::{DateTime, Utc};

use crate::{ExternalId, Position};

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// A person, under the id that one system gives.
    Customer,
    /// An order with its lines.
    Order,
    /// A product.
    Product,
    /// An email, meeting, call or the like.
    Interaction,
}

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Inserts or updates: absent attributes keep their value.
    Upsert,
    /// Deletes.
    Delete,
}

/// What a mapping makes of one decoded row: a record without the coordinates that only the ingester knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    /// What the row is about.
    pub entity: Entity,
    /// The source's id of it.
    pub external_id: ExternalId,
    /// `None` keeps the email that is known, `Some("")` clears it.
    pub email: Option<String>,
    /// The credential after [`crate::Credentials`] replaced it; `None` keeps, `Some("")` clears.
    pub credential: Option<String>,
    /// A JSON object: for customers the mapped attributes (null clears, a missing one keeps), for the other entities the
    /// JSON form of [`crate::OrderFields`], [`crate::ProductFields`] or [`crate::InteractionFields`].
    pub attributes: String,
}

/// One thing that one source said, ready to be landed.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Upsert or delete.
    pub operation: Operation,
    /// What was said.
    pub mapped: Mapped,
    /// Where it stands in the source's own order.
    pub position: Position,
    /// When the source says that it changed; see [`crate::observed_at`].
    pub observed_at: DateTime<Utc>,
    /// For a delete that is one half of a primary-key change: the id that the row has from now on.
    pub moved_to: Option<ExternalId>,
    /// The raw record as JSON text, credentials replaced; `None` when the source sent none (a tombstone).
    pub payload: Option<String>,
}

impl Mapped {
    /// A record that names something and says nothing about it, as deletes do.
    pub fn bare(entity: Entity, external_id: ExternalId) -> Self {
        Self { entity, external_id, email: None, credential: None, attributes: "{}".to_owned() }
    }
}

impl Entity {
    /// The word in `staging.records.entity`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Order => "order",
            Self::Product => "product",
            Self::Interaction => "interaction",
        }
    }

    /// Reads [`Entity::as_str`] back.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Customer, Self::Order, Self::Product, Self::Interaction]
            .into_iter()
            .find(|entity| entity.as_str() == word)
    }
}

impl Operation {
    /// The word in `staging.records.operation`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Delete => "delete",
        }
    }

    /// Reads [`Operation::as_str`] back.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Upsert, Self::Delete].into_iter().find(|operation| operation.as_str() == word)
    }
}

/// Why a source record is a dead letter. The words are frozen: scripts read them in `staging.dead_letters.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is its word")]
pub enum Reason {
    NotUtf8,
    Nul,
    LoneSurrogate,
    NotJson,
    UnknownShape,
    UnknownOperation,
    NotAvro,
    UnknownSchema,
    TooLarge,
    TooDeep,
    NoExternalId,
    BadExternalId,
    BadValue,
    RaggedRow,
    UnclosedQuote,
    CannotConsolidate,
}

impl Reason {
    /// The word in `staging.dead_letters.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::Nul => "nul",
            Self::LoneSurrogate => "lone_surrogate",
            Self::NotJson => "not_json",
            Self::UnknownShape => "unknown_shape",
            Self::UnknownOperation => "unknown_operation",
            Self::NotAvro => "not_avro",
            Self::UnknownSchema => "unknown_schema",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::NoExternalId => "no_external_id",
            Self::BadExternalId => "bad_external_id",
            Self::BadValue => "bad_value",
            Self::RaggedRow => "ragged_row",
            Self::UnclosedQuote => "unclosed_quote",
            Self::CannotConsolidate => "cannot_consolidate",
        }
    }
}

/// Why a row could not become a record. A bad row is data, not an error: it is returned beside the good ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The word for it.
    pub reason: Reason,
    /// What to look at, in words: columns and places, never a value.
    pub detail: String,
}

impl Reject {
    /// A reason with what to look at.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
