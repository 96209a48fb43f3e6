//! The real parts: a broker, a Postgres that can crash, a store, and c360 three times over, two of them through a proxy.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use c360_tests::program::{Installation, Running};
use c360_tests::stack::Broker;
use embedded_postgres::test::{Loss, Proxy};
use embedded_postgres::{Cluster, Options};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::block_in_place;

use crate::ledger::{CUSTOMERS, ORDER_PARTITIONS, ORDERS};

/// How many c360 there are.
pub(crate) const PROCESSES: usize = 3;
/// How many members of the loyalty programme the store knows.
pub(crate) const STORE_CUSTOMERS: u32 = 40;
/// What SIGTERM leaves them, and a moment for a machine that is busy.
const STOP_WITHIN: Duration = Duration::from_secs(12);
const DATABASE: &str = "c360";

/// See the module.
pub(crate) struct World {
    pub(crate) processes: [Option<Running>; PROCESSES],
    store: Option<Running>,
    store_address: String,
    /// Where the first process serves.
    http_address: String,
    proxies: [Option<Proxy>; PROCESSES],
    pub(crate) installation: Installation,
    pub(crate) broker: Broker,
    pub(crate) pool: PgPool,
    cluster: Option<Cluster>,
    url: String,
    home: tempfile::TempDir,
    /// Where everybody's logs are; they stay, for whoever looks into a failure.
    pub(crate) logs: PathBuf,
}

pub(crate) fn store_name(id: u32) -> String {
    format!("Canary Shopper {id}")
}

impl World {
    pub(crate) async fn start(partitions: u16) -> Result<Self> {
        let broker = Broker::start().await?;
        broker.create_topic(CUSTOMERS, partitions).await?;
        broker.create_topic(ORDERS, u16::try_from(ORDER_PARTITIONS)?).await?;
        let home = tempfile::tempdir()?;
        let (cluster, url) = block_in_place(|| start_postgres(&home))?;
        cluster.create_database(DATABASE).await?;
        let options: PgConnectOptions = url.parse()?;
        let proxies =
            [None, Some(Proxy::start(&options, Loss::Cut).await), Some(Proxy::start(&options, Loss::Cut).await)];
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy_with(options);
        let (store_address, http_address) = (free_address()?, free_address()?);
        let config = include_str!("c360.toml")
            .replace("{BROKERS}", &broker.bootstrap())
            .replace("{STORE}", &format!("http://{store_address}"));
        let installation = Installation::new(&config)?;
        std::fs::create_dir_all(installation.path().join("drop"))?;
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("soak");
        let _ = std::fs::remove_dir_all(&logs);
        std::fs::create_dir_all(&logs)?;
        std::fs::write(installation.path().join("store.json"), store(&json!([])).to_string())?;
        std::fs::write(installation.path().join("troubled.json"), store(&store_faults()).to_string())?;
        let store = block_in_place(|| start_store(&installation, &store_address, "store.json", &logs))?;
        let mut world = Self {
            processes: [None, None, None],
            store: Some(store),
            store_address,
            http_address,
            proxies,
            installation,
            broker,
            pool,
            cluster: Some(cluster),
            url,
            home,
            logs,
        };
        for process in 0..PROCESSES {
            world.run(process)?;
        }
        Ok(world)
    }

    pub(crate) fn drop_directory(&self) -> PathBuf {
        self.installation.path().join("drop")
    }

    /// Where this process finds the database.
    fn url(&self, process: usize) -> String {
        let Some(proxy) = &self.proxies[process] else { return self.url.clone() };
        let head = self.url.split_once('?').map_or(self.url.as_str(), |(head, _)| head);
        format!("{}?sslmode=disable", head.replace("@localhost:5432", &format!("@127.0.0.1:{}", proxy.port())))
    }

    /// The proxy of a process that has one.
    pub(crate) fn proxy(&self, process: usize) -> Result<&Proxy> {
        self.proxies[process].as_ref().context("a process with a proxy")
    }

    /// Starts a process that is not there.
    pub(crate) fn run(&mut self, process: usize) -> Result<()> {
        let running = self.spawn(process, &format!("c360-{process}.log"))?;
        self.processes[process] = Some(running);
        Ok(())
    }

    /// One more process, with the database of this one.
    pub(crate) fn spawn(&self, process: usize, log: &str) -> Result<Running> {
        let url = self.url(process);
        let log = log_in(&self.logs, log);
        let variables = [("C360__DATABASE__URL", url.as_str()), ("C360__HTTP__LISTEN", &self.http_address)];
        let arguments: &[&str] = if process == 0 { &["run"] } else { &["run", "--no-http"] };
        self.installation.start_with(arguments, &log, &variables)
    }

    /// What `/readyz` of the first process says; nothing if it does not listen.
    pub(crate) async fn is_ready(&self) -> Option<bool> {
        let mut stream = tokio::net::TcpStream::connect(&self.http_address).await.ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: c360\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        match answer.split(' ').nth(1)? {
            "200" => Some(true),
            "503" => Some(false),
            _ => None,
        }
    }

    /// Reads everything in one transaction and leaves that open for a while.
    pub(crate) async fn analyse(&self, open: Duration) {
        // Postgres may go away meanwhile, and the analyst with it.
        let Ok(mut transaction) = self.pool.begin().await else { return };
        let read = "select (select count(*) from customer360.documents), (select count(*) from customer360.changes),
                           (select count(*) from staging.records), (select count(*) from staging.csv_imports)";
        let _ = sqlx::query(read).execute(&mut *transaction).await;
        tokio::time::sleep(open).await;
        let _ = transaction.rollback().await;
    }

