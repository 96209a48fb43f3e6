//! Sources, as tests and benchmarks configure them.

use std::collections::BTreeMap;
use std::time::Duration;

use ingest_kafka::{DEFAULT_FLATTENED_PREFIX, DEFAULT_PLACEHOLDER, Format, Settings};
use model::mapping::{Context, CustomerMapping, Mapping};
use model::{Credentials, InstallationKey, Limits};
use serde_json::json;
use staging::{DEFAULT_PARTITION_WIDTH, Lander, Seal};

/// A mapping of columns to attributes of the same names. The email is in `email`, the credential in `password`.
pub fn customer(external_id: &str, attributes: &[&str]) -> CustomerMapping {
    let columns: BTreeMap<&str, &str> = attributes.iter().map(|name| (*name, *name)).collect();
    let mapping = json!({
        "external_id": external_id, "email": "email", "credential": "password", "attributes": columns,
    });
    serde_json::from_value(mapping).unwrap_or_else(|error| unreachable!("a mapping: {error}"))
}

/// A source of Debezium's messages about customers; its group is called as it is.
pub fn kafka(name: &str, brokers: &str, topics: &[&str], customer: CustomerMapping) -> Settings {
    Settings {
        name: name.to_owned(),
        brokers: brokers.to_owned(),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        group_id: name.to_owned(),
        format: Format::Debezium,
        mappings: vec![Mapping::Customer(customer)],
        context: context(),
        limits: Limits::default(),
        ttl: Duration::from_hours(168),
        placeholder: DEFAULT_PLACEHOLDER.to_owned(),
        flattened_prefix: DEFAULT_FLATTENED_PREFIX.to_owned(),
        properties: BTreeMap::new(),
    }
}

/// What mapping needs beside the row.
pub fn context() -> Context {
    let timezone = "UTC".parse().unwrap_or_else(|error| unreachable!("UTC is a zone: {error}"));
    Context { credentials: Credentials::digest(&key()), timezone }
}

/// Seals with the key of these sources.
pub fn seal() -> Seal {
    Seal::new(&key())
}

/// Lands into a database.
pub fn lander(database: &sqlx::postgres::PgConnectOptions) -> Lander {
    Lander::new(database.clone(), seal(), DEFAULT_PARTITION_WIDTH)
}

/// The key of all these sources.
pub fn key() -> InstallationKey {
    InstallationKey::new([7; 32])
}
