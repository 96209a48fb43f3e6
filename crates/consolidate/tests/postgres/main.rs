//! Schema `customer360` on real Postgres: what is landed, merged and folded, against an independent model and by hand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test whose world does not stand can only fail")]

mod deciding;
mod decisions;
mod disagreeing;
mod edits;
mod emails;
mod erasing;
mod exports;
mod growth;
mod histories;
mod interactions;
mod matching;
mod orders;
mod poison;
mod polls;
mod products;
mod rebuilding;
mod redirects;
mod reference;
mod repetition;
mod restarting;
mod retiring;
mod support;
mod takeover;
mod threads;
