//! A Kafka Connect worker in distributed mode, with the Debezium connectors.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use super::{broker::Broker, daemon::Daemon, directory, jvm, ports};

const START_TIMEOUT: Duration = Duration::from_mins(2);
const RUNNING_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const HEAP_MIB: u32 = 512;
/// What makes up for a slow start when there is much to do.
const THOROUGH: (u32, &[&str]) = (2048, &["-XX:TieredStopAtLevel=4"]);

/// A running (or stopped) worker. Connectors, their configuration and their offsets live in the broker.
pub struct Connect {
    // Before the directory: fields are dropped in order, and the process writes there.
    process: Option<Daemon>,
    directory: TempDir,
    port: u16,
    http: Client,
    heap_mib: u32,
    flags: &'static [&'static str],
}

impl Connect {
    /// Starts a worker on this broker. When this returns, it takes connectors.
    pub async fn start(broker: &Broker) -> Result<Self> {
        Self::start_with(broker, (HEAP_MIB, &[])).await
    }

    /// The same, with a JVM that is made for long work, as in production.
    pub async fn start_for_long_work(broker: &Broker) -> Result<Self> {
        Self::start_with(broker, THOROUGH).await
    }

    async fn start_with(broker: &Broker, (heap_mib, flags): (u32, &'static [&'static str])) -> Result<Self> {
        // An error says that the process has a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        let directory = directory::new("connect")?;
        let mut connect = Self { process: None, directory, port: ports::free()?, http, heap_mib, flags };
        let settings = connect.settings(broker).await?;
        jvm::write_properties(&connect.properties(), &settings)?;
        connect.restart().await?;
        Ok(connect)
    }

    /// The address of the worker's REST interface, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Makes or changes a connector and waits until it and its tasks run. An error when one of them fails.
    ///
    /// A running connector has not necessarily read anything yet.
    pub async fn register(&self, name: &str, config: &Value) -> Result<()> {
        let url = format!("{}/connectors/{name}/config", self.url());
        let wait = async {
            loop {
                let response = self.http.put(&url).json(config).send().await?;
                match response.status() {
                    StatusCode::OK | StatusCode::CREATED => break,
                    // The worker is rebalancing, as after each change of another connector.
                    StatusCode::CONFLICT => tokio::time::sleep(POLL_INTERVAL).await,
                    status => bail!("connector {name} is refused ({status}): {}", response.text().await?),
                }
            }
            while !self.is_running(name).await? {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(RUNNING_TIMEOUT, wait).await;
        waited.with_context(|| format!("connector {name} does not run; Connect's log:\n{}", self.log_tail()))?
    }

    /// Removes a connector. One of the same name that is made later goes on where this one stopped.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let response = self.http.delete(format!("{}/connectors/{name}", self.url())).send().await?;
        ensure!(response.status().is_success(), "cannot remove connector {name}: {}", response.status());
        Ok(())
    }

    /// Stops the worker as an operator would.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Ends the worker as a power failure would: events whose offsets it had not yet stored will come twice.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts a worker that was stopped or killed (or kills it first). Its connectors start by themselves, a little
    /// later than this returns.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        let main = "org.apache.kafka.connect.cli.ConnectDistributed";
        let mut command = jvm::java_with(jvm::jars().await?, self.directory.path(), self.heap_mib, self.flags, main)?;
        command.arg(self.properties());
        let mut process = Daemon::spawn("connect", command, &self.directory.path().join("connect.log"))?;
        process.ready(START_TIMEOUT, async || self.answers().await).await?;
        self.process = Some(process);
        Ok(())
    }

    fn properties(&self) -> PathBuf {
        self.directory.path().join("worker.properties")
    }

    async fn settings(&self, broker: &Broker) -> Result<Vec<(&'static str, String)>> {
        let converter = "org.apache.kafka.connect.json.JsonConverter";
        let mut settings = vec![
            ("bootstrap.servers", broker.bootstrap()),
            ("listeners", self.url()),
            ("rest.advertised.host.name", Ipv4Addr::LOCALHOST.to_string()),
            ("plugin.path", jvm::jars().await?.join("plugins").display().to_string()),
        ];
        let fixed = [
            // Faster than looking into every jar; the connectors support it.
            ("plugin.discovery", "service_load"),
            ("key.converter", converter),
            ("value.converter", converter),
            ("offset.flush.interval.ms", "1000"),
            ("group.id", "connect"),
            ("config.storage.topic", "_connect_configs"),
            ("config.storage.replication.factor", "1"),
            ("offset.storage.topic", "_connect_offsets"),
            ("offset.storage.replication.factor", "1"),
            ("offset.storage.partitions", "1"),
            ("status.storage.topic", "_connect_status"),
            ("status.storage.replication.factor", "1"),
            ("status.storage.partitions", "1"),
            ("scheduled.rebalance.max.delay.ms", "0"),
        ];
        settings.extend(fixed.map(|(key, value)| (key, value.to_owned())));
        Ok(settings)
    }

    /// Whether the worker takes connectors; its front page answers earlier.
    async fn answers(&self) -> bool {
        let response = self.http.get(format!("{}/connectors", self.url())).send().await;
        response.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    async fn is_running(&self, name: &str) -> Result<bool> {
        let response = self.http.get(format!("{}/connectors/{name}/status", self.url())).send().await?;
        if !response.status().is_success() {
            return Ok(false); // not known to the status topic yet, or rebalancing
        }
        let status: Value = response.json().await?;
        let tasks = status["tasks"].as_array().map_or(&[][..], Vec::as_slice);
        let mut parts = tasks.iter().chain([&status["connector"]]);
        if let Some(failed) = parts.clone().find(|part| part["state"] == "FAILED") {
            bail!("connector {name} failed: {}", failed["trace"].as_str().unwrap_or("no trace"));
        }
        Ok(!tasks.is_empty() && parts.all(|part| part["state"] == "RUNNING"))
    }

    fn log_tail(&self) -> String {
        self.process.as_ref().map_or_else(|| "(not running)".to_owned(), Daemon::log_tail)
    }
}
