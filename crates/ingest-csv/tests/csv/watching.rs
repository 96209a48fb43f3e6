//! The daemon.

use std::fs;
use std::io::Write;
use std::time::Duration;

use embedded_postgres::test::{eventually, look_until};
use ingest_csv::Error;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{HEADER, Shop, members};

struct Daemon {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Daemon {
    fn start(shop: &Shop) -> Self {
        let cancel = CancellationToken::new();
        let run = ingest_csv::run(shop.settings.clone(), shop.options(), shop.lander(), cancel.clone());
        Self { cancel, task: tokio::spawn(run) }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn until_states(shop: &Shop, expected: &[(&str, &str)]) {
    let states = async || {
        let ledger = shop.ledger().await;
        ledger.iter().map(|row| (row.0.clone(), row.1.clone())).collect::<Vec<_>>()
    };
    let are_expected = |found: &Vec<(String, String)>| {
        found.iter().map(|(name, state)| (name.as_str(), state.as_str())).eq(expected.iter().copied())
    };
    look_until(&format!("the ledger becomes {expected:?}"), states, are_expected).await;
}

#[tokio::test]
async fn missed_nights_are_imported_oldest_first() {
    let shop = Shop::open().await;
    for night in ["2026-01-31", "2026-01-29", "2026-01-30"] {
        shop.put(&format!("loyalty_members_{night}.csv"), members(1..=3));
    }
    let daemon = Daemon::start(&shop);
    until_states(
        &shop,
        &[
            ("loyalty_members_2026-01-29.csv", "imported"),
            ("loyalty_members_2026-01-30.csv", "imported"),
            ("loyalty_members_2026-01-31.csv", "imported"),
        ],
    )
    .await;
    daemon.stop().await;
    // Started again it finds nothing new and says nothing twice.
    let daemon = Daemon::start(&shop);
    shop.put("loyalty_members_2026-02-01.csv", members(1..=3));
    eventually("the new night is imported", async || shop.ledger().await.get(3).is_some_and(|row| row.1 == "imported"))
        .await;
    assert_eq!(shop.ledger().await.len(), 4);
    daemon.stop().await;
}

#[tokio::test]
async fn a_file_that_is_still_written_to_is_left_alone_until_it_settles() {
    let mut shop = Shop::open().await;
    shop.settings.settle = Duration::from_millis(700);
    shop.settings.scan_every = Duration::from_millis(50);
    let daemon = Daemon::start(&shop);
    let mut file = fs::File::create(shop.path("loyalty_members_2026-01-31.csv")).unwrap();
    file.write_all(HEADER.as_bytes()).unwrap();
    for id in 0..40 {
        writeln!(file, "{id},s,A,B,m{id}@x.com,1").unwrap();
        file.flush().unwrap();
        assert_eq!(shop.ledger().await, [], "nothing is taken while rows still come");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    drop(file);
    until_states(&shop, &[("loyalty_members_2026-01-31.csv", "imported")]).await;
    assert_eq!(shop.published_ids().await.len(), 40);
    // Appended to after it was taken: a correction.
    let mut file = fs::File::options().append(true).open(shop.path("loyalty_members_2026-01-31.csv")).unwrap();
    writeln!(file, "99,s,A,B,m99@x.com,1").unwrap();
    drop(file);
    eventually("the longer version is imported", async || shop.ledger().await.len() == 2).await;
    eventually("the longer version is published", async || shop.published_ids().await.len() == 81).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_refused_file_is_not_tried_again_by_itself() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", HEADER);
    let daemon = Daemon::start(&shop);
    until_states(&shop, &[("loyalty_members_2026-01-31.csv", "refused")]).await;
    daemon.stop().await;
    let daemon = Daemon::start(&shop);
    shop.put("loyalty_members_2026-02-01.csv", members(1..=3));
    until_states(
        &shop,
        &[("loyalty_members_2026-01-31.csv", "refused"), ("loyalty_members_2026-02-01.csv", "imported")],
    )
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_yet_is_waited_for() {
    let mut shop = Shop::open().await;
    let directory = shop.path("not/yet");
    shop.settings.directory.clone_from(&directory);
    let daemon = Daemon::start(&shop);
    let stopped =
        "select count(*) from staging.sources where health->'stopped'->>0 like 'the directory cannot be read%'";
    eventually("status says so", async || shop.count(stopped).await == 1).await;
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("loyalty_members_2026-01-31.csv"), members(1..=3)).unwrap();
    until_states(&shop, &[("loyalty_members_2026-01-31.csv", "imported")]).await;
    let well = "select count(*) from staging.sources
                where health->'stopped' = '[]' and health->'last_file'->>'state' = 'imported'";
    eventually("status says that it works", async || shop.count(well).await == 1).await;
    daemon.stop().await;
}

#[tokio::test]
async fn two_daemons_on_one_directory_import_once() {
    let shop = Shop::open().await;
    let daemons = [Daemon::start(&shop), Daemon::start(&shop)];
    for night in 1..=3 {
        shop.put(&format!("loyalty_members_2026-01-0{night}.csv"), members(1..=5_000));
    }
    eventually("all nights are published", async || shop.published_ids().await.len() == 15_000).await;
    for daemon in daemons {
        daemon.stop().await;
    }
    assert_eq!(shop.ledger().await.iter().filter(|row| row.1 == "imported").count(), 3);
    assert_eq!(shop.count("select count(*) from staging.batches where completes_import").await, 3);
}

#[tokio::test]
async fn notifications_make_it_look_at_once_and_scans_find_what_they_miss() {
    let mut shop = Shop::open().await;
    shop.settings.scan_every = Duration::from_hours(1);
    let daemon = Daemon::start(&shop);
    eventually("the daemon looks", async || shop.count("select count(*) from staging.sources").await == 1).await;
    let hidden = shop.put(".loyalty_members.csv", members(1..=3));
    fs::rename(hidden, shop.path("loyalty_members_2026-01-31.csv")).unwrap();
    until_states(&shop, &[("loyalty_members_2026-01-31.csv", "imported")]).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_directory_from_which_no_notification_comes_is_looked_at_all_the_same() {
    let mut shop = Shop::open().await;
    shop.settings.directory = shop.path("drop");
    fs::create_dir(shop.path("drop")).unwrap();
    let daemon = Daemon::start(&shop);
    eventually("the daemon looks", async || shop.count("select count(*) from staging.sources").await == 1).await;
    // Another directory is mounted over it, or takes its place: what is watched is the one that went away.
    fs::rename(shop.path("drop"), shop.path("gone")).unwrap();
    fs::create_dir(shop.path("drop")).unwrap();
    fs::write(shop.path("gone/loyalty_members_2026-01-30.csv"), members(4..=5)).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    fs::write(shop.path("drop/loyalty_members_2026-01-31.csv"), members(1..=3)).unwrap();
    until_states(&shop, &[("loyalty_members_2026-01-31.csv", "imported")]).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_burst_of_files_is_imported_to_the_last_one() {
    const FILES: u64 = 150;
    let mut shop = Shop::open().await;
    shop.settings.full_export = false;
    // So that their notifications come while one of them is imported.
    let daemon = Daemon::start(&shop);
    for file in 1..=FILES {
        fs::write(shop.path(&format!("loyalty_members_{file}.csv.tmp")), members(file..=file)).unwrap();
        fs::rename(
            shop.path(&format!("loyalty_members_{file}.csv.tmp")),
            shop.path(&format!("loyalty_members_{file}.csv")),
        )
        .unwrap();
    }
    eventually("every file is in the ledger", async || {
        let imported = "select count(*) from staging.csv_imports where state = 'imported'";
        shop.count(imported).await == i64::try_from(FILES).unwrap()
    })
    .await;
    daemon.stop().await;
    assert_eq!(shop.published_ids().await.len(), usize::try_from(FILES).unwrap());
}

#[tokio::test]
async fn the_same_refused_content_on_another_night_is_refused_again() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-30.csv", HEADER);
    shop.put("loyalty_members_2026-01-31.csv", HEADER);
    let daemon = Daemon::start(&shop);
    let refused = [("loyalty_members_2026-01-30.csv", "refused"), ("loyalty_members_2026-01-31.csv", "refused")];
    until_states(&shop, &refused).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_file_without_its_marker_is_seen_to_wait_until_it_comes() {
    let mut shop = Shop::open().await;
    shop.settings.marker = Some(".done".to_owned());
    shop.put("loyalty_members_2026-01-30.csv", members(1..=2));
    let marker = shop.put("loyalty_members_2026-01-30.csv.done", "");
    shop.import_one().await;
    // Tidied away after the import.
    fs::remove_file(marker).unwrap();
    shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    let daemon = Daemon::start(&shop);
    let waits = "select count(*) from staging.sources where health->'waiting' =
        '{\"file\": \"loyalty_members_2026-01-31.csv\", \"reason\": \"its marker loyalty_members_2026-01-31.csv.done is not there\"}'
        and (health->>'oldest_unlanded_seconds')::int > 0";
    eventually("status says what it waits for", async || shop.count(waits).await == 1).await;
    assert_eq!(shop.ledger().await.len(), 1);
    shop.put("loyalty_members_2026-01-31.csv.done", "3");
    eventually("it is imported", async || shop.ledger().await.len() == 2).await;
    let well = "select count(*) from staging.sources
                where health->'waiting' = 'null' and health->>'oldest_unlanded_seconds' = '0'";
    eventually("status says that nothing waits", async || shop.count(well).await == 1).await;
    daemon.stop().await;
    assert_eq!(shop.ledger().await.iter().map(|row| row.1.as_str()).collect::<Vec<_>>(), ["imported"; 2]);
}

#[tokio::test]
async fn a_daemon_outlives_an_outage_of_the_database() {
    let mut shop = Shop::open().await;
    shop.pool.close().await;
    let mut server = shop.options().database("postgres").connect().await.unwrap();
    let away = format!("{}_away", shop.database.name);
    rename(&mut server, &shop.database.name, &away).await;
    shop.put("loyalty_members_2026-01-31.csv", members(1..=3));
    let daemon = Daemon::start(&shop);
    // Long enough for some attempts; nobody outside can see them fail.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!daemon.task.is_finished(), "it waits");
    rename(&mut server, &away, &shop.database.name).await;
    shop.pool = shop.database.pool().await;
    until_states(&shop, &[("loyalty_members_2026-01-31.csv", "imported")]).await;
    daemon.stop().await;
}

async fn rename(server: &mut PgConnection, from: &str, to: &str) {
    let sql = AssertSqlSafe(format!("alter database {from} rename to {to}"));
    sqlx::query(sql).execute(server).await.unwrap();
}
