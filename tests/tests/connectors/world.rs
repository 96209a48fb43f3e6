//! One stack for all tests of this file, one test at a time.

use std::sync::LazyLock;

use c360_tests::stack::{
    Postgres, Schemas, Shape, Stack, debezium_mariadb_config_as, put_over, shipped_mariadb, shipped_mysql,
    shipped_postgres,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OnceCell};

/// The databases behind the connectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    MariaDb,
    Postgres,
}

/// What reads a database, and in which shape it publishes; also the name of its topics and of the source that reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connector {
    pub(crate) name: &'static str,
    pub(crate) database: Database,
    shape: Option<Shape>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As `deploy/connect` has it.
    Shipped,
    /// The same with MySQL's connector.
    ShippedMySql,
    /// As Debezium has it where nobody says anything.
    Default,
}

const fn connector(name: &'static str, database: Database, shape: Option<Shape>, kind: Kind) -> Connector {
    Connector { name, database, shape, kind }
}

/// All that run.
pub(crate) const CONNECTORS: [Connector; 9] = {
    use Database::{MariaDb, Postgres};
    use Kind::{Default, Shipped, ShippedMySql};
    [
        connector("maria", MariaDb, None, Shipped),
        connector("maria_off", MariaDb, Some(Shape::WithoutSchemas), Shipped),
        connector("maria_flat", MariaDb, Some(Shape::FlattenedMysql), Shipped),
        connector("maria_default", MariaDb, None, Default),
        connector("mysql", MariaDb, None, ShippedMySql),
        connector("pg", Postgres, None, Shipped),
        connector("pg_off", Postgres, Some(Shape::WithoutSchemas), Shipped),
        connector("pg_flat", Postgres, Some(Shape::FlattenedPostgres), Shipped),
        connector("pg_default", Postgres, None, Default),
    ]
};

impl Connector {
    /// Whether it was left as Debezium has it.
    pub(crate) fn is_default(self) -> bool {
        self.kind == Kind::Default
    }

    /// Whether its messages come without their schema.
    pub(crate) fn is_without_schemas(self) -> bool {
        self.shape == Some(Shape::WithoutSchemas)
    }

    /// Whether its messages are rows alone.
    pub(crate) fn is_flattened(self) -> bool {
        matches!(self.shape, Some(Shape::FlattenedMysql | Shape::FlattenedPostgres))
    }
}

/// Tables, and their rows before any connector runs: what a first snapshot reads.
const TABLES: &str = include_str!("tables.sql");
const TABLE_NAMES: [&str; 5] = ["people", "members", "kinds", "emptied", "debezium_signal"];

/// The parts, with all connectors running.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) postgres: Postgres,
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let (stack, postgres) = tokio::try_join!(Stack::start(), Postgres::start())?;
        let world = Self { stack, postgres };
        // Statements that only one of them understands are behind its name.
        for database in [Database::MariaDb, Database::Postgres] {
            world.execute(database, &statements(TABLES, database)).await?;
        }
        for connector in CONNECTORS {
            let config = world.config(connector)?;
            world.stack.connect.register(connector.name, &config).await?;
        }
        Ok(world)
    }

    /// Runs statements in one database.
    pub(crate) async fn execute(&self, database: Database, sql: &str) -> anyhow::Result<String> {
        match database {
            Database::MariaDb => self.stack.mariadb.execute(sql).await,
            Database::Postgres => self.postgres.execute(sql).await,
        }
    }

    /// Runs the same statements in both.
    pub(crate) async fn execute_in_both(&self, sql: &str) {
        for database in [Database::MariaDb, Database::Postgres] {
            self.execute(database, &statements(sql, database)).await.unwrap();
        }
    }

    fn config(&self, connector: Connector) -> anyhow::Result<Value> {
        let (name, stack) = (connector.name, &self.stack);
        let (mariadb, broker) = (&stack.mariadb, &stack.broker);
        let mut config = match (connector.database, connector.kind) {
            (Database::MariaDb, Kind::Shipped) => shipped_mariadb(name, mariadb, broker, &TABLE_NAMES)?,
            (Database::MariaDb, Kind::ShippedMySql) => shipped_mysql(name, mariadb, broker, &TABLE_NAMES)?,
            (Database::MariaDb, Kind::Default) => debezium_mariadb_config_as(name, mariadb, broker, Schemas::On),
            (Database::Postgres, Kind::Default) => {
                default_postgres(&shipped_postgres(name, &self.postgres, &TABLE_NAMES)?)
            }
            (Database::Postgres, _) => shipped_postgres(name, &self.postgres, &TABLE_NAMES)?,
        };
        if let Some(shape) = connector.shape {
            shape.over(&mut config)?;
        }
        let signals = json!({
            "signal.data.collection": "inventory.debezium_signal",
            // Many small pieces, so that changes come in between.
            "incremental.snapshot.chunk.size": "20",
        });
        put_over(&mut config, &signals)?;
        Ok(config)
    }
}

/// What says where things are; all else as Debezium has it.
fn default_postgres(shipped: &Value) -> Value {
    let needed =
        ["connector.class", "topic.prefix", "plugin.name", "slot.name", "table.include.list", "poll.interval.ms"];
    let is_needed =
        |key: &str| needed.contains(&key) || key.starts_with("database.") || key.starts_with("publication.");
    let keys = shipped.as_object().into_iter().flatten().filter(|(key, _)| is_needed(key));
    keys.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The lines for one database: those that begin with `MARIADB:` or `POSTGRES:` are for that one only.
fn statements(sql: &str, database: Database) -> String {
    let (ours, theirs) = match database {
        Database::MariaDb => ("MARIADB:", "POSTGRES:"),
        Database::Postgres => ("POSTGRES:", "MARIADB:"),
    };
    let lines = sql.lines().map(str::trim_start).filter(|line| !line.starts_with(theirs));
    lines.map(|line| line.strip_prefix(ours).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Of the whole file: what belongs to it (clients, connections) would not outlive the runtime of a test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static WORLD: OnceCell<Mutex<World>> = OnceCell::const_new();

/// Runs a test in the world, which the first one starts.
pub(crate) fn in_the_world(test: impl AsyncFnOnce(&mut World)) {
    RUNTIME.block_on(async {
        let world = WORLD.get_or_try_init(async || World::start().await.map(Mutex::new)).await;
        test(&mut *world.unwrap().lock().await).await;
    });
}
