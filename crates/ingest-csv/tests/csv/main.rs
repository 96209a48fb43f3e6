//! CSV files on real parts: temporary directories and a real Postgres.

#![expect(clippy::unwrap_used, reason = "a test without its parts can only fail")]

mod directory;
mod importing;
mod interrupting;
mod nights;
mod refusing;
mod support;
mod watching;
