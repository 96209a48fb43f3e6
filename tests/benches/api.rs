//! The API over a large base: reads of single customers beside pgbench with the statement that the server ran and beside a
//! minimal handler in Go that sends the same statement (without `go` that one is left out), search, interactions of a few
//! customers, and insights.
//!
//! ROWS customers (1,000,000), each with three cross-references, five orders and five interactions; CLIENTS (4) ask for SECONDS
//! (10), each for the next as soon as it has an answer; for a customer in turns with pgbench and also half as often, for all else
//! also one alone. Clients, server and Postgres share the machine, and so do pgbench and Postgres. Nobody asks for compressed
//! answers: neither pgbench nor the handler in Go gives any.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use c360_tests::bench::{base, cluster, database, number, rows};
use chrono::Utc;
use consolidate::Rules;
use metrics_exporter_prometheus::PrometheusBuilder;
use model::{Guards, InstallationKey, Survivorship};
use secrecy::ExposeSecret;
use serve::keys::{self, NewKey, Role};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

/// How often we and pgbench are measured in turns.
const TURNS: usize = 3;

fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(bench())
}

async fn bench() -> Result<()> {
    let (rows, clients) = (i32::try_from(rows(1_000_000))?, number("CLIENTS", 4));
    let seconds = Duration::from_secs(number("SECONDS", 10) as u64);
    let (all, one) = (Load { clients, seconds, per_second: None }, Load { clients: 1, seconds, per_second: None });
    let cluster = cluster()?;
    let (options, mut connection) = database(&cluster, "api").await?;
    base::fill(&mut connection, rows).await?;
    let world = World::serve(&options, &mut connection).await?;
    println!("{rows} customers, {clients} clients");

    let ids: Vec<String> =
        sqlx::query_scalar("select id::text from public.people order by i").fetch_all(&mut connection).await?;
    let customer = |n: usize| format!("/customers/{}", ids[n * 7919 % ids.len()]);
    // What a base of this size has on the disk is read by whoever asks first.
    world.ask(all, &world.all, customer).await?;
    let statement: String = sqlx::query_scalar(
        "select query from pg_stat_activity where query like '%timeline as materialized%' and pid <> pg_backend_pid() limit 1",
    )
    .fetch_one(&mut connection)
    .await?;
    let mut rate = 0.0;
    for _ in 0..TURNS {
        let mut ours = world.ask(all, &world.all, customer).await?;
        let bare = pgbench(&cluster.url_for("api"), &statement, all, rows)?;
        rate = ours.per_second();
        println!(
            "a customer with everything: {rate:.0}/s, {}; pgbench with the same statement: {bare:.0}/s; ratio {:.2} (goal 0.65)",
            ours.times(),
            rate / bare
        );
    }
    let half = Load { per_second: Some(rate / 2.0), ..all };
    println!("the same at half load: {} (goal p99 3 ms)", world.ask(half, &world.all, customer).await?.times());
    match Peer::start(&cluster.url_for("api"), &statement)? {
        Some(peer) => {
            let mut theirs = ask(&world.client, &peer.base_url, all, &world.all, customer).await?;
            println!(
                "the same by a minimal handler in Go: {:.0}/s, {}; ratio {:.2}; at our half load: {}",
                theirs.per_second(),
                theirs.times(),
                rate / theirs.per_second(),
                ask(&world.client, &peer.base_url, half, &world.all, customer).await?.times()
            );
        }
        None => println!("no peer: `go` is not installed"),
    }
    let words: Vec<(String, String)> =
        sqlx::query_as("select name, email from public.people where i % 13 = 0 limit 20000")
            .fetch_all(&mut connection)
            .await?;
    let query = |n: usize| {
        let (name, email) = &words[n * 7919 % words.len()];
        let q = match n % 4 {
            0 => name.clone(),
            1 => email.clone(),
            // While it is typed, and with a letter missing.
            2 => name.chars().take(9).collect(),
            _ => name.chars().enumerate().filter(|(at, _)| *at != name.chars().count() - 3).map(|(_, c)| c).collect(),
        };
        format!("/customers?q={}", q.replace(' ', "+"))
    };
    let interactions = |_| "/interactions".to_owned();
    for load in [one, all] {
        let mut searched = world.ask(load, &world.all, query).await?;
        let mut limited = world.ask(load, &world.limited, query).await?;
        let mut listed = world.ask(load, &world.listed, interactions).await?;
        let mut insights = world.ask(load, &world.all, |_| "/insights".to_owned()).await?;
        println!(
            "{} at once: search: {} (goal p99 20 ms); under a row filter by state: {} (goal p99 50 ms); interactions of the \
             1,000 customers of a list: {} (goal p99 10 ms); insights: {} (goal 1 s)",
            load.clients,
            searched.times(),
            limited.times(),
            listed.times(),
            insights.times()
        );
    }
    Ok(())
}

/// A server with keys: of one alone more would be asked than a key may.
struct World {
    client: reqwest::Client,
    base_url: String,
    all: Vec<String>,
    limited: Vec<String>,
    listed: Vec<String>,
}

