//! Connector configurations.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use super::{broker::Broker, mariadb::MariaDb};

/// Where [`debezium_mariadb_config`] puts the events of `inventory.customers`.
pub const CUSTOMERS_TOPIC: &str = "dbserver1.inventory.customers";

/// Whether every message carries its own schema, as Connect's JSON converter has it by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schemas {
    /// `{"schema": {...}, "payload": {...}}`
    On,
    /// The payload alone.
    Off,
}

/// A connector for the database `inventory`, with a snapshot first, and otherwise Debezium's own defaults.
///
/// An object of strings; change or add what a test needs before it registers it.
pub fn debezium_mariadb_config(mariadb: &MariaDb, broker: &Broker, schemas: Schemas) -> Value {
    debezium_mariadb_config_as("dbserver1", mariadb, broker, schemas)
}

/// [`debezium_mariadb_config`] with another `topic.prefix`, so that several connectors can read the same server.
pub fn debezium_mariadb_config_as(prefix: &str, mariadb: &MariaDb, broker: &Broker, schemas: Schemas) -> Value {
    let converter = "org.apache.kafka.connect.json.JsonConverter";
    let schemas = if schemas == Schemas::On { "true" } else { "false" };
    let (user, password) = MariaDb::DEBEZIUM_ACCOUNT;
    json!({
        "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
        "tasks.max": "1",
        "topic.prefix": prefix,
        "database.hostname": Ipv4Addr::LOCALHOST.to_string(),
        "database.port": mariadb.port().to_string(),
        "database.user": user,
        "database.password": password,
        "database.server.id": replica_id(),
        "database.include.list": "inventory",
        "schema.history.internal.kafka.bootstrap.servers": broker.bootstrap(),
        "schema.history.internal.kafka.topic": format!("schema-history.{prefix}"),
        "key.converter": converter,
        "key.converter.schemas.enable": schemas,
        "value.converter": converter,
        "value.converter.schemas.enable": schemas,
        // The default of half a second is most of the time a test would wait for an event.
        "poll.interval.ms": "20",
    })
}

/// MariaDB cuts off a reader whose id another reader uses.
pub(super) fn replica_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(5400);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}
