//! Customer-360 ingestion: Kafka, CSV and REST into golden customer records in Postgres.

pub mod cli;
pub mod commands;
pub mod config;
pub mod exit;
pub mod sample_store;
pub mod telemetry;
