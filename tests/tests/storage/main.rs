//! What whoever runs the database relies on: roles, migrations beside older processes, backups, and Citus as far as one node
//! can tell.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test without its world can only fail")]

mod backup;
mod citus;
mod migrating;
mod people;
mod roles;
