//! An installation in a directory of its own, and what a command has printed.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use assert_cmd::assert::Assert;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgConnection};

/// The configuration that c360 comes with.
pub(crate) const SHIPPED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../c360.toml"));

/// A directory with a configuration, a database, and what the environment says.
pub(crate) struct Home {
    directory: tempfile::TempDir,
    url: String,
    variables: Vec<(&'static str, String)>,
}

impl Home {
    /// With an empty database.
    pub(crate) async fn new(config: &str) -> Self {
        Self::at(&embedded_postgres::test::database().await.url, config)
    }

    /// With a database that is somewhere, or nowhere.
    pub(crate) fn at(url: &str, config: &str) -> Self {
        let home = Self { directory: tempfile::tempdir().unwrap(), url: url.to_owned(), variables: Vec::new() };
        home.write("c360.toml", config);
        home
    }

    /// The same with a variable in the environment of its commands.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// The same with a broker that nobody listens at, for the shipped configuration.
    pub(crate) fn without_brokers(self) -> Self {
        self.with("C360__SOURCES__HOME_DELIVERY__BROKERS", "127.0.0.1:1")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, and makes the directory for it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = c360();
        command.current_dir(&self.directory).args(arguments).stdin(Stdio::null());
        command.env("DATABASE_URL", &self.url).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub(crate) fn c360(&self, arguments: &[&str]) -> Assert {
        assert_cmd::Command::from_std(self.command(arguments)).timeout(Duration::from_mins(2)).assert()
    }

    /// Starts a command that goes on.
    pub(crate) fn start(&self, arguments: &[&str], log: &str) -> Running {
        let log = File::create(self.path(log)).unwrap();
        Running(self.command(arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.url.parse().unwrap()
    }

    pub(crate) async fn connection(&self) -> PgConnection {
        staging::connect(&self.options()).await.unwrap()
    }

    /// Makes the two schemas.
    pub(crate) async fn migrate(&self) {
        let mut connection = self.connection().await;
        staging::migrate(&mut connection).await.unwrap();
        consolidate::migrate(&mut connection).await.unwrap();
    }

    /// The only value of a statement.
    pub(crate) async fn ask<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.connection().await).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection().await).await.unwrap();
    }
}

/// A process that is killed (`kill -9`) when it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, without this machine's own settings but where Postgres is.
pub(crate) fn c360() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_c360"));
    let settings = |name: &str| name.starts_with("C360") && name != "C360_PG_BIN" || name == "DATABASE_URL";
    for (name, _) in std::env::vars().filter(|(name, _)| settings(name)) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG");
    command
}

pub(crate) fn stdout(ended: &Assert) -> String {
    String::from_utf8(ended.get_output().stdout.clone()).unwrap()
}

pub(crate) fn stderr(ended: &Assert) -> String {
    String::from_utf8_lossy(&ended.get_output().stderr).into_owned()
}

/// The JSON document that a command has printed.
pub(crate) fn document(ended: &Assert) -> Value {
    serde_json::from_str(&stdout(ended)).unwrap()
}
