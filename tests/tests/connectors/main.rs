//! What real connectors publish, and what c360 makes of it: Debezium's connectors for MariaDB, MySQL and Postgres, configured
//! as `deploy/connect` ships them, in every shape of message, beside connectors that are left as Debezium has them.
//!
//! Every test changes the tables of both databases and compares what c360 knows with what the tables hold, for each
//! connector by itself.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod delivery;
mod kinds;
mod ledger;
mod rows;
mod world;
