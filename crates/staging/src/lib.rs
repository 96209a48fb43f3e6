//! Schema `staging`: raw records on their way in.
//!
//! The batch is the unit of everything: landed in one transaction together with the source's progress, claimed and merged
//! as a whole, expired together.
//!
//! The contract for ingesters: fill a [`Batch`], give it to a [`Lander`] with the [`Checkpoint`] that it covers. Once
//! [`Landing::Landed`] comes back both are durable and the source may be told; [`Landing::Fenced`] means that the stored
//! progress is not what the ingester thought (a zombie, another process, a COMMIT whose reply was lost): nothing was
//! written, read the progress again and go on from there.
//!
//! The contract for the consolidator: [`claim`] the oldest published batches, [`read`] them, and [`finish`] them in the
//! transaction that writes their effect.
//!
//! This crate knows nothing of customers' profiles, and keeps no record longer than its source's time to live.

pub mod answers;
mod at_once;
mod batch;
mod claim;
pub mod copy;
pub mod dead_letters;
pub mod erase;
pub mod erased;
mod error;
mod expiry;
pub mod frozen;
pub mod health;
mod holder;
pub mod imports;
mod installation;
mod land;
pub mod lists;
mod migrate;
pub mod offsets;
pub mod outbox;
pub mod overview;
mod partitions;
mod patience;
pub mod polls;
pub mod rates;
pub mod replays;
mod seal;
mod sql;

pub use batch::{Batch, LIMIT_BYTES, LIMIT_ROWS, LIMIT_WAIT};
pub use claim::{
    ClaimedBatch, ClaimedImport, StagedRecord, claim, exclude, fail, finish, is_left, newest, note_members, origins,
    read,
};
pub use dead_letters::DeadLetter;
pub use erased::Erased;
pub use error::{Error, is_transient};
pub use expiry::{Expired, expire};
pub use holder::LockHolder;
pub use installation::{adopt_key, require_heard};
pub use land::{Checkpoint, Lander, Landing, wake};
pub use migrate::{
    Pending, all_migrations, migrate, migrate_schema, missing_migrations, pending_migrations, pending_migrations_of,
};
pub use partitions::DEFAULT_PARTITION_WIDTH;
pub use patience::{Patience, connect, in_time, persist, session};
pub use seal::Seal;
pub use sql::constant_sql;

/// The channel on which landing and publishing say that there is something to claim.
pub const LANDED_CHANNEL: &str = "c360_landed";
