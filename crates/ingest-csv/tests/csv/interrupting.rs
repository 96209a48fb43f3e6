//! Imports that end half-way, and several at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use embedded_postgres::test::eventually;
use ingest_csv::{Error, ImportOptions, Outcome};
use sha2::Digest;
use tokio_util::sync::CancellationToken;

use crate::support::{HEADER, Shop, members};

#[tokio::test]
async fn an_import_that_died_half_way_starts_again_and_is_published_exactly_once() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", members(1..=20_000) + "bad\n");
    let landed = AtomicBool::new(false);
    let mut on_progress = |_: &_| landed.store(true, Ordering::SeqCst);
    {
        let options = ImportOptions::default();
        let import = ingest_csv::import(
            shop.settings.clone(),
            shop.options(),
            shop.lander(),
            &[],
            &options,
            &mut on_progress,
            CancellationToken::new(),
        );
        let mut import = Box::pin(import);
        // Dropped between two awaits, as a killed process would be, once something is landed.
        std::future::poll_fn(|context| match import.as_mut().poll(context) {
            std::task::Poll::Pending if !landed.load(Ordering::SeqCst) => std::task::Poll::Pending,
            _ => std::task::Poll::Ready(()),
        })
        .await;
    }
    assert_eq!(shop.ledger().await[0].1, "importing");
    assert_eq!(shop.published_ids().await.len(), 0, "nothing of half a file is published");
    let options = ImportOptions { wait: Duration::from_secs(10), ..ImportOptions::default() };
    let reports = shop.import(&options).await.unwrap();
    assert_eq!((reports[0].state, reports[0].rows), (Outcome::Imported, 20_001));
    assert_eq!(shop.ledger().await.len(), 1);
    assert_eq!(shop.published_ids().await.len(), 20_000);
    assert_eq!(shop.parked().await.len(), 1);
    assert!(shop.count("select count(*) from staging.batches where abandoned_at is not null").await > 0);
    assert_eq!(shop.count("select count(*) from staging.batches where completes_import").await, 1);
}

#[tokio::test]
async fn two_importers_import_one_file_once() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", members(1..=20_000));
    let options = ImportOptions { wait: Duration::from_mins(1), ..ImportOptions::default() };
    let (one, other) = tokio::join!(shop.import(&options), shop.import(&options));
    let mut states = [one.unwrap()[0].state, other.unwrap()[0].state];
    states.sort_by_key(|state| *state != Outcome::Imported);
    assert_eq!(states, [Outcome::Imported, Outcome::Copy]);
    assert_eq!(shop.published_ids().await.len(), 20_000);
    assert_eq!(shop.count("select count(*) from staging.records").await, 20_000);
}

#[tokio::test]
async fn who_does_not_wait_is_told_that_another_one_imports() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", members(1..=2));
    let mut other = shop.pool.acquire().await.unwrap();
    assert!(staging::imports::lock(&mut *other, "loyalty").await.unwrap());
    for dry_run in [false, true] {
        let outcome = shop.import(&ImportOptions { dry_run, ..ImportOptions::default() }).await;
        assert!(matches!(outcome, Err(Error::Locked(_))), "{outcome:?}");
    }
    staging::imports::unlock(&mut *other, "loyalty").await.unwrap();
    assert_eq!(shop.import_one().await.state, Outcome::Imported);
}

