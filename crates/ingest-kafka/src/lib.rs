//! Kafka sources: Debezium change events and JSON messages, landed exactly once.
//!
//! [`run`] is the daemon: it shares a source's partitions with other processes of its group. [`catch_up`] reads everything
//! there is now and ends. [`Replay`] lands messages again. [`lag`] asks how far behind the stored progress is. [`Decoder`] is the pure part, by itself.
//!
//! A message's way: a thread of its own polls the client (`consume`), decodes each message in place (`decode`) and appends
//! its records to the open batch of its partition (`partition`); full batches go through a narrow channel to the
//! asynchronous half (`land`), which lands them one after the other, while the next one is being decoded.
//!
//! What it guarantees:
//! * Progress is kept in `staging.kafka_offsets` and moves in the transaction that lands the records it covers. Whoever
//!   continues from other progress than is stored is fenced, reads it again and goes on from there: nothing is lost or
//!   landed twice, whatever Kafka thinks was committed.
//! * Every message ends as records, as a dead letter or as a counted skip. A bad message stops nobody.
//!   [`reread`] makes records of a dead letter once they can be made.
//! * Progress that the broker does not have (retention, a topic made again) stops its partition with an alarm and is never
//!   jumped over. The other partitions go on.
//! * A schema registry that does not answer is waited for; a schema that it does not know is a dead letter.
//! * Memory is bounded, however long the backlog; while the database is slow, partitions are paused and the group is kept.
//! * No clear credential leaves the decoder, except sealed within a dead letter.
//!
//! What it never does: anything with profiles, or with what a record means beyond its mapping.

mod catch_up;
mod client;
mod consume;
mod decode;
mod error;
mod lag;
mod land;
mod ledger;
pub mod metrics;
mod partition;
mod passage;
mod registry;
mod replay;
mod report;
mod reread;
mod run;
mod security;
mod session;
mod settings;
mod status;
mod trouble;

pub use catch_up::{CaughtUp, catch_up};
pub use decode::{Decoder, Message, Outcome, Seen, Skip};
pub use error::Error;
pub use lag::{PartitionLag, lag};
pub use registry::Registry;
pub use replay::{Counts, Part, Place, Replay, Request};
pub use reread::{key_of, readable, reread};
pub use run::run;
pub use security::{BadProperty, check_properties};
pub use settings::{DEFAULT_FLATTENED_PREFIX, DEFAULT_PLACEHOLDER, Format, Settings};
pub use status::StoppedPartition;
