//! How fast a backlog is landed from a real broker, beside `\copy` of the same rows by psql, and beside consuming the same
//! topic and doing nothing with it.
//!
//! ROWS events (1,000,000) of about BYTES bytes (800, or 200) on PARTITIONS partitions (1). Landing and both limits take turns, RUNS times (3). Everything but
//! landing is done by processes of their own, so that the memory of this one is that of landing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use c360_tests::bench::{Resident, Shape, Watch, cluster, database, number, produce, report, rows, runs, timed};
use c360_tests::source;
use c360_tests::stack::Broker;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use sqlx::Executor;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "customers";
const DATABASE: &str = "landed";
/// What decides how a consumer fetches, as `crates/ingest-kafka/src/client.rs` has it.
const FETCHING: [(&str, &str); 7] = [
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.max.bytes", "4194304"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
];
/// How long the broker may stay silent.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let (rows, partitions) = (rows(1_000_000), number("PARTITIONS", 1));
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["produce", brokers] => produce(brokers, TOPIC, rows, partitions, shape()),
        ["consume", brokers, group] => consume(brokers, group, rows),
        _ => bench(rows, partitions).await,
    }
}

/// Envelopes, or rows alone where messages are to be shorter than an envelope.
fn shape() -> Shape {
    if number("BYTES", 800) < 500 { Shape::Rows } else { Shape::Envelopes }
}

async fn bench(rows: usize, partitions: usize) -> Result<()> {
    let broker = Broker::start().await?;
    broker.create_topic(TOPIC, u16::try_from(partitions)?).await?;
    this_program(&["produce", &broker.bootstrap()])?;
    let cluster = cluster()?;
    let (options, mut connection) = database(&cluster, DATABASE).await?;
    let url = cluster.url_for(DATABASE);
    let directory = tempfile::tempdir()?;
    let text = directory.path().join("records");

    let (mut landed, mut copied, mut consumed) = (vec![], vec![], vec![]);
    for run in 0..runs(3) {
        connection.execute("checkpoint").await?;
        let (seconds, resident) = timed(async || land(&broker, &options, rows).await).await?;
        landed.push(seconds);
        if run == 0 {
            psql(&url, &format!("\\copy (select * from staging.records) to '{}'", text.display()))?;
        }
        connection.execute("truncate staging.kafka_offsets, staging.batches, staging.records").await?;

        let (brokers, group) = (broker.bootstrap(), format!("nothing_{run}"));
        consumed.push(timed(async || this_program(&["consume", &brokers, &group])).await?.0);

        // As landing makes its partitions.
        connection.execute("drop table if exists copied").await?;
        connection.execute("create table copied (like staging.records including all)").await?;
        connection.execute("checkpoint").await?;
        copied.push(timed(async || copy(&url, &text)).await?.0);
        println!(
            "run {run}: landed {seconds:.2} s, \\copy {:.2} s, consumed {:.2} s; {resident}",
            copied[run], consumed[run]
        );
    }
    let what = format!("landing {rows} events ({:?}), partitions: {partitions}", shape());
    report(&what, rows, &landed, "\\copy", &copied, "no goal");
    report(&what, rows, &landed, "consuming alone", &consumed, "no goal");
    Ok(())
}

/// Lands the backlog; the memory of this process meanwhile.
async fn land(broker: &Broker, options: &PgConnectOptions, rows: usize) -> Result<Resident> {
    let mapping = source::customer(
        "id",
        &["name", "address_line_1", "address_line_2", "city", "state", "zipcode", "phonenumber"],
    );
    let settings = source::kafka("home_delivery", &broker.bootstrap(), &[TOPIC], mapping);
    let lander = source::lander(options);
    let watch = Watch::begin(std::process::id());
    let landing = ingest_kafka::catch_up(settings, options.clone(), lander, CancellationToken::new());
    let done = tokio::spawn(landing).await??;
    ensure!(done.records == rows as u64, "{done:?}");
    watch.end()
}

/// Does a part of the work in a process of its own.
fn this_program(words: &[&str]) -> Result<()> {
    let done = Command::new(std::env::current_exe()?).args(words).status()?;
    ensure!(done.success(), "{words:?} failed");
    Ok(())
}

/// Reads the topic from its start to its end and does nothing with the messages.
fn consume(brokers: &str, group: &str, rows: usize) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group);
    for (property, value) in FETCHING {
        config.set(property, value);
    }
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(TOPIC), PATIENCE)?;
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        partitions.add_partition_offset(TOPIC, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    for read in 0..rows {
        consumer.poll(PATIENCE).with_context(|| format!("nothing came after {read} messages"))??;
    }
    Ok(())
}

/// Copies the landed rows, as text, into a table like a partition of theirs.
fn copy(url: &str, text: &Path) -> Result<()> {
    psql(url, &format!("\\copy copied from '{}'", text.display()))
}

fn psql(url: &str, command: &str) -> Result<()> {
    let done = Command::new("psql").args(["-qX", url, "-c", command]).status().context("psql")?;
    ensure!(done.success(), "psql {command}");
    Ok(())
}
