//! The life of a cluster: it starts, keeps what it should, and is gone when its owner is.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use embedded_postgres::test::eventually;
use embedded_postgres::{Cluster, Error, Guest, Options};
use sqlx::{Connection, PgConnection};

async fn ask(url: &str, query: &'static str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
}

fn alive(pid: u32) -> bool {
    let status = Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status();
    status.unwrap().success()
}

/// A directory that the user `postgres` can reach, whoever runs the tests.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    home
}

#[tokio::test]
async fn a_temporary_cluster_starts_fast_and_leaves_nothing() {
    let since = Instant::now();
    let cluster = Cluster::start(&Options::temporary()).unwrap();
    eprintln!("started in {:?}", since.elapsed());
    assert_eq!(ask(&cluster.url(), "select lower('ÄÖ')").await, "äö");
    assert_eq!(ask(&cluster.url(), "show fsync").await, "off");
    assert_eq!(ask(&cluster.url(), "show listen_addresses").await, "");
    let run = cluster.run_directory().to_owned();
    assert_eq!(run.metadata().unwrap().mode() & 0o777, 0o700);
    let pid = cluster.pid();
    cluster.stop().unwrap();
    assert!(!alive(pid) && !run.exists());
}

#[tokio::test]
async fn creates_a_database_once() {
    let cluster = Cluster::start(&Options::temporary()).unwrap();
    let name = "odd \"name\"/?";
    assert!(cluster.create_database(name).await.unwrap());
    assert!(!cluster.create_database(name).await.unwrap());
    assert_eq!(ask(&cluster.url_for(name), "select current_database()::text").await, name);
}

#[tokio::test]
async fn a_persistent_cluster_keeps_its_data_and_asks_for_its_password() {
    let home = home();
    let options = Options::persistent(home.path().join("postgres"));
    let cluster = Cluster::start(&options).unwrap();
    assert_eq!(ask(&cluster.url(), "show fsync").await, "on");
    assert!(cluster.create_database("kept").await.unwrap());
    let password_file = home.path().join("postgres/password");
    assert_eq!(password_file.metadata().unwrap().mode() & 0o777, 0o600);
    let password = std::fs::read_to_string(password_file).unwrap();
    let without = cluster.url().replace(&format!(":{}@", password.trim()), "@");
    assert_ne!(without, cluster.url());
    let refused = PgConnection::connect(&without).await.unwrap_err();
    assert!(refused.to_string().contains("password"), "{refused}");
    cluster.stop().unwrap();

    let cluster = Cluster::start(&options).unwrap();
    assert_eq!(ask(&cluster.url_for("kept"), "select 'here'").await, "here");
}

#[tokio::test]
async fn over_tcp_everybody_needs_the_password() {
    let cluster = Cluster::start(&Options::temporary().tcp(true)).unwrap();
    let url = cluster.tcp_url_for("postgres").unwrap();
    assert_eq!(ask(&url, "select 'here'").await, "here");
    let (before, after) = url.split_once("//postgres:").unwrap();
    let without = format!("{before}//postgres@{}", after.split_once('@').unwrap().1);
    assert!(PgConnection::connect(&without).await.is_err());
    assert_eq!(Cluster::start(&Options::temporary()).unwrap().tcp_url_for("postgres"), None);
}

#[tokio::test]
async fn a_second_owner_is_refused_and_a_guest_is_not() {
    let home = home();
    let options = Options::persistent(home.path());
    assert!(Guest::find(home.path()).unwrap().is_none());
    let cluster = Cluster::start(&options).unwrap();
    let error = Cluster::start(&options).unwrap_err();
    assert!(matches!(&error, Error::InUse { pid: Some(pid), .. } if *pid == cluster.pid()), "{error}");
    let guest = Guest::find(home.path()).unwrap().unwrap();
    assert_eq!(ask(&guest.url_for("postgres"), "select 'welcome'").await, "welcome");
    assert!(!guest.has_ended());
    cluster.stop().unwrap();
    assert!(guest.has_ended());
    assert!(Guest::find(home.path()).unwrap().is_none());
    let _next = Cluster::start(&options).unwrap();
    assert!(guest.has_ended(), "the next owner listens elsewhere");
}

#[test]
fn says_why_postgres_did_not_start() {
    let error = Cluster::start(&Options::temporary().setting("max_connections", "many")).unwrap_err();
    assert!(error.to_string().contains("max_connections"), "{error}");
}

