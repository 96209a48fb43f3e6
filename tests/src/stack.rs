//! The real parts, each started with `start()`, ready for use when that returns, and gone when dropped.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use c360_tests::stack::{Schemas, Stack, debezium_mariadb_config};
//!
//! let stack = Stack::start().await?;
//! let config = debezium_mariadb_config(&stack.mariadb, &stack.broker, Schemas::Off);
//! stack.connect.register("home-delivery", &config).await?;
//! stack.mariadb.execute("insert into customers (name, email) values ('Ann', 'ann@example.org')").await?;
//! let mut reader = stack.broker.reader(&["dbserver1.inventory.customers"]).await?;
//! let event = reader.next().await?;
//! # Ok(()) }
//! ```
//!
//! Errors carry the end of the part's own log.

mod broker;
mod certificates;
mod connect;
mod daemon;
mod debezium;
mod directory;
mod jvm;
mod mariadb;
mod ports;
mod postgres;
mod produce;
mod read;
mod secure;
mod shipped;
mod topics;

pub use broker::Broker;
pub use certificates::{Authority, Identity};
pub use connect::Connect;
pub(crate) use daemon::tail;
pub use debezium::{CUSTOMERS_TOPIC, Schemas, debezium_mariadb_config, debezium_mariadb_config_as};
pub use mariadb::MariaDb;
pub use postgres::Postgres;
pub use produce::{Outgoing, Producer};
pub use read::{Message, Reader};
pub use secure::Secure;
pub use shipped::{Shape, put_over, shipped_mariadb, shipped_mysql, shipped_postgres};

/// All three parts. The order of the fields is the order they are dropped in.
pub struct Stack {
    /// Connect, without any connector.
    pub connect: Connect,
    /// MariaDB, with an empty table `inventory.customers`.
    pub mariadb: MariaDb,
    /// The broker.
    pub broker: Broker,
}

impl Stack {
    /// Starts all three, MariaDB while the broker and then Connect come up.
    pub async fn start() -> anyhow::Result<Self> {
        let kafka = async {
            let broker = Broker::start().await?;
            let connect = Connect::start(&broker).await?;
            anyhow::Ok((broker, connect))
        };
        let ((broker, connect), mariadb) = tokio::try_join!(kafka, MariaDb::start())?;
        Ok(Self { connect, mariadb, broker })
    }
}
