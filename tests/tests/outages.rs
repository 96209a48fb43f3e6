//! What is down stops nothing else, and nothing for good: c360 as a process, with sources and a database that go away.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::Path;
use std::time::Duration;

use c360_tests::program::Installation;
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use embedded_postgres::test::{Loss, Proxy, eventually, look_until};
use embedded_postgres::{Cluster, Options};
use serde_json::Value;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    let are_expected = |found: &Result<i64, _>| matches!(found, Ok(found) if *found == expected);
    look_until(&format!("{expected} customers"), async || count(database).await, are_expected).await.unwrap();
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

    let sources = async || {
        let output = installation.run(&["status", "--json"]).unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        status["sources"].clone()
    };
    let are_troubled =
        |sources: &Value| ["home_delivery", "online_store"].iter().all(|name| is_troubled(sources, name));
    let trouble = look_until("status tells who is down", sources, are_troubled).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn through_a_network_that_is_slow_and_breaks_off_every_message_of_a_broker_counts_once() {
    const MESSAGES: i32 = 3_000;
    let mut between = None;
    let broker = Broker::start_behind(async |port| {
        let server = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
        between.insert(Proxy::start(&server, Loss::Cut).await).port()
    });
    let broker = broker.await.unwrap();
    let proxy = between.unwrap();
    broker.create_topic(CUSTOMERS_TOPIC, 2).await.unwrap();
    broker.insert(CUSTOMERS_TOPIC, 2, 0..MESSAGES / 2).await.unwrap();
    let database = embedded_postgres::test::database().await;
    let installation = installation(&database.url)
        .with("C360__SOURCES__HOME_DELIVERY__BROKERS", &format!("127.0.0.1:{}", proxy.port()));
    proxy.delay(100);
    let daemon = installation.start(&["run", "--no-http"], "c360.log").unwrap();
    customers(&database.url, i64::from(MESSAGES / 2)).await;
    for _ in 0..5 {
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // Our own producer goes the same way: what it sends again would be a message of its own.
    proxy.delay(0);
    broker.insert(CUSTOMERS_TOPIC, 2, MESSAGES / 2..MESSAGES).await.unwrap();
    proxy.break_one_in(50);
    customers(&database.url, i64::from(MESSAGES)).await;
    proxy.break_one_in(0);
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let records: i64 =
        sqlx::query_scalar("select count(*) from staging.records").fetch_one(&mut connection).await.unwrap();
    assert_eq!(records, i64::from(MESSAGES));
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

/// The head of an answer to GET.
async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: c360\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.to_lowercase())
}

async fn until_ready(address: &str, status: &str) -> String {
    let ask = async || get(address, "/readyz").await.unwrap_or_default();
    look_until("/readyz", ask, |answer| answer.starts_with(&format!("http/1.1 {status}"))).await
}

#[tokio::test]
async fn when_all_connections_of_postgres_are_taken_everybody_waits_and_goes_on_once_there_are_some() {
    let home = tempfile::tempdir().unwrap();
    let options = Options::persistent(home.path().join("data")).setting("max_connections", "40");
    let cluster = Cluster::start(&options).unwrap();
    let url = cluster.url();
    let address =
        format!("127.0.0.1:{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let installation = installation(&url).with("C360__HTTP__LISTEN", &address);
    let mut daemon = installation.start(&["run"], "c360.log").unwrap();
    drop_night(&installation, 10);
    customers(&url, 1).await;
    until_ready(&address, "200").await;

    // Somebody takes every connection that c360 loses.
    let mut looker = PgConnection::connect(&url).await.unwrap();
    let (mut taken, mut refused) = (Vec::new(), 0);
    while refused < 5 {
        match PgConnection::connect(&url).await {
            Ok(connection) => taken.push(connection),
            Err(error) => {
                let code = error.as_database_error().and_then(DatabaseError::code);
                assert_eq!(code.as_deref(), Some("53300"), "{error}");
                let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'c360%'";
                let ended = sqlx::query(end).fetch_all(&mut looker).await.unwrap().len();
                refused = if ended == 0 { refused + 1 } else { 0 };
            }
        }
    }
    let answer = until_ready(&address, "503").await;
    assert!(answer.contains("retry-after: "), "{answer}");
    drop_night(&installation, 11);
    for _ in 0..20 {
        assert!(daemon.is_running(), "it ends when there are no connections");
        let landed: i64 =
            sqlx::query_scalar("select count(*) from staging.csv_imports").fetch_one(&mut looker).await.unwrap();
        assert_eq!(landed, 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(taken);
    until_ready(&address, "200").await;
    customers(&url, 2).await;
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

/// What Postgres says of a full disk, said by triggers: a small file system of its own would take root.
const FULL: &str = "
    create function public.no_space() returns trigger language plpgsql as $$
    begin
        raise exception 'could not extend file: No space left on device' using errcode = 'disk_full';
    end $$;
    create trigger no_space before insert on staging.batches execute function public.no_space();
    create trigger no_space before insert or update on customer360.customers execute function public.no_space()";

#[tokio::test]
async fn a_disk_that_is_full_is_said_and_waited_for_wherever_it_strikes() {
    let database = embedded_postgres::test::database().await;
    let installation = installation(&database.url);
    let daemon = installation.start(&["run", "--no-http"], "c360.log").unwrap();
    drop_night(&installation, 10);
    customers(&database.url, 1).await;

    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql(FULL).execute(&mut connection).await.unwrap();
    let said = async |doing: &str| {
        let log = async || std::fs::read_to_string(installation.path().join("c360.log")).unwrap();
        let tells = |line: &str| line.contains(doing) && line.contains("SQLSTATE 53100");
        eventually("it is said that the disk is full", async || log().await.lines().any(tells)).await;
    };
    drop_night(&installation, 11);
    said("landing rows of a file").await;
    sqlx::raw_sql("drop trigger no_space on staging.batches").execute(&mut connection).await.unwrap();
    said("consolidating failed").await;
    sqlx::raw_sql("drop trigger no_space on customer360.customers").execute(&mut connection).await.unwrap();
    customers(&database.url, 2).await;
    let counts: (i64, i64) =
        sqlx::query_as("select (select count(*) from staging.records), (select count(*) from staging.dead_letters)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(counts, (2, 2), "a member and a dead letter a night");
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}
