//! c360 beside the world: a database of its own, a source for each connector, and what became of them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use c360_tests::source;
use consolidate::Rules;
use embedded_postgres::test::look_until;
use ingest_kafka::CaughtUp;
use model::mapping::CustomerMapping;
use model::{Guards, Survivorship};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::world::{CONNECTORS, Connector, World};

/// The sources read one table of all connectors.
pub(crate) struct Ledger {
    pub(crate) pool: PgPool,
    options: PgConnectOptions,
    brokers: String,
    table: &'static str,
    mapping: CustomerMapping,
}

/// What is known of a customer of one system: email and attributes, those without a value left out.
pub(crate) type Known = (Option<String>, BTreeMap<String, Value>);

/// External ids and what is known of them.
pub(crate) type Customers = BTreeMap<String, Known>;

impl Ledger {
    pub(crate) async fn new(world: &World, table: &'static str, mapping: CustomerMapping) -> Self {
        let database = embedded_postgres::test::database().await;
        let options: PgConnectOptions = database.url.parse().unwrap();
        let mut connection = staging::connect(&options).await.unwrap();
        staging::migrate(&mut connection).await.unwrap();
        consolidate::migrate(&mut connection).await.unwrap();
        Self { pool: database.pool().await, options, brokers: world.stack.broker.bootstrap(), table, mapping }
    }

    /// Lands what a connector has published by now.
    pub(crate) async fn land(&self, connector: Connector) -> CaughtUp {
        self.land_of(connector.name).await
    }

    /// The same, by the name of the connector.
    pub(crate) async fn land_of(&self, name: &str) -> CaughtUp {
        let topic = format!("{name}.inventory.{}", self.table);
        let settings = source::kafka(name, &self.brokers, &[&topic], self.mapping.clone());
        let (lander, cancel) = (source::lander(&self.options), CancellationToken::new());
        ingest_kafka::catch_up(settings, self.options.clone(), lander, cancel).await.unwrap()
    }

    /// Lands what all connectors have published, and merges it.
    pub(crate) async fn catch_up(&self) {
        futures::future::join_all(CONNECTORS.map(|connector| self.land(connector))).await;
        self.consolidate().await;
    }

    pub(crate) async fn consolidate(&self) {
        let rules = Rules {
            survivorship: Survivorship { prefer: Vec::new(), groups: Vec::new(), attributes: HashMap::default() },
            guards: Guards::new::<&str>(&[], 10).unwrap(),
            polled_sources: Vec::new(),
        };
        consolidate::catch_up(&rules, &source::seal(), &self.options, &CancellationToken::new()).await.unwrap();
    }

    /// Catches up until every connector has told of this row, which is the last one that was written.
    pub(crate) async fn catch_up_to(&self, external_id: &str) {
        let missing = async || -> Vec<&str> {
            self.catch_up().await;
            let told = self.systems(external_id).await;
            CONNECTORS
                .iter()
                .map(|connector| connector.name)
                .filter(|name| !told.iter().any(|told| told == name))
                .collect()
        };
        look_until("all connectors have published it", missing, Vec::is_empty).await;
        // What lies in another partition than the last row was written before it and may have arrived just after.
        self.catch_up().await;
    }

    /// Who knows of a customer.
    pub(crate) async fn systems(&self, external_id: &str) -> Vec<String> {
        sqlx::query_scalar("select system from customer360.xrefs where external_id = $1 and deleted_at is null")
            .bind(external_id)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Catches up until a count is what it should be.
    pub(crate) async fn until(&self, sql: &'static str, expected: usize) {
        let count = async || {
            self.catch_up().await;
            self.count(sql).await
        };
        look_until(sql, count, |count| usize::try_from(*count) == Ok(expected)).await;
    }

    /// Catches up until nothing comes any more.
    pub(crate) async fn until_quiet(&self) {
        const RECORDS: &str = "select count(*) from staging.records";
        let mut before = self.count(RECORDS).await;
        loop {
            // Longer than any connector sleeps.
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.catch_up().await;
            let records = self.count(RECORDS).await;
            if records == before {
                return;
            }
            before = records;
        }
    }

    /// What c360 knows of the living customers of a source.
    pub(crate) async fn customers(&self, source: &str) -> Customers {
        let rows: Vec<(String, Option<String>, Value)> = sqlx::query_as(
            "select external_id, email, attributes from customer360.xrefs where system = $1 and deleted_at is null",
        )
        .bind(source)
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let known = |attributes: Value| {
            let Value::Object(attributes) = attributes else { panic!("attributes are an object") };
            attributes.into_iter().filter(|(_, value)| !value.is_null()).collect()
        };
        rows.into_iter().map(|(id, email, attributes)| (id, (email, known(attributes)))).collect()
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

/// The rows that a query printed: id, email, then a column for each of these attributes.
pub(crate) fn printed(rows: &str, attributes: &[&str]) -> Customers {
    let there = |cell: &str| (cell != "NULL" && !cell.is_empty()).then(|| cell.to_owned());
    rows.lines()
        .map(|row| {
            let mut cells = row.split('\t');
            let (id, email) = (cells.next().unwrap().to_owned(), there(cells.next().unwrap()));
            let values =
                attributes.iter().zip(cells).filter_map(|(name, cell)| Some(((*name).to_owned(), there(cell)?.into())));
            (id, (email, values.collect()))
        })
        .collect()
}
