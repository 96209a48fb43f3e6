//! What is down stops nothing else, and nothing for good: c360 as a process, with sources and a database that go away.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::Path;
use std::time::{Duration, Instant};

use c360_tests::program::Installation;
use embedded_postgres::{Cluster, Options};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

const PATIENCE: Duration = Duration::from_mins(1);
/// Where nobody listens.
const NOWHERE: &str = "127.0.0.1:1";

/// The reference configuration, with two of its three sources out of reach.
fn installation(database: &str) -> Installation {
    let config = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../c360.toml")).unwrap();
    let installation = Installation::new(&config)
        .unwrap()
        .with("C360__DATABASE__URL", database)
        .with("C360__SOURCES__HOME_DELIVERY__BROKERS", NOWHERE)
        .with("C360__SOURCES__ONLINE_STORE__BASE_URL", &format!("http://{NOWHERE}"))
        .with("C360__SOURCES__ONLINE_STORE__BREAKER_FAILURES", "2")
        .with("C360__SOURCES__LOYALTY__FULL_EXPORT", "false")
        .with("C360__SOURCES__LOYALTY__SETTLE", "200ms")
        .with("C360__SOURCES__LOYALTY__SCAN_EVERY", "500ms");
    std::fs::create_dir_all(installation.path().join("drop/loyalty")).unwrap();
    installation
}

/// A night with one member, and one row that is no member.
fn drop_night(installation: &Installation, night: u32) {
    let text = format!(
        "id,firstName,lastName,email,password,points\n{night},Night,{night},night.{night}@example.com,secret,1\n,No,One,,,\n"
    );
    std::fs::write(installation.path().join(format!("drop/loyalty/loyalty_members_2026-11-{night}.csv")), text)
        .unwrap();
}

/// Waits until this many members are customers; the database may be away meanwhile.
async fn customers(database: &str, expected: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = count(database).await.unwrap_or(-1);
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found} customers and not {expected} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn count(database: &str) -> Result<i64, sqlx::Error> {
    let mut connection = PgConnection::connect(database).await?;
    sqlx::query_scalar("select count(*) from customer360.documents").fetch_one(&mut connection).await
}

#[tokio::test]
async fn invariant_9_a_failing_source_never_stops_the_others() {
    let database = embedded_postgres::test::database().await;
    let installation = installation(&database.url);
    let daemon = installation.start(&["run", "--no-http"], "c360.log").unwrap();
    for night in 10..13 {
        drop_night(&installation, night);
        customers(&database.url, i64::from(night) - 9).await;
    }

    let deadline = Instant::now() + PATIENCE;
    let trouble = loop {
        let output = installation.run(&["status", "--json"]).unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        let sources = status["sources"].clone();
        if ["home_delivery", "online_store"].iter().all(|name| is_troubled(&sources, name)) {
            break sources;
        }
        assert!(Instant::now() < deadline, "status does not tell who is down: {sources:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(!is_troubled(&trouble, "loyalty"), "{trouble:#}");
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

/// Whether `status` says that something is wrong with the source.
fn is_troubled(sources: &Value, name: &str) -> bool {
    let source = &sources[name];
    source["trouble"].is_string() || source["breaker"] == "open"
}

/// A cluster that can be started again: each start has a socket of its own, and the link leads to the last one.
fn start(home: &Path) -> (Cluster, String) {
    let cluster = Cluster::start(&Options::persistent(home.join("data"))).unwrap();
    let (run, link) = (cluster.run_directory(), home.join("run"));
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(run, &link).unwrap();
    let url = cluster.url().replace(run.to_str().unwrap(), link.to_str().unwrap());
    (cluster, url)
}

#[tokio::test]
async fn invariant_9_an_unreachable_database_stops_nothing_for_good() {
    let home = tempfile::tempdir().unwrap();
    let (mut cluster, url) = start(home.path());
    let installation = installation(&url);
    let mut daemon = installation.start(&["run", "--no-http"], "c360.log").unwrap();
    drop_night(&installation, 10);
    customers(&url, 1).await;

    for night in 11..13 {
        cluster.stop().unwrap();
        drop_night(&installation, night);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(daemon.is_running(), "it ends when the database does");
        cluster = start(home.path()).0;
        customers(&url, i64::from(night) - 9).await;
    }
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
    let log = std::fs::read_to_string(installation.path().join("c360.log")).unwrap();
    assert!(!log.contains("example.com") && !log.contains("secret"), "{log}");
}
