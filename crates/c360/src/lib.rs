//! The program `c360`: commands, configuration, supervision, telemetry, the demo. No domain logic: that is in the crates
//! below.
//!
//! Start with [`commands::run`]; the daemon is [`daemon::run`], catching up once is [`catch_up::everything`].

pub mod catch_up;
pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod database;
pub mod demo;
pub mod exit;
pub mod gauges;
pub mod installation;
mod mask;
pub mod members;
pub mod retry;
pub mod sample_store;
pub mod sources;
pub mod stop;
pub mod telemetry;
pub mod upkeep;
