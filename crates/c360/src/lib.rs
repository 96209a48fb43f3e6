//! Customer-360 ingestion: Kafka, CSV and REST into golden customer records in Postgres.

pub mod sample_store;