impl World {
    async fn serve(options: &PgConnectOptions, connection: &mut PgConnection) -> Result<Self> {
        let listener = serve::listen(([127, 0, 0, 1], 0).into()).await?;
        let base_url = format!("http://{}/api/v1", listener.local_addr()?);
        let settings = serve::Settings {
            database: options.clone(),
            key: InstallationKey::new([7; 32]),
            attributes: ["name", "state", "loyaltyPoints"].map(str::to_owned).into(),
            systems: ["home_delivery", "loyalty", "online_store"].map(str::to_owned).into(),
            object_types: Vec::new(),
            takers: consolidate::edit::Takers::default(),
            rules: Rules { survivorship: Survivorship::default(), guards: Guards::none(), polled_sources: Vec::new() },
            setup: status::Setup {
                sources: std::collections::BTreeMap::new(),
                rules: String::new(),
                listen: ([127, 0, 0, 1], 0).into(),
            },
            retry: serve::Retry::new(async |_| Ok(Vec::new())),
            mask: serve::Mask::new(|_| ()),
            erased_orders: consolidate::erase::Orders::default(),
        };
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        tokio::spawn(serve::serve(listener, settings, metrics, CancellationToken::new()));
        let mut keys = Vec::new();
        for only in [None, Some("state in ('NH')"), Some("list team")] {
            let mut some = Vec::new();
            for number in 0..20 {
                let only = only.map(str::parse).transpose()?;
                let new = NewKey { name: format!("{only:?} {number}"), role: Role::Viewer, only, expires_at: None };
                let (_, secret) = keys::add(connection, &new, Utc::now()).await?;
                some.push(secret.expose_secret().to_owned());
            }
            keys.push(some);
        }
        let [all, limited, listed] = keys.try_into().map_err(|_| anyhow::anyhow!("three kinds of keys"))?;
        let client = reqwest::Client::builder().no_gzip().build()?;
        Ok(Self { client, base_url, all, limited, listed })
    }

    async fn ask(&self, load: Load, keys: &[String], path: impl Fn(usize) -> String) -> Result<Times> {
        ask(&self.client, &self.base_url, load, keys, path).await
    }
}

/// How many ask, and for how long, the first second left out.
#[derive(Clone, Copy)]
struct Load {
    clients: usize,
    seconds: Duration,
    /// How often in all; `None`: each as soon as it has an answer.
    per_second: Option<f64>,
}

/// Asks, and says how long answers took from the moment in which they were to be asked for.
async fn ask(
    client: &reqwest::Client,
    base_url: &str,
    load: Load,
    keys: &[String],
    path: impl Fn(usize) -> String,
) -> Result<Times> {
    // Each time for others than the time before.
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let from = ASKED.fetch_add(1_000_003, Ordering::Relaxed);
    let begin = Instant::now();
    let clients = u32::try_from(load.clients)?;
    let asking = (0..clients).map(async |first| {
        let (mut round, mut times) = (0, Vec::new());
        while begin.elapsed() < load.seconds + Duration::from_secs(1) {
            let turn = first + clients * round;
            let n = (from + turn) as usize;
            let due = load.per_second.map(|rate| begin + Duration::from_secs_f64(f64::from(turn) / rate));
            if let Some(due) = due {
                tokio::time::sleep_until(due.into()).await;
            }
            let asked = due.unwrap_or_else(Instant::now);
            let url = format!("{}{}", base_url, path(n));
            let answer = client.get(url).bearer_auth(&keys[n % keys.len()]).send().await?;
            ensure!(answer.status().is_success(), "{}", answer.status());
            answer.bytes().await?;
            if begin.elapsed() > Duration::from_secs(1) {
                times.push(asked.elapsed().as_secs_f64());
            }
            round += 1;
        }
        Ok(times)
    });
    let times: Vec<Vec<f64>> = futures::future::join_all(asking).await.into_iter().collect::<Result<_>>()?;
    Ok(Times { times: times.concat(), seconds: load.seconds.as_secs_f64() })
}

/// The minimal handler, which ends with its standard input.
struct Peer {
    base_url: String,
    _process: Child,
}

impl Peer {
    /// None without `go`.
    fn start(url: &str, statement: &str) -> Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let binary = directory.path().join("peer");
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&binary)
            .arg(".")
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer"))
            .status();
        match built {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            built => ensure!(built?.success(), "go build has failed"),
        }
        let mut process =
            Command::new(&binary).args([url, statement]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(process.stdout.take().context("its output is piped")?).read_line(&mut address)?;
        Ok(Some(Self { base_url: format!("http://{}", address.trim_end()), _process: process }))
    }
}

/// How long answers took.
struct Times {
    times: Vec<f64>,
    seconds: f64,
}

impl Times {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
    fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    fn times(&mut self) -> String {
        self.times.sort_by(f64::total_cmp);
        let at = |share: usize| self.times.get(self.times.len() * share / 100).copied().unwrap_or(f64::NAN) * 1000.0;
        format!("p50 {:.1} ms, p99 {:.1} ms", at(50), at(99))
    }
}

/// Statements a second of pgbench. It looks an id up where our clients know it.
fn pgbench(url: &str, statement: &str, load: Load, rows: i32) -> Result<f64> {
    let statement = statement.replace("$1", "(select id from public.people where i = :i::int)");
    let script = format!("\\set i random(1, {rows})\n{statement};\n");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    let binary = binaries()?.join("pgbench");
    let output = Command::new(binary)
        .args([
            "--no-vacuum",
            "--protocol=prepared",
            &format!("--client={}", load.clients),
            &format!("--time={}", load.seconds.as_secs()),
        ])
        .arg(format!("--file={}", file.path().display()))
        .arg(url)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let tps = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.with_context(|| format!("pgbench says no tps: {said}"))
}

/// Where Debian has Postgres, the newest.
fn binaries() -> Result<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql")?.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
    found.sort();
    found.pop().context("no Postgres in /usr/lib/postgresql")
}
