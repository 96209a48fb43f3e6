//! Schema `staging` on a real Postgres: one file a topic, one binary, a database per test.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod cancelling;
mod claiming;
mod discarding;
mod expiry;
mod fencing;
mod holding;
mod importing;
mod installing;
mod landing;
mod outages;
mod overview;
mod partitions;
mod polling;
mod rates;
mod replaying;
mod reporting;
mod retrying;
mod sealing;
mod secrecy;
mod support;
