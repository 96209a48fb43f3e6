//! A single-node Kafka broker that is its own controller (`KRaft`).

use std::{fs::File, net::Ipv4Addr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use tempfile::TempDir;

use crate::event::{self, Event};

use super::{
    daemon::{Daemon, tail},
    directory, jvm, ports,
    produce::{Outgoing, Producer},
    read::Reader,
    secure::Secure,
};

const START_TIMEOUT: Duration = Duration::from_secs(90);
const HEAP_MIB: u32 = 512;
/// Any sixteen bytes in base64; one cluster never meets another.
const CLUSTER_ID: &str = "YzM2MC10ZXN0cy1rYWZrYQ";

/// A running (or stopped) broker with its data.
pub struct Broker {
    // Before the directory: fields are dropped in order, and the process writes there.
    process: Option<Daemon>,
    directory: TempDir,
    port: u16,
    /// What it tells clients to connect to.
    advertised_port: u16,
    secure: Option<Secure>,
}

impl Broker {
    /// Starts a broker with an empty log. When this returns, it answers.
    pub async fn start() -> Result<Self> {
        Self::start_with(None, async |port| port).await
    }

    /// [`Broker::start`], behind something that listens in its place: `stand_before` gets the broker's port and returns the
    /// one that clients are told. [`Broker::bootstrap`] is still the broker itself.
    pub async fn start_behind(stand_before: impl AsyncFnOnce(u16) -> u16) -> Result<Self> {
        Self::start_with(None, stand_before).await
    }

    /// [`Broker::start`], with secure listeners beside the plain one.
    pub async fn start_secure() -> Result<Self> {
        Self::start_with(Some(Secure::new()?), async |port| port).await
    }

    async fn start_with(secure: Option<Secure>, stand_before: impl AsyncFnOnce(u16) -> u16) -> Result<Self> {
        let directory = directory::new("broker")?;
        let (port, controller_port) = (ports::free()?, ports::free()?);
        let advertised_port = stand_before(port).await;
        let mut broker = Self { process: None, directory, port, advertised_port, secure };
        jvm::write_properties(&broker.properties(), &broker.settings(controller_port)?)?;
        broker.format().await?;
        broker.restart().await?;
        Ok(broker)
    }

    /// The address for `bootstrap.servers`. It stays the same over stop and restart.
    pub fn bootstrap(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// The secure listeners, if it was started with them.
    pub fn secure(&self) -> Option<&Secure> {
        self.secure.as_ref()
    }

    /// A producer. One is enough for many messages.
    pub fn producer(&self) -> Result<Producer> {
        Producer::new(&self.client())
    }

    /// Writes one message, acknowledged by the broker; its partition and offset.
    pub async fn produce(&self, message: Outgoing<'_>) -> Result<(i32, i64)> {
        self.producer()?.send(message).await
    }

    /// Writes messages in order, many at a time, and returns when all are acknowledged.
    pub async fn send_all(&self, topic: &str, messages: impl IntoIterator<Item = Event>) -> Result<()> {
        let messages: Vec<Event> = messages.into_iter().collect();
        let outgoing = messages.iter().map(|message| Outgoing {
            topic,
            partition: message.partition,
            key: message.key.as_deref().map(str::as_bytes),
            value: Some(message.value.as_bytes()),
            ..Outgoing::default()
        });
        self.producer()?.send_all(outgoing).await
    }

    /// Writes the inserts of these customers, in turn to each of the partitions.
    pub async fn insert(&self, topic: &str, partitions: i32, ids: impl IntoIterator<Item = i32>) -> Result<()> {
        self.send_all(topic, ids.into_iter().map(|id| event::insert(id.into()).to(id % partitions))).await
    }

    /// Reads these topics from their first messages, as soon as the topics exist.
    pub async fn reader(&self, topics: &[&str]) -> Result<Reader> {
        Reader::from_start(&self.client(), topics).await
    }

    /// Stops the broker as an operator would. Its data and its address stay.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Ends the broker as a power failure would. Its data and its address stay.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGSTOP: its connections stay open, and it answers nobody until [`Broker::thaw`].
    pub fn freeze(&self) -> Result<()> {
        self.process.as_ref().context("the broker does not run")?.signal("STOP")
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.process.as_ref().context("the broker does not run")?.signal("CONT")
    }

    /// Starts a broker that was stopped or killed (or kills it first) on its old data and address.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut command = jvm::java(jvm::jars().await?, self.directory.path(), HEAP_MIB, "kafka.Kafka")?;
        command.arg(self.properties());
        let mut process = Daemon::spawn("broker", command, &self.directory.path().join("broker.log"))?;
        process.ready(START_TIMEOUT, async || self.answers().await).await?;
        self.process = Some(process);
        Ok(())
    }

    /// What every client of this broker starts from.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config
    }

    fn properties(&self) -> PathBuf {
        self.directory.path().join("server.properties")
    }

    fn settings(&self, controller_port: u16) -> Result<Vec<(String, String)>> {
        let local = Ipv4Addr::LOCALHOST;
        let secure = self.secure.as_ref().map(Secure::addresses).unwrap_or_default();
        let settings = vec![
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", "1".to_owned()),
            ("controller.quorum.voters", format!("1@{local}:{controller_port}")),
            ("listeners", format!("PLAINTEXT://{local}:{},CONTROLLER://{local}:{controller_port}{secure}", self.port)),
            ("advertised.listeners", format!("PLAINTEXT://{local}:{}{secure}", self.advertised_port)),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
            ("log.dirs", self.directory.path().join("data").display().to_string()),
        ];
        let for_one_node = [
            ("offsets.topic.num.partitions", "1"),
            ("offsets.topic.replication.factor", "1"),
            ("transaction.state.log.num.partitions", "1"),
            ("transaction.state.log.replication.factor", "1"),
            ("transaction.state.log.min.isr", "1"),
            ("share.coordinator.state.topic.num.partitions", "1"),
            ("share.coordinator.state.topic.replication.factor", "1"),
            ("share.coordinator.state.topic.min.isr", "1"),
            // Nobody else will join, so do not wait for them.
            ("group.initial.rebalance.delay.ms", "0"),
            // Small buffers and index files; the defaults are for terabytes.
            ("log.cleaner.dedupe.buffer.size", "4194304"),
            ("log.index.size.max.bytes", "1048576"),
            ("num.network.threads", "2"),
            ("num.io.threads", "4"),
        ];
        let settings = settings.into_iter().chain(for_one_node.map(|(key, value)| (key, value.to_owned())));
        let mut settings: Vec<(String, String)> = settings.map(|(key, value)| (key.to_owned(), value)).collect();
        if let Some(secure) = &self.secure {
            settings.extend(secure.settings(self.directory.path())?);
        }
        Ok(settings)
    }

    async fn format(&self) -> Result<()> {
        let log = self.directory.path().join("format.log");
        let output = File::create(&log)?;
        let mut command = jvm::java(jvm::jars().await?, self.directory.path(), 128, "kafka.tools.StorageTool")?;
        command.args(["format", "-t", CLUSTER_ID, "-c"]).arg(self.properties());
        if self.secure.is_some() {
            command.args(Secure::accounts());
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let status = tokio::process::Command::from(command).kill_on_drop(true).status().await?;
        ensure!(status.success(), "cannot format the broker's storage:\n{}", tail(&log));
        Ok(())
    }

    /// Whether the broker has joined its own cluster, which is later than when it accepts connections.
    async fn answers(&self) -> bool {
        // Without this, every question before the port is open would cost a client of its own.
        if tokio::net::TcpStream::connect(self.bootstrap()).await.is_err() {
            return false;
        }
        let config = self.client();
        let brokers = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = config.create()?;
            let metadata = client.fetch_metadata(None, Duration::from_secs(2)).context("no metadata")?;
            anyhow::Ok(metadata.brokers().len())
        });
        matches!(brokers.await, Ok(Ok(1)))
    }
}
