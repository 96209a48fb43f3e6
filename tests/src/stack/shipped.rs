//! The connector configurations of `deploy/connect`, as they are shipped.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{broker::Broker, debezium::replica_id, mariadb::MariaDb, postgres::Postgres};

const MYSQL: &str = include_str!("../../../deploy/connect/inventory-connector.json");
const MARIADB: &str = include_str!("../../../deploy/connect/mariadb-connector.json");
const POSTGRES: &str = include_str!("../../../deploy/connect/postgres-connector.json");

/// What `deploy/connect` has to put over a connector's configuration, for other shapes of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `without-schemas.json`
    WithoutSchemas,
    /// `flattened-mysql.json`, also for MariaDB.
    FlattenedMysql,
    /// `flattened-postgres.json`
    FlattenedPostgres,
}

impl Shape {
    /// Puts it over a configuration.
    pub fn over(self, config: &mut Value) -> Result<()> {
        let text = match self {
            Self::WithoutSchemas => include_str!("../../../deploy/connect/without-schemas.json"),
            Self::FlattenedMysql => include_str!("../../../deploy/connect/flattened-mysql.json"),
            Self::FlattenedPostgres => include_str!("../../../deploy/connect/flattened-postgres.json"),
        };
        put_over(config, &serde_json::from_str(text)?)
    }
}

/// Sets keys of a configuration.
pub fn put_over(config: &mut Value, keys: &Value) -> Result<()> {
    let keys = keys.as_object().context("an object")?.clone();
    config.as_object_mut().context("an object")?.extend(keys);
    Ok(())
}

/// `deploy/connect/mariadb-connector.json`, told where the parts are. It reads these tables of the database `inventory`, and
/// its topics are called `PREFIX.inventory.TABLE`.
pub fn shipped_mariadb(prefix: &str, mariadb: &MariaDb, broker: &Broker, tables: &[&str]) -> Result<Value> {
    binlog_reader(MARIADB, prefix, mariadb, broker, tables)
}

/// `deploy/connect/inventory-connector.json`: the MySQL connector, which reads MariaDB's log, too.
pub fn shipped_mysql(prefix: &str, mariadb: &MariaDb, broker: &Broker, tables: &[&str]) -> Result<Value> {
    binlog_reader(MYSQL, prefix, mariadb, broker, tables)
}

/// `deploy/connect/postgres-connector.json`, told where the parts are. `prefix` also names its slot.
pub fn shipped_postgres(prefix: &str, postgres: &Postgres, tables: &[&str]) -> Result<Value> {
    let (user, password) = Postgres::DEBEZIUM_ACCOUNT;
    let mut config = told(POSTGRES, prefix, tables, postgres.port(), user, password)?;
    put_over(&mut config, &json!({"slot.name": prefix}))?;
    Ok(config)
}

fn binlog_reader(shipped: &str, prefix: &str, mariadb: &MariaDb, broker: &Broker, tables: &[&str]) -> Result<Value> {
    let (user, password) = MariaDb::DEBEZIUM_ACCOUNT;
    let mut config = told(shipped, prefix, tables, mariadb.port(), user, password)?;
    put_over(
        &mut config,
        &json!({
            "database.server.id": replica_id(),
            "schema.history.internal.kafka.bootstrap.servers": broker.bootstrap(),
            "schema.history.internal.kafka.topic": format!("schema-history.{prefix}"),
        }),
    )?;
    Ok(config)
}

/// What depends on the place, and nothing else.
fn told(shipped: &str, prefix: &str, tables: &[&str], port: u16, user: &str, password: &str) -> Result<Value> {
    let mut config = serde_json::from_str(shipped)?;
    let tables: Vec<String> = tables.iter().map(|table| format!("inventory.{table}")).collect();
    put_over(
        &mut config,
        &json!({
            "topic.prefix": prefix,
            "database.hostname": Ipv4Addr::LOCALHOST.to_string(),
            "database.port": port.to_string(),
            "database.user": user,
            "database.password": password,
            "table.include.list": tables.join(","),
            // The default of half a second is most of the time a test would wait for an event.
            "poll.interval.ms": "20",
        }),
    )?;
    Ok(config)
}
