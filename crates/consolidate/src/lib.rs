//! Schema `customer360`: merges staged records into golden records.
//!
//! Two steps, one mechanism. **Step 1** (`merge`) takes batches: reads the cross-references that they name in one set read,
//! applies the records in memory, writes the changed ones back in one set write, and marks the match keys touched, old and
//! new, as dirty. **Step 2** (`fold`) takes dirty keys: reads their living cross-references, edits and decisions, folds
//! them into profiles, and writes customers, changes, redirects and the customers of orders. Whatever else can change a
//! profile (decisions, edits, new rules, a rebuild) only marks keys dirty.
//!
//! What it guarantees: a profile is a pure function of the current cross-references, the operators' decisions and the rules;
//! any arrival order, any repetition and any batching of the same records gives the same rows. Writes that would change
//! nothing are not made. One consolidator works at a time per database; others stand by and take over.
//!
//! Operators decide who is who: [`decide`]; [`mod@show`], [`mod@explain`] and [`unmatched`] are what they look at.
//! What a system said before a time can be taken out: [`retire`]. [`Preview`] says what records would change, without changing it.
//!
//! It knows nothing of where records came from beyond their source's name. Start with [`run`] and [`Consolidator`].

mod consolidator;
mod counts;
mod customers;
pub mod decide;
mod dirty;
pub mod edit;
pub mod erase;
mod error;
mod exclude;
pub mod explain;
pub mod export;
mod find;
mod fold;
mod history;
mod interactions;
mod matching;
mod merge;
mod metrics;
mod migrate;
mod orders;
pub mod overview;
mod pairs;
mod person;
mod preview;
mod products;
pub mod rebuild;
mod redirects;
mod refusal;
mod restarts;
pub mod retire;
mod rules;
mod search;
pub mod show;
mod threads;
pub mod unmatched;
mod worker;
mod xrefs;

pub use consolidator::{Consolidator, Drained};
pub use counts::add_up_counts;
pub use dirty::mark;
pub use error::Error;
pub use find::Key;
pub use history::{Forgotten, forget_changes};
pub use migrate::{all_migrations, migrate, missing_migrations, pending_migrations};
pub use pairs::{PairsCounted, count_pairs};
pub use preview::{Change, Foreseen, Of, Preview, ProfileChange};
pub use refusal::Refusal;
pub use rules::{Rules, other_rules_are_at_work, rebuild_is_due};
pub use worker::{Goal, catch_up, run};
