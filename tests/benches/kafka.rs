//! How fast a backlog is landed from a real broker, against `\copy` of the same rows: `cargo bench -p c360-tests --bench
//! kafka`. `EVENTS` and `PARTITIONS` change the size. Prints rates and the memory of this process.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use c360_tests::stack::Broker;
use ingest_kafka::{DEFAULT_PLACEHOLDER, Format, Settings};
use model::mapping::{Columns, Context, CustomerMapping, Mapping};
use model::{Credentials, InstallationKey, Limits};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqlx::postgres::PgConnectOptions;
use staging::{DEFAULT_PARTITION_WIDTH, Lander, Seal};
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "customers";
/// Tells the child process that it is one, and where the broker is.
const PRODUCE_TO: &str = "KAFKA_BENCH_PRODUCE_TO";

#[tokio::main]
async fn main() -> Result<()> {
    let number = |name: &str, default: u32| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (events, partitions) = (number("EVENTS", 1_000_000), number("PARTITIONS", 1));
    if let Ok(brokers) = std::env::var(PRODUCE_TO) {
        return produce(&brokers, events, partitions);
    }
    let broker = Broker::start().await?;
    broker.create_topic(TOPIC, u16::try_from(partitions)?).await?;
    // In a process of its own, so that its buffers are not counted as memory of landing.
    let produced = Command::new(std::env::current_exe()?).env(PRODUCE_TO, broker.bootstrap()).status()?;
    ensure!(produced.success(), "producing failed");

    let database = embedded_postgres::test::database().await;
    let pool = database.pool().await;
    staging::migrate(&mut *pool.acquire().await?).await?;
    let options: PgConnectOptions = database.url.parse()?;
    for round in 1..=3 {
        let lander = Lander::new(options.clone(), Seal::new(&InstallationKey::new([7; 32])), DEFAULT_PARTITION_WIDTH);
        let began = Instant::now();
        let landing = ingest_kafka::catch_up(settings(&broker), options.clone(), lander, CancellationToken::new());
        let landing = tokio::spawn(landing);
        let mut memory = Vec::new();
        while !landing.is_finished() {
            memory.push(resident_mib()?);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let done = landing.await??;
        ensure!(done.records == u64::from(events), "{done:?}");
        let first = memory.first().copied().unwrap_or_default();
        let middle = memory.get(memory.len() / 2).copied().unwrap_or_default();
        let most = memory.iter().copied().max().unwrap_or_default();
        println!(
            "{round}: landed  {:>7} rows/s; resident {first} MiB, {middle} in the middle, {most} at most",
            rate(events, began)
        );

        let began = copy(&database.url)?;
        println!("{round}: \\copy   {:>7} rows/s", rate(events, began));
        sqlx::query("truncate staging.kafka_offsets, staging.batches, staging.records").execute(&pool).await?;
    }
    Ok(())
}

/// Copies the landed rows into a table of the same kind by psql, as text; when it began.
fn copy(url: &str) -> Result<Instant> {
    let file = tempfile::NamedTempFile::new()?;
    let psql = |command: &str| {
        let done = Command::new("psql").args(["-qX", url, "-c", command]).status().context("psql")?;
        ensure!(done.success(), "psql {command}");
        Ok(())
    };
    psql(&format!("\\copy (select * from staging.records) to '{}'", file.path().display()))?;
    psql("drop table if exists copied; create table copied (like staging.records)")?;
    psql("create index on copied (batch_id)")?;
    let began = Instant::now();
    psql(&format!("\\copy copied from '{}'", file.path().display()))?;
    Ok(began)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate to be read")]
fn rate(events: u32, began: Instant) -> u64 {
    (f64::from(events) / began.elapsed().as_secs_f64()) as u64
}

fn resident_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

fn produce(brokers: &str, events: u32, partitions: u32) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "50").set("batch.size", "1000000");
    let producer: BaseProducer = config.create()?;
    for id in 0..events {
        let (key, value) = (format!(r#"{{"id":{id}}}"#), event(id));
        let mut next = BaseRecord::to(TOPIC).partition(i32::try_from(id % partitions)?).key(&key).payload(&value);
        while let Err((error, back)) = producer.send(next) {
            ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), error);
            producer.poll(Duration::from_millis(10));
            next = back;
        }
    }
    producer.flush(Duration::from_mins(1))?;
    Ok(())
}

fn event(id: u32) -> String {
    format!(
        r#"{{"before":null,"after":{{"id":{id},"name":"Matthew Groves {id}","email":"matthew.groves{id}@couchbase.com","password":"edzchzmatv{id}","address_line_1":"600 Sporer Curve","address_line_2":"Suite 528","city":"West Evertchester","state":"NH","zipcode":"04006","phonenumber":"811.128.4320 x4808"}},"source":{{"version":"3.5.0.Final","connector":"mariadb","name":"dbserver1","ts_ms":1795247517000,"snapshot":"false","db":"inventory","sequence":null,"ts_us":1795247517000000,"ts_ns":1795247517000000000,"table":"customers","server_id":223344,"gtid":"0-223344-22","file":"mysql-bin.000001","pos":{},"row":0,"thread":null,"query":null}},"transaction":{{"id":"0-223344-22","total_order":1,"data_collection_order":1}},"op":"c","ts_ms":1795247517393,"ts_us":1795247517393763,"ts_ns":1795247517393763944}}"#,
        1000 + u64::from(id)
    )
}

fn settings(broker: &Broker) -> Settings {
    let column = |name: &str| Columns::One(name.to_owned());
    let attributes = [
        ("name", "name"),
        ("address1", "address_line_1"),
        ("address2", "address_line_2"),
        ("city", "city"),
        ("state", "state"),
        ("zipcode", "zipcode"),
        ("phone", "phonenumber"),
    ];
    let customer = CustomerMapping {
        topics: Vec::new(),
        request: None,
        external_id: column("id"),
        email: Some(column("email")),
        credential: Some("password".to_owned()),
        version: None,
        attributes: attributes.into_iter().map(|(ours, theirs)| (ours.to_owned(), column(theirs))).collect(),
    };
    Settings {
        name: "home_delivery".to_owned(),
        brokers: broker.bootstrap(),
        topics: vec![TOPIC.to_owned()],
        group_id: "c360".to_owned(),
        format: Format::Debezium,
        mappings: vec![Mapping::Customer(customer)],
        context: Context {
            credentials: Credentials::digest(&InstallationKey::new([7; 32])),
            timezone: "UTC".parse().unwrap_or_default(),
        },
        limits: Limits::default(),
        ttl: Duration::from_hours(168),
        placeholder: DEFAULT_PLACEHOLDER.to_owned(),
        properties: BTreeMap::new(),
    }
}
