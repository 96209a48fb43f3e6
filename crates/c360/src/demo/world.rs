//! What the pipeline talks to: a throw-away Postgres, a mock Kafka, a drop directory and a sample online store.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::{Days, NaiveDate, NaiveTime};
use embedded_postgres::{Cluster, Options};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::fixtures::{self, NightlyFile};
use super::mock_kafka::MockKafka;
use super::narrator::{doing, tell};
use crate::config::{Config, Environment};
use crate::installation::Installation;
use crate::sample_store::{Store, serve};

const DATABASE: &str = "c360";
/// Where the API is to listen is the only thing that the demo takes from the environment: it must never get hold of a
/// database that somebody uses.
const HTTP_LISTEN: &str = "C360__HTTP__LISTEN";
/// A store in this process need not be spared, and nobody wants to wait for it.
const REQUESTS_PER_SECOND: (&str, &str) = ("C360__SOURCES__ONLINE_STORE__REQUESTS_PER_SECOND", "1000");

/// The embedded parts. All of it is gone when this is dropped, in this order.
pub(super) struct World {
    store: SocketAddr,
    _store_runs: DropGuard,
    kafka: MockKafka,
    cluster: Cluster,
    directory: TempDir,
}

impl World {
    /// Starts everything and opens an installation on it, with the shipped configuration.
    pub(super) async fn open() -> anyhow::Result<(Self, Installation)> {
        let world = Self::start().await?;
        let config = Config::parse(fixtures::CONFIGURATION, None, &world.environment())?;
        let installation = Installation::open(config).await?;
        installation.prepare_soon(&CancellationToken::new()).await?;
        Ok((world, installation))
    }

    async fn start() -> anyhow::Result<Self> {
        let starting = doing("starting a Postgres of our own");
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(&Options::temporary())).await??;
        cluster.create_database(DATABASE).await?;
        drop(starting);
        tell("  Postgres      a throw-away cluster");

        let directory = tempfile::Builder::new().prefix("c360-demo-").tempdir().context("cannot make a directory")?;
        let kafka = MockKafka::fed_with(&fixtures::messages()?).await?;
        tell(&format!(
            "  mock Kafka    librdkafka's in-process mock, for demos only: {} change events of home_delivery, two of them damaged",
            kafka.messages()
        ));
        drop_files(&loyalty_directory(directory.path()))?;
        tell(&format!("  directory     {} nightly files of loyalty", fixtures::LOYALTY.len()));
        let (store, store_runs) = open_store().await?;
        tell(&format!("  sample store  the REST API of online_store, on http://{store}\n"));
        Ok(Self { store, _store_runs: store_runs, kafka, cluster, directory })
    }

    /// What is different from the shipped configuration.
    fn environment(&self) -> Environment {
        let home = self.directory.path();
        let said = [
            ("C360__DATA_DIR", home.join("data").display().to_string()),
            ("C360__DATABASE__URL", self.cluster.url_for(DATABASE)),
            ("C360__SOURCES__HOME_DELIVERY__BROKERS", self.kafka.brokers()),
            ("C360__SOURCES__LOYALTY__DIRECTORY", loyalty_directory(home).display().to_string()),
            ("C360__SOURCES__ONLINE_STORE__BASE_URL", format!("http://{}", self.store)),
        ];
        // As TOML strings, so that nothing is taken for a number.
        let said = said.map(|(name, value)| (name.to_owned(), toml::Value::String(value).to_string()));
        let listen = std::env::var(HTTP_LISTEN).ok().map(|listen| (HTTP_LISTEN, listen));
        let more = [Some((REQUESTS_PER_SECOND.0, REQUESTS_PER_SECOND.1.to_owned())), listen];
        said.into_iter().chain(more.into_iter().flatten().map(|(name, value)| (name.to_owned(), value))).collect()
    }

    /// Says what can be tried while the daemon runs. `key` opens the API and the dashboard.
    pub(super) fn invite(&self, installation: &Installation, key: &SecretString) {
        tell(&format!(
            "\nThe daemon runs until Ctrl-C; then all of this is gone.\n\
             \x20 dashboard and API  http://{}, sign in with {}\n\
             \x20 database           psql '{}'\n\
             \x20 command line       C360__DATA_DIR={} DATABASE_URL='{}' {} status\n\
             \x20 loyalty            drop another loyalty_members_YYYY-MM-DD.csv into {}\n\
             \x20 home_delivery      the mock Kafka listens on {}\n\
             \x20 online_store       the sample store is http://{}",
            installation.config.http.listen,
            key.expose_secret(),
            // Only a cluster that keeps its data has a password.
            self.cluster.url_for(DATABASE),
            installation.config.data_dir.display(),
            self.cluster.url_for(DATABASE),
            std::env::current_exe().unwrap_or_else(|_| "c360".into()).display(),
            loyalty_directory(self.directory.path()).display(),
            self.kafka.brokers(),
            self.store,
        ));
    }
}

fn loyalty_directory(home: &Path) -> PathBuf {
    home.join("drop/loyalty")
}

/// Drops the nightly files, with the times they would have been written at.
fn drop_files(directory: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write to {}", directory.display());
    fs::create_dir_all(directory).with_context(cannot)?;
    for file in &fixtures::LOYALTY {
        let path = directory.join(file.name);
        fs::write(&path, file.content).with_context(cannot)?;
        let written = File::options().write(true).open(&path).with_context(cannot)?;
        if let Some(at) = written_at(file) {
            written.set_modified(at.and_utc().into()).with_context(cannot)?;
        }
    }
    Ok(())
}

/// Two in the morning after the day that the name has.
fn written_at(file: &NightlyFile) -> Option<chrono::NaiveDateTime> {
    let stem = file.name.strip_suffix(".csv")?;
    let day: NaiveDate = stem.get(stem.len().checked_sub(10)?..)?.parse().ok()?;
    Some(day.checked_add_days(Days::new(1))?.and_time(NaiveTime::from_hms_opt(2, 0, 0)?))
}

async fn open_store() -> anyhow::Result<(SocketAddr, DropGuard)> {
    let store = Store::parse(fixtures::STORE)?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on 127.0.0.1")?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, store, stop.clone().cancelled_owned()));
    Ok((address, stop.drop_guard()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_night_is_written_in_the_morning_after() {
        let times: Vec<_> = fixtures::LOYALTY.iter().filter_map(written_at).map(|at| at.to_string()).collect();
        assert_eq!(times, ["2026-11-19 02:00:00", "2026-11-20 02:00:00"]);
    }
}