    /// Starts the store anew, with faults that end by themselves.
    pub(crate) fn trouble_the_store(&mut self) -> Result<()> {
        if let Some(store) = self.store.take() {
            store.kill()?;
        }
        let starting = || start_store(&self.installation, &self.store_address, "troubled.json", &self.logs);
        self.store = Some(block_in_place(starting)?);
        Ok(())
    }

    pub(crate) fn process(&self, process: usize) -> Result<&Running> {
        self.processes[process].as_ref().context("a running process")
    }

    pub(crate) fn kill(&mut self, process: usize) -> Result<()> {
        self.processes[process].take().map_or(Ok(()), Running::kill)
    }

    /// SIGTERM, which has to end well.
    pub(crate) fn terminate(&mut self, process: usize) -> Result<()> {
        self.processes[process].take().map_or(Ok(()), ends_well)
    }

    /// Runs a command beside them.
    pub(crate) fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
        let mut all = vec![("C360__DATABASE__URL", self.url.as_str())];
        all.extend(variables);
        block_in_place(|| self.installation.run_with(arguments, &all))
    }

    /// A command that goes on beside them.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Result<Running> {
        let log = log_in(&self.logs, "commands.log");
        self.installation.start_with(arguments, &log, &[("C360__DATABASE__URL", &self.url)])
    }

    /// Ends Postgres as a power failure would, and starts it again after a while.
    pub(crate) async fn crash_postgres(&mut self, away: Duration) -> Result<()> {
        let mut cluster = self.cluster.take().context("a cluster")?;
        ensure!(
            Command::new("kill").args(["-QUIT", &cluster.pid().to_string()]).status()?.success(),
            "Postgres is gone"
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        while !cluster.has_ended() {
            ensure!(Instant::now() < deadline, "Postgres does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(cluster);
        // I6: whoever still said that it is ready would be sent requests.
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.is_ready().await == Some(true) {
            ensure!(Instant::now() < deadline, "/readyz says 200 without a database");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(away).await;
        self.cluster = Some(block_in_place(|| start_postgres(&self.home))?.0);
        Ok(())
    }
}

fn log_in(logs: &Path, name: &str) -> String {
    logs.join(name).display().to_string()
}

/// Ends a process by SIGTERM: with 0, in its time.
pub(crate) fn ends_well(process: Running) -> Result<()> {
    let (code, took) = block_in_place(|| process.terminate())?;
    ensure!(code == Some(0), "SIGTERM ended it with {code:?}");
    ensure!(took < STOP_WITHIN, "SIGTERM took {took:?}");
    Ok(())
}

/// Each start has a socket of its own, and a link leads to the last one.
fn start_postgres(home: &tempfile::TempDir) -> Result<(Cluster, String)> {
    let cluster = Cluster::start(&Options::persistent(home.path().join("data")))?;
    let (run, link) = (cluster.run_directory(), home.path().join("run"));
    let _ = std::fs::remove_file(&link);
    symlink(run, &link)?;
    let url = cluster.url_for(DATABASE);
    let url = url.replace(run.to_str().context("UTF-8")?, link.to_str().context("UTF-8")?);
    Ok((cluster, url))
}

fn free_address() -> Result<String> {
    Ok(format!("127.0.0.1:{}", std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()))
}

fn start_store(installation: &Installation, address: &str, data: &str, logs: &Path) -> Result<Running> {
    installation.start(&["sample-store", "--listen", address, "--data", data], &log_in(logs, "store.log"))
}

/// A store that answers wrongly, late or not at all, a few times each.
fn store_faults() -> serde_json::Value {
    json!([
        {"endpoint": "customer", "status": 503, "times": 6},
        {"endpoint": "customer", "status": 429, "headers": {"retry-after": "1"}, "times": 2},
        {"endpoint": "customer", "body": "<html>it works</html>", "times": 3},
        {"endpoint": "customer", "delay_ms": 700, "times": 5},
        {"endpoint": "orders", "status": 500, "times": 3},
        {"endpoint": "orders", "body": "[{\"OrderId\":", "times": 3},
    ])
}

/// Two orders of every customer.
fn store(faults: &serde_json::Value) -> serde_json::Value {
    let ids = 0..STORE_CUSTOMERS;
    let customer = |id: u32| {
        json!({"Id": id, "Name": store_name(id), "Email": format!("member{id}@soak.example"),
               "Password": format!("canary-password-{id}")})
    };
    let order = |id: u32| {
        let items = json!([{"OrderId": id, "ProductId": 1 + id % 3, "Quantity": 2, "Price": 1.25}]);
        json!({"OrderId": id, "PurchaseDate": "2019-04-25T15:15:58", "CustomerId": id / 2, "Items": items})
    };
    let product = |id: u32| json!({"ProductId": id, "Name": format!("Product {id}")});
    json!({
        "customers": ids.clone().map(customer).collect::<Vec<_>>(),
        "orders": (0..2 * STORE_CUSTOMERS).map(order).collect::<Vec<_>>(),
        "products": (1..4).map(product).collect::<Vec<_>>(),
        "faults": faults,
    })
}
