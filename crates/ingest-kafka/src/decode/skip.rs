//! Messages that are nothing to land: counted, by kind.

use chrono::{DateTime, Utc};
use model::LogPosition;

/// Why a message is nothing to land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Debezium says that it is alive.
    Heartbeat,
    /// A transaction begins or ends.
    Transaction,
    /// The table was altered.
    SchemaChange {
        /// Where in the log.
        position: Option<LogPosition>,
    },
    /// A message that somebody wrote into the log of Postgres (`op` m).
    LogicalMessage,
    /// The table was emptied (`op` t): what it held stays until an operator retires it.
    Truncate {
        /// When.
        at: DateTime<Utc>,
    },
    /// A tombstone that names no row.
    TombstoneWithoutKey,
    /// No mapping is for this topic.
    Unmapped,
}

impl Skip {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Transaction => "transaction",
            Self::SchemaChange { .. } => "schema_change",
            Self::LogicalMessage => "message",
            Self::Truncate { .. } => "truncate",
            Self::TombstoneWithoutKey => "tombstone_without_key",
            Self::Unmapped => "unmapped",
        }
    }
}
