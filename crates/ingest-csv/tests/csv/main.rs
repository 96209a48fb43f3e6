//! CSV files on real parts: temporary directories and a real Postgres.

mod importing;
mod support;