#[tokio::test]
async fn a_connection_that_dies_while_a_file_lands_costs_nothing() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", members(1..=40_000));
    let done = CancellationToken::new();
    let killer = {
        let (pool, done) = (shop.pool.clone(), done.clone());
        tokio::spawn(async move {
            let mut killed = 0_i64;
            while !done.is_cancelled() && killed < 6 {
                killed += sqlx::query_scalar::<_, i64>(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where datname = current_database() and application_name = 'c360' and state <> 'idle'",
                )
                .fetch_one(&pool)
                .await
                .unwrap();
                tokio::task::yield_now().await;
            }
            killed
        })
    };
    let mut states = Vec::new();
    // `import` gives a database that fails outside of landing back to its caller; the daemon tries again.
    for _ in 0..50 {
        match shop.import(&ImportOptions { wait: Duration::from_secs(10), ..ImportOptions::default() }).await {
            Ok(reports) => {
                states = reports.iter().map(|report| report.state).collect();
                break;
            }
            Err(Error::Staging(error)) if error.is_transient() => {}
            Err(error) => panic!("{error}"),
        }
    }
    done.cancel();
    assert!(killer.await.unwrap() > 0, "something was killed");
    assert!(states == [Outcome::Imported] || states == [Outcome::Copy], "{states:?}");
    assert_eq!(shop.published_ids().await.len(), 40_000);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_not_published() {
    let shop = Shop::open().await;
    let path = shop.put("loyalty_members_2026-01-31.csv", members(1..=20_000));
    let append = path.clone();
    let mut appended = 0;
    let mut on_progress = |_: &_| {
        if appended == 0 {
            let mut text = std::fs::read_to_string(&append).unwrap();
            text.push_str("99999,s,A,B,late@x.com,1\n");
            std::fs::write(&append, text).unwrap();
            appended = 1;
        }
    };
    let reports = ingest_csv::import(
        shop.settings.clone(),
        shop.options(),
        shop.lander(),
        &[path],
        &ImportOptions::default(),
        &mut on_progress,
        CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!((reports[0].state, reports[0].rows), (Outcome::Imported, 20_001), "it started again");
    let whole = hex::encode(sha2::Sha256::digest(std::fs::read(&append).unwrap()));
    assert_eq!(reports[0].sha256.as_ref(), Some(&whole), "what is published is what was hashed");
    assert_eq!(shop.ledger().await.len(), 1, "one consistent version only");
    assert_eq!(shop.published_ids().await.len(), 20_001);
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_read_gives_one_version_whole_and_then_the_other() {
    let shop = Shop::open().await;
    let path = shop.put("loyalty_members_2026-01-31.csv", members(1..=20_000));
    let other = shop.put_at(".other", members(1..=20_001), 1_700_000_100);
    let mut on_progress = |_: &_| {
        let _ = std::fs::rename(&other, &path);
    };
    let reports = ingest_csv::import(
        shop.settings.clone(),
        shop.options(),
        shop.lander(),
        std::slice::from_ref(&path),
        &ImportOptions::default(),
        &mut on_progress,
        CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!((reports[0].state, reports[0].rows), (Outcome::Imported, 20_000), "the one that was opened");
    let report = shop.import_one().await;
    assert_eq!((report.state, report.rows), (Outcome::Imported, 20_001));
    assert_eq!(shop.ledger().await.iter().map(|row| row.2).collect::<Vec<_>>(), [20_000, 20_001]);
}

#[tokio::test]
async fn a_file_that_is_cut_short_while_it_is_read_is_not_published() {
    let shop = Shop::open().await;
    let path = shop.put("loyalty_members_2026-01-31.csv", members(1..=40_000));
    let half = std::fs::metadata(&path).unwrap().len() / 2;
    let mut on_progress = |_: &_| std::fs::File::options().write(true).open(&path).unwrap().set_len(half).unwrap();
    let reports = ingest_csv::import(
        shop.settings.clone(),
        shop.options(),
        shop.lander(),
        std::slice::from_ref(&path),
        &ImportOptions::default(),
        &mut on_progress,
        CancellationToken::new(),
    )
    .await
    .unwrap();
    let left = hex::encode(sha2::Sha256::digest(std::fs::read(&path).unwrap()));
    assert_eq!((reports[0].state, reports[0].sha256.as_ref()), (Outcome::Changing, Some(&left)), "cut at every look");
    assert_eq!(shop.published_ids().await.len(), 0);
    assert_eq!(shop.count("select count(*) from staging.batches where abandoned_at is null").await, 0);
}

#[tokio::test]
async fn a_full_disk_of_the_database_is_waited_for() {
    let shop = Shop::open().await;
    shop.put("loyalty_members_2026-01-31.csv", members(1..=20_000));
    // As Postgres says it, from the second part on; a sequence counts what is rolled back, too.
    sqlx::raw_sql(
        "create sequence attempts;
         create function full_disk() returns trigger language plpgsql as $$
         begin
             if nextval('attempts') > 1 then
                 raise exception 'could not extend file: No space left on device' using errcode = 'disk_full';
             end if;
             return null;
         end $$;
         create trigger full_disk before insert on staging.records for each statement execute function full_disk();",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    let options = ImportOptions::default();
    let (reports, ()) = tokio::join!(shop.import(&options), async {
        let attempts = async || shop.count("select last_value from attempts").await;
        eventually("it tries again", async || attempts().await >= 3).await;
        assert_eq!(shop.ledger().await[0].1, "importing", "it waits, and keeps what it has");
        sqlx::query("drop trigger full_disk on staging.records").execute(&shop.pool).await.unwrap();
    });
    let report = &reports.unwrap()[0];
    assert_eq!((report.state, report.rows), (Outcome::Imported, 20_000));
    assert_eq!(shop.published_ids().await.len(), 20_000);
    assert_eq!(shop.count("select count(*) from staging.records").await, 20_000, "and nothing lands twice");
}

#[tokio::test]
async fn a_zombie_is_fenced_by_whoever_took_over() {
    let shop = Shop::open().await;
    let mut connection = shop.pool.acquire().await.unwrap();
    let now = chrono::Utc::now();
    let file = staging::imports::File {
        directory: "drop".to_owned(),
        source: "loyalty".to_owned(),
        file_name: "loyalty_members_2026-01-31.csv".to_owned(),
        as_of: now,
        mtime: now,
        dated: true,
        full_export: true,
        sha256: "00".to_owned(),
    };
    let import_id = staging::imports::begin(&mut *connection, &file, now).await.unwrap();
    shop.put("loyalty_members_2026-01-31.csv", HEADER.to_owned() + "1,s,A,B,a@x.com,1\n");
    shop.import_one().await;
    let mut batch = staging::Batch::new("loyalty", Duration::from_mins(1));
    batch.skip();
    let checkpoint = staging::Checkpoint::Csv { import_id, rows_before: 0, rows: 1 };
    let landing = shop.lander().land(&mut batch, &serde_json::json!({}), &checkpoint, now).await.unwrap();
    assert_eq!(landing, staging::Landing::Fenced);
    let ttl = Duration::from_mins(1);
    assert!(!staging::imports::publish(&mut connection, import_id, 0, ttl, now).await.unwrap());
}
