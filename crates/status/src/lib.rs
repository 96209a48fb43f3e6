//! How far every source is and what needs a look: for `c360 status` and for the dashboard, which show the same.
//!
//! Everything comes from the database, where the crates below say how far they are and ingesters leave their word
//! (`staging::health`), so that it can be asked from anywhere and at any time. Nothing is written, nothing migrated, no
//! broker asked. What is configured is told by a [`Setup`].
//!
//! The way of the facts: [`ask`] has [`Facts`] (what the database says), [`Report`] is the frozen shape of `status --json`,
//! `looks` decides what needs somebody and has the command for it, [`page`] is all of it for a terminal.

mod facts;
mod looks;
mod page;
mod report;
mod setup;
#[cfg(test)]
mod tests;
pub mod words;

pub use facts::{Asked, Facts, ask, in_staging, storage};
pub use looks::{Look, Severity};
pub use page::{Paint, page};
pub use report::{Backlog, Daemon, Expiry, Lags, LastFile, List, Report, SafeToStop, Source, Staging, State};
pub use setup::{Expected, Kind, Setup};
