//! A Postgres whose log can be read by logical replication, as Debezium asks for it.

use anyhow::{Context, Result};
use embedded_postgres::{Cluster, Options};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, ValueRef};

const DATABASE: &str = "inventory";
const SCHEMA: &str = include_str!("inventory_postgres.sql");

/// A running server with its data, and in its database `inventory` the schema `inventory` with an empty table `customers`,
/// published as `c360`.
pub struct Postgres {
    cluster: Cluster,
    port: u16,
}

impl Postgres {
    /// The account Debezium reads with: name and password.
    pub const DEBEZIUM_ACCOUNT: (&'static str, &'static str) = ("debezium", "dbz");

    /// Starts a server on an empty data directory. When this returns, it answers and has the table.
    pub async fn start() -> Result<Self> {
        let options = Options::temporary()
            .tcp(true)
            .setting("wal_level", "logical")
            .setting("max_wal_senders", "20")
            .setting("max_replication_slots", "20");
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(&options)).await??;
        cluster.create_database(DATABASE).await?;
        let tcp = cluster.tcp_url_for(DATABASE).context("it listens on TCP")?;
        let port = tcp.parse::<PgConnectOptions>()?.get_port();
        let postgres = Self { cluster, port };
        postgres.execute(SCHEMA).await?;
        Ok(postgres)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection of the owner, in schema `inventory`: for transactions that stay open.
    pub async fn connect(&self) -> Result<PgConnection> {
        let options: PgConnectOptions = self.cluster.url_for(DATABASE).parse()?;
        Ok(PgConnection::connect_with(&options.options([("search_path", "inventory")])).await?)
    }

    /// Runs statements, separated by semicolons. Returns what they print: a line for each row, columns separated by tabs, a
    /// null by the word `NULL`.
    ///
    /// All of them are one transaction unless the text says otherwise; the first that fails is the last.
    pub async fn execute(&self, sql: &str) -> Result<String> {
        let mut connection = self.connect().await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await.context("Postgres refused")?;
        let printed = rows.iter().map(line).collect::<Result<_>>()?;
        connection.close().await?;
        Ok(printed)
    }
}

/// Statements without parameters are answered in text.
fn line(row: &PgRow) -> Result<String> {
    let mut cells = Vec::with_capacity(row.len());
    for index in 0..row.len() {
        let value = row.try_get_raw(index)?;
        let cell = if value.is_null() { "NULL" } else { value.as_str().map_err(|error| anyhow::anyhow!(error))? };
        cells.push(cell.to_owned());
    }
    Ok(cells.join("\t") + "\n")
}
