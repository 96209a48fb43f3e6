//! From a record's append to the profile that shows it: three Kafka sources together at a steady rate, landing and
//! consolidating on the same cores as the broker and Postgres.
//!
//! ROWS customers (100,000) with five orders each are there before; the load is about others. RATE records a second (2,000) for
//! SECONDS seconds (60), and then for as many again while somebody asks for insights; memory is that of the first of both. Some
//! of the records are news of probes: people of whom every change is awaited in `customer360.customers` before the next is sent.

use std::net::TcpListener;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use c360_tests::bench::{Watch, base, cluster, database, number, rows};
use c360_tests::program::{self, Installation};
use c360_tests::stack::Broker;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;

const SOURCES: [&str; 3] = ["home_delivery", "loyalty", "online_store"];
/// The id of the first person of the load, above those who are there before.
const FIRST: u64 = 1_000_000_000;
/// People whom the load is about, over and over.
const PEOPLE: u64 = 100_000;
/// People of whom each change is awaited, one task each.
const PROBES: usize = 4;
/// How often a probe looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Between two changes of a probe.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two questions for insights.
const ASK_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let (rate, seconds) = (number("RATE", 2_000), number("SECONDS", 60));
    let _ = rustls::crypto::ring::default_provider().install_default();
    program::c360()?;
    let broker = Broker::start().await?;
    for source in SOURCES {
        broker.create_topic(source, 2).await?;
    }
    let cluster = cluster()?;
    let customers = rows(100_000);
    let (_, mut connection) = database(&cluster, "steady").await?;
    base::fill(&mut connection, i32::try_from(customers)?).await?;
    drop(connection);
    // As in most installations: over TCP.
    let url = cluster.tcp_url_for("steady").context("the cluster has no port")?;
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let installation = Installation::new(&configuration(&broker.bootstrap()))?
        .with("C360__DATABASE__URL", &url)
        .with("C360__HTTP__LISTEN", &listen);
    let key = installation.run(&["keys", "add", "bench", "--role", "viewer"])?;
    ensure!(key.status.success(), "{}", String::from_utf8_lossy(&key.stderr));
    let insights = Insights { url: format!("http://{listen}/api/v1/insights"), key: String::from_utf8(key.stdout)? };
    let daemon = installation.start(&["run"], "c360.log")?;
    let pool = PgPoolOptions::new().max_connections(u32::try_from(PROBES)?).connect_lazy_with(url.parse()?);

    let cancel = CancellationToken::new();
    let load = std::thread::spawn({
        let (bootstrap, cancel) = (broker.bootstrap(), cancel.clone());
        move || load(&bootstrap, rate, &cancel)
    });
    // Until everybody has been seen once, plans are cached and tables have their size.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let watch = Watch::begin(daemon.id());
    let seconds = Duration::from_secs(seconds as u64);
    let waits = probe(seconds, 0..PROBES, &broker, &pool).await?;
    let resident = watch.end()?;
    let (beside, answers) = tokio::try_join!(
        probe(seconds, PROBES..2 * PROBES, &broker, &pool),
        insights.ask_until(Instant::now() + seconds)
    )?;
    cancel.cancel();
    let sent = load.join().map_err(|_| anyhow::anyhow!("the load has panicked"))??;
    println!(
        "to the profile beside {sent:.0} records/s and {customers} customers: {} (goal p99 75 ms); {resident}",
        times(waits)
    );
    println!("while insights are asked for: {}; insights: {} (goal 1 s)", times(beside), times(answers));
    Ok(())
}

/// How many there were, and how long they took.
fn times(mut waits: Vec<Duration>) -> String {
    waits.sort_unstable();
    let at = |share: usize| waits.get(waits.len() * share / 1_000).copied().unwrap_or_default().as_secs_f64() * 1_000.0;
    let [p50, p90, p99, p999] = [500, 900, 990, 999].map(at);
    format!("{}, p50 {p50:.0} ms, p90 {p90:.0} ms, p99 {p99:.0} ms, p99.9 {p999:.0} ms", waits.len())
}

/// Where insights are, and with which key.
struct Insights {
    url: String,
    key: String,
}

