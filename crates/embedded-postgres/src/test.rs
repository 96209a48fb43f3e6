//! For tests: an empty database of one's own, on one throw-away cluster per test process.
//!
//! ```no_run
//! # async fn example() -> Result<(), sqlx::Error> {
//! let database = embedded_postgres::test::database().await;
//! let pool = database.pool().await;
//! sqlx::query("create table t (id int)").execute(&pool).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The cluster starts with the first call and ends with the process; databases end with the cluster. `C360_TEST_DATABASE_URL`
//! makes the tests use a server that runs already, as a role that may create databases: for another version of Postgres,
//! or to look at what a test leaves behind.
//!
//! [`Proxy`] stands between a program and its Postgres, and loses what a test says. [`eventually`], [`until`] and
//! [`look_until`] are how tests wait for what nobody notifies of.

#![expect(clippy::expect_used, clippy::panic, reason = "a test without a database can only fail")]

mod proxy;
mod waiting;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool};

use crate::cluster::Cluster;
use crate::options::Options;

pub use proxy::{Loss, Proxy};
pub use waiting::{eventually, look_until, until, until_waiting};

/// An empty database that no other test uses.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    /// Where it is, for sqlx and for `C360__DATABASE__URL`.
    pub url: String,
    /// Its name.
    pub name: String,
}

impl TestDatabase {
    /// A small pool. Make one per test: a pool belongs to the runtime of the test that made it.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(8).connect(&self.url).await.expect("the test database answers")
    }
}

/// A new, empty database.
///
/// # Panics
/// When there is no Postgres on this machine; the message says what to install.
pub async fn database() -> TestDatabase {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // The process id keeps apart the test processes that share a server by C360_TEST_DATABASE_URL.
    let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let server: PgConnectOptions = server_url().parse().expect("a Postgres URL");
    // Tests that begin together wait for each other here: no slow statement to warn of.
    let quiet = server.clone().disable_statement_logging();
    let mut connection = quiet.connect().await.expect("the test server answers");
    let create = format!("create database {name}");
    sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await.expect("may create databases");
    connection.close().await.expect("the test server answers");
    let url = match std::env::var("C360_TEST_DATABASE_URL") {
        Ok(_) => server.database(&name).to_url_lossy().to_string(),
        Err(_) => cluster().url_for(&name),
    };
    TestDatabase { url, name }
}

/// The throw-away cluster of this test process, for tests that need more than a database.
///
/// # Panics
/// When it does not start; the message says what to do.
pub fn cluster() -> &'static Cluster {
    // Never dropped, because statics are not: its keeper notices the end of the process.
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(&Options::temporary()).unwrap_or_else(|error| panic!("{error}")))
}

fn server_url() -> String {
    std::env::var("C360_TEST_DATABASE_URL").unwrap_or_else(|_| cluster().url())
}
