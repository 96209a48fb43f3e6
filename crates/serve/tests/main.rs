//! The server as its clients see it: raw bytes over real sockets, and a real Postgres behind `/readyz`.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod access;
mod customers;
mod dashboard;
mod dashboard_looks;
mod decisions;
mod edits;
mod entries;
mod exports;
mod hostile;
mod insights;
mod limits;
mod lists;
mod operations;
mod probes;
mod refreshing;
mod row_filters;
mod statements;
mod stopping;
mod support;