#[test]
fn an_initdb_that_was_interrupted_is_done_again() {
    let home = home();
    std::fs::create_dir(home.path().join("data.new")).unwrap();
    std::fs::write(home.path().join("data.new/PG_VERSION"), "15\n").unwrap();
    Cluster::start(&Options::persistent(home.path())).unwrap();
}

#[test]
fn refuses_data_of_a_version_that_is_not_here() {
    let home = home();
    std::fs::create_dir(home.path().join("data")).unwrap();
    std::fs::write(home.path().join("data/PG_VERSION"), "12\n").unwrap();
    let error = Cluster::start(&Options::persistent(home.path())).unwrap_err();
    assert!(matches!(error, Error::OtherVersion { data: 12, .. }), "{error}");
}

#[tokio::test]
async fn every_test_gets_a_database_of_its_own() {
    let (one, two) = (embedded_postgres::test::database().await, embedded_postgres::test::database().await);
    for database in [&one, &two] {
        sqlx::query("create table t (id int)").execute(&database.pool().await).await.unwrap();
    }
    assert_ne!(one.url, two.url);
}

/// What the process below tells about its cluster.
struct Owner {
    process: Child,
    pid: u32,
    run: PathBuf,
}

/// Runs `the_process_that_owns_a_cluster` as a process of its own, so that it can be killed.
fn owner(mode: &str, home: &Path) -> Owner {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_process_that_owns_a_cluster", "--nocapture"])
        .env("OWNER_MODE", mode)
        .env("OWNER_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("cluster "));
    let line = line.expect("the process tells about its cluster");
    let mut words = line.split(' ').skip(1);
    let pid = words.next().unwrap().parse().unwrap();
    Owner { process, pid, run: words.next().unwrap().into() }
}

#[test]
#[ignore = "not a test: the process that other tests start and kill"]
fn the_process_that_owns_a_cluster() {
    let tell = |cluster: &Cluster| println!("\ncluster {} {}", cluster.pid(), cluster.run_directory().display());
    match std::env::var("OWNER_MODE").as_deref() {
        // The spawning thread ends at once; Postgres must not end with it.
        Ok("persistent") => {
            let options = Options::persistent(std::env::var_os("OWNER_HOME").unwrap());
            let cluster = std::thread::spawn(move || Cluster::start(&options).unwrap()).join().unwrap();
            tell(&cluster);
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        Ok("test_static") => tell(embedded_postgres::test::cluster()),
        _ => {}
    }
}

#[tokio::test]
async fn kill_9_of_the_owner_ends_postgres_and_the_next_one_starts() {
    let home = home();
    let Owner { mut process, pid, run } = owner("persistent", home.path());
    assert!(alive(pid));
    process.kill().unwrap();
    process.wait().unwrap();
    // At once: the predecessor is still stopping.
    let next = Cluster::start(&Options::persistent(home.path())).unwrap();
    assert!(!alive(pid));
    eventually("the run directory is gone", async || !run.exists()).await;
    assert_ne!(next.pid(), pid);
}

#[tokio::test]
async fn the_cluster_of_a_test_process_ends_with_the_process() {
    let Owner { mut process, pid, run } = owner("test_static", Path::new("/nonexistent"));
    process.wait().unwrap();
    eventually("postgres has ended", async || !alive(pid)).await;
    eventually("the run directory is gone", async || !run.exists()).await;
}

#[tokio::test]
async fn a_crash_of_postgres_itself_is_survived_by_the_next_start() {
    let home = home();
    let options = Options::persistent(home.path());
    let mut cluster = Cluster::start(&options).unwrap();
    assert!(!cluster.has_ended());
    Command::new("kill").args(["-9", &cluster.pid().to_string()]).status().unwrap();
    eventually("the end is noticed", async || cluster.has_ended()).await;
    drop(cluster);
    // The pidfile is stale now, and says `ready`.
    assert!(Guest::find(home.path()).unwrap().is_none());
    Cluster::start(&options).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn kill_9_of_the_keeper_ends_postgres_too() {
    let cluster = Cluster::start(&Options::temporary()).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid())).unwrap();
    let keeper = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
    Command::new("kill").args(["-9", keeper]).status().unwrap();
    eventually("postgres has ended", async || !alive(cluster.pid())).await;
}
