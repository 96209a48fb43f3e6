//! A private Postgres cluster for the demo, tests and small installations.
//!
//! It runs the `initdb` and `postgres` that the machine already has (Postgres 15 or newer); it downloads nothing.
//!
//! What it guarantees:
//!
//! * **Private.** The server listens on a Unix socket in a directory of mode 0700, and on 127.0.0.1 only when asked.
//!   Whoever comes over TCP, or to a cluster that keeps data, needs a generated password.
//! * **It ends with the program that started it**, however that ends (`kill -9` too), by a fast shutdown. A temporary
//!   cluster takes its directory with it. See `keeper.rs` for how.
//! * **Never root.** A program that runs as root runs Postgres as `postgres`, or as `nobody` where there is no such user.
//! * **No personal data in the server's log**: statements, parameters and key values are not logged.
//!
//! Start with [`Cluster::start`]; tests start with [`test::database`].

mod binaries;
mod cluster;
mod error;
mod guest;
mod identity;
mod initdb;
mod keeper;
mod options;
mod pidfile;
mod rundir;
pub mod test;
mod url;

pub use cluster::Cluster;
pub use error::Error;
pub use guest::Guest;
pub use options::Options;
