//! Whole-pipeline tests on real parts: Kafka, Kafka Connect with Debezium, MariaDB, Postgres.
//!
//! [`stack`] starts and stops the parts; nothing in it is a stand-in. [`people`] is the cast: the same three hundred
//! customers in every fixture, so that what three systems say about one of them can be compared. [`program`] is c360 itself, as
//! a process. [`source`] configures the sources of tests that use the crates themselves, [`event`] is what tests send, and
//! [`mod@bench`] is what the benchmarks share.
//!
//! What this guarantees: everything listens on 127.0.0.1, on free ports, and keeps its data in a temporary directory of
//! its own. It is killed when its handle is dropped, and also when the test process dies without dropping anything.
//! What it never does: use a service that already runs on the machine, or end a process it did not start.
//!
//! `scripts/setup.sh test` installs what this needs. `cargo run -p c360-tests --bin record` records `fixtures/home_delivery`
//! anew from a real stack.

pub mod bench;
pub mod event;
pub mod people;
pub mod program;
pub mod source;
pub mod stack;