impl Insights {
    /// How long each answer took.
    async fn ask_until(&self, until: Instant) -> Result<Vec<Duration>> {
        let (client, mut answers) = (reqwest::Client::new(), Vec::new());
        while Instant::now() < until {
            let asked = Instant::now();
            let answer = client.get(&self.url).bearer_auth(self.key.trim()).send().await?;
            answer.error_for_status()?.bytes().await?;
            answers.push(asked.elapsed());
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(answers)
    }
}

/// How long changes of these probes took to the profile.
async fn probe(time: Duration, probes: Range<usize>, broker: &Broker, pool: &PgPool) -> Result<Vec<Duration>> {
    let until = Instant::now() + time;
    let probes = probes.map(|probe| tokio::spawn(probe_until(until, probe, broker.bootstrap(), pool.clone())));
    let waits: Vec<Vec<Duration>> = futures::future::try_join_all(probes).await?.into_iter().collect::<Result<_>>()?;
    Ok(waits.concat())
}

fn configuration(brokers: &str) -> String {
    let source = |name: &&str| {
        format!(
            "[sources.{name}]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\ntopics = [\"{name}\"]\ngroup_id = \"{name}\"\n\
             [sources.{name}.customer]\nexternal_id = \"id\"\nemail = \"email\"\ncredential = \"password\"\n\
             attributes = {{ name = \"name\", city = \"city\" }}\n"
        )
    };
    SOURCES.iter().map(source).collect()
}

fn event(id: u64, email: &str, version: usize, pos: u64) -> String {
    format!(
        r#"{{"op":"u","before":null,"after":{{"id":{id},"name":"Person {id}","email":"{email}","password":"p{id}","city":"City {version}"}},"source":{{"file":"mysql-bin.000001","pos":{pos},"row":0,"snapshot":"false","ts_ms":1795247517000}}}}"#
    )
}

fn producer(bootstrap: &str) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    Ok(config.set("bootstrap.servers", bootstrap).set("linger.ms", "0").create()?)
}

/// Sends at the rate until it is told to stop; how many a second that was.
fn load(bootstrap: &str, rate: usize, cancel: &CancellationToken) -> Result<f64> {
    let (producer, began, mut sent) = (producer(bootstrap)?, Instant::now(), 0);
    while !cancel.is_cancelled() {
        // In steps of ten milliseconds, as much as is due.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small"
        )]
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        while sent < due {
            let (id, source) = (FIRST + sent / 3 % PEOPLE, SOURCES[usize::try_from(sent % 3)?]);
            let value = event(id, &format!("person.{id}@example.com"), usize::try_from(sent)?, 1_000 + sent);
            let key = id.to_string();
            let record = BaseRecord::to(source).key(&key).payload(&value);
            producer.send(record).map_err(|(error, _)| error)?;
            sent += 1;
        }
        producer.poll(Duration::from_millis(10));
    }
    producer.flush(PATIENCE)?;
    Ok(c360_tests::bench::rate(usize::try_from(sent)?, began.elapsed().as_secs_f64()))
}

/// Changes one person again and again, and awaits each change.
async fn probe_until(until: Instant, probe: usize, bootstrap: String, pool: PgPool) -> Result<Vec<Duration>> {
    let (producer, mut waits) = (producer(&bootstrap)?, Vec::new());
    let (id, email) = (FIRST + PEOPLE + probe as u64, format!("probe.{probe}@example.com"));
    let source = SOURCES[probe % SOURCES.len()];
    for version in 1.. {
        if Instant::now() > until {
            break;
        }
        let value = event(id, &email, version, version as u64);
        let (appended, key) = (Instant::now(), id.to_string());
        producer
            .send(BaseRecord::to(source).key(&key).payload(&value))
            .map_err(|(error, _)| error)
            .context("sending a probe")?;
        producer.poll(Duration::ZERO);
        let expected = format!("City {version}");
        let sql = "select profile ->> 'city' from customer360.customers where email = $1";
        loop {
            let city: Option<Option<String>> = sqlx::query_scalar(sql).bind(&email).fetch_optional(&pool).await?;
            if city.flatten().as_ref() == Some(&expected) {
                break;
            }
            ensure!(appended.elapsed() < PATIENCE, "a probe is not seen within {PATIENCE:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        waits.push(appended.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(waits)
}
