//! Single faults, one process or two: c360 as it is run, a real broker, and one thing that goes wrong at a time. What goes
//! wrong at random is in `soak`.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::ops::Range;
use std::time::{Duration, Instant};

use c360_tests::event;
use c360_tests::program::{Installation, Running};
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use embedded_postgres::test::{Loss, Proxy, TestDatabase, eventually, look_until};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

const PATIENCE: Duration = Duration::from_mins(3);
const LANDED: &str = "select coalesce(sum(next_offset), 0)::bigint from staging.kafka_offsets";
const CUSTOMERS: &str = "select count(*) from customer360.documents";
const PARTITIONS: i64 = 2;

struct World {
    broker: Broker,
    database: TestDatabase,
    pool: PgPool,
    installation: Installation,
}

impl World {
    async fn new() -> Self {
        let broker = Broker::start().await.unwrap();
        broker.create_topic(CUSTOMERS_TOPIC, u16::try_from(PARTITIONS).unwrap()).await.unwrap();
        let database = embedded_postgres::test::database().await;
        let installation = Installation::reference(&database.url, &broker.bootstrap()).unwrap().with(
            "C360__SOURCES__HOME_DELIVERY__PROPERTIES",
            r#"{ "session.timeout.ms" = "6000", "heartbeat.interval.ms" = "1000" }"#,
        );
        let pool = database.pool().await;
        Self { broker, database, pool, installation }
    }

    fn run(&self, log: &str) -> Running {
        self.installation.start(&["run", "--no-http"], log).unwrap()
    }

    /// Everybody has a name and an email of their own.
    async fn produce(&self, ids: Range<i64>) {
        let event = |id| event::change(id, &json!({"after": {"city": "x".repeat(400)}})).to(partition(id));
        self.broker.send_all(CUSTOMERS_TOPIC, ids.map(event)).await.unwrap();
    }

    /// Everybody lives elsewhere now.
    async fn move_all(&self, ids: Range<i64>, pos: i64, city: &str) {
        let event = |id| {
            let moved = json!({"after": {"city": city}, "source": {"pos": pos + id}});
            event::change(id, &moved).to(partition(id))
        };
        self.broker.send_all(CUSTOMERS_TOPIC, ids.map(event)).await.unwrap();
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap_or(-1)
    }

    async fn until_count(&self, sql: &'static str, expected: i64) {
        let found = look_until(sql, async || self.count(sql).await, |count| *count >= expected).await;
        assert_eq!(found, expected, "{sql}");
    }

    /// In the middle of a transaction it would hold everybody up until Postgres ends that, which is after two minutes.
    async fn freeze_between_transactions(&self, process: &Running) {
        const OPEN: &str = "select count(*) from pg_stat_activity
                            where datname = current_database() and application_name = 'c360' and xact_start is not null";
        loop {
            process.freeze().unwrap();
            // What it had sent Postgres does to its end.
            let deadline = Instant::now() + Duration::from_millis(500);
            while Instant::now() < deadline {
                if self.count(OPEN).await == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            process.thaw().unwrap();
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    }

    /// Every message from 0 to here is a record, once, and somebody's customer.
    async fn every_message_counts_once(&self, messages: i64) {
        self.until_count(LANDED, messages).await;
        let ids: Vec<i64> = sqlx::query_scalar("select external_id::bigint from staging.records order by 1")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        let twice: Vec<&i64> = ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).take(9).collect();
        let lost: Vec<i64> = (0..messages).filter(|id| ids.binary_search(id).is_err()).take(9).collect();
        assert!(twice.is_empty() && lost.is_empty(), "twice: {twice:?}, lost: {lost:?}");
        self.until_count(CUSTOMERS, messages).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_reply_is_lost_neither_doubles_nor_skips_messages() {
    let world = World::new().await;
    let server: PgConnectOptions = world.database.url.parse().unwrap();
    let proxy = Proxy::start(&server, Loss::Cut).await;
    let name = &world.database.name;
    let url = format!("postgres://{}@127.0.0.1:{}/{name}?sslmode=disable", server.get_username(), proxy.port());
    let variables = [("C360__DATABASE__URL", url.as_str())];
    let daemon = world.installation.start_with(&["run", "--no-http"], "c360.log", &variables).unwrap();
    world.produce(0..10).await;
    world.every_message_counts_once(10).await;

    let mut messages = 10;
    for _ in 0..15 {
        proxy.lose_the_next_commit();
        world.produce(messages..messages + 40).await;
        messages += 40;
        tokio::time::timeout(PATIENCE, proxy.lost()).await.unwrap();
    }
    world.every_message_counts_once(messages).await;
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_that_wakes_up_is_fenced_and_neither_doubles_nor_skips_messages() {
    let world = World::new().await;
    let zombie = world.run("zombie.log");
    world.produce(0..100).await;
    world.every_message_counts_once(100).await;

    // It is frozen with batches open and on their way.
    world.produce(100..15_000).await;
    eventually("the zombie is in the middle", async || world.count(LANDED).await > 1_000).await;
    world.freeze_between_transactions(&zombie).await;
    assert!(world.count(LANDED).await < 15_000, "it was done before it was frozen");
    let successor = world.run("successor.log");
    world.until_count(LANDED, 15_000).await;
    zombie.thaw().unwrap();
    let messages = 16_000;
    world.produce(15_000..messages).await;
    world.until_count(LANDED, messages).await;
    assert_eq!(successor.terminate().unwrap().0, Some(0));
    world.every_message_counts_once(messages).await;
    assert_eq!(zombie.terminate().unwrap().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_any_step_of_a_backlog_neither_doubles_nor_skips_messages() {
    const MESSAGES: i64 = 30_000;
    let world = World::new().await;
    world.produce(0..MESSAGES).await;
    // Two that share the partitions: one takes over from the other all the time.
    let mut daemons = [world.run("one.log"), world.run("other.log")];
    for round in 0..14 {
        let landed = world.count(LANDED).await;
        // At some point of landing or merging, another one each time.
        let step = 150 * round;
        let deadline = Instant::now() + Duration::from_secs(2);
        while world.count(LANDED).await < (landed + step).min(MESSAGES) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let which = usize::try_from(round % 2).unwrap();
        let log = ["one.log", "other.log"][which];
        std::mem::replace(&mut daemons[which], world.run(log)).kill().unwrap();
    }
    world.every_message_counts_once(MESSAGES).await;
    for daemon in daemons {
        assert_eq!(daemon.terminate().unwrap().0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_well_in_time_and_whoever_comes_next_goes_on() {
    const MESSAGES: i64 = 30_000;
    let world = World::new().await;
    world.produce(0..MESSAGES).await;
    for _ in 0..3 {
        let landed = world.count(LANDED).await.max(0);
        let daemon = world.run("c360.log");
        eventually("it is in the middle", async || world.count(LANDED).await >= (landed + 2_000).min(MESSAGES)).await;
        let (code, took) = daemon.terminate().unwrap();
        assert_eq!(code, Some(0));
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
    let daemon = world.run("c360.log");
    world.every_message_counts_once(MESSAGES).await;
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_time_while_the_broker_is_frozen() {
    let world = World::new().await;
    let daemon = world.run("c360.log");
    world.produce(0..100).await;
    world.every_message_counts_once(100).await;
    let trouble =
        "select count(*) from staging.sources where source = 'home_delivery' and health ->> 'trouble' is not null";
    world.broker.freeze().unwrap();
    let (code, took) = daemon.terminate().unwrap();
    assert_eq!(code, Some(0), "at once, before anybody has noticed");
    assert!(took < Duration::from_secs(10), "{took:?}");

    let daemon = world.run("c360.log");
    eventually("it cannot reach its broker", async || world.count(trouble).await == 1).await;
    let (code, took) = daemon.terminate().unwrap();
    assert_eq!(code, Some(0), "while it tries again");
    assert!(took < Duration::from_secs(10), "{took:?}");

    world.broker.thaw().unwrap();
    let daemon = world.run("c360.log");
    world.produce(100..200).await;
    world.every_message_counts_once(200).await;
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

fn partition(id: i64) -> i32 {
    i32::try_from(id % PARTITIONS).unwrap()
}

/// The numbers of the server's processes that hold a lock of the consolidator's.
async fn consolidating(pool: &PgPool) -> Vec<i32> {
    let sql = "select distinct pid from pg_locks
               where locktype = 'advisory' and granted and classid = hashtext('c360.consolidator')::oid
                 and database = (select oid from pg_database where datname = current_database())
               order by pid";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_consolidates_and_the_other_takes_over_within_seconds_when_that_is_killed() {
    let world = World::new().await;
    let first = world.run("first.log");
    world.produce(0..100).await;
    world.every_message_counts_once(100).await;
    let holders = consolidating(&world.pool).await;
    let second = world.run("second.log");
    eventually("the second one stands by", async || {
        world
            .count("select count(distinct client_port) from pg_stat_activity where application_name like 'c360%'")
            .await
            > 0
            && std::fs::read_to_string(world.installation.path().join("second.log")).unwrap().contains("reading")
    })
    .await;
    world.produce(100..5_000).await;
    eventually("some are merged", async || world.count(CUSTOMERS).await > 100).await;
    assert_eq!(consolidating(&world.pool).await, holders, "one is at work, the other is not");

    first.kill().unwrap();
    let killed = Instant::now();
    eventually("the other one has taken over", async || {
        let now = consolidating(&world.pool).await;
        !now.is_empty() && now.iter().all(|pid| !holders.contains(pid))
    })
    .await;
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    world.produce(5_000..6_000).await;
    world.every_message_counts_once(6_000).await;
    let log = std::fs::read_to_string(world.installation.path().join("second.log")).unwrap();
    assert!(!log.contains("deadlock"), "{log}");
    assert_eq!(second.terminate().unwrap().0, Some(0));
}

const MOVED: &str = "select count(*) from customer360.documents where document->'profile'->>'city' = 'Bern'";
/// Whoever is folded twice shows here, and whoever is merged twice with another outcome.
const WRITTEN_TWICE: &str = "select count(*) from (
    select customer_id, attribute from customer360.changes where attribute is null or new = to_jsonb('Bern'::text)
    group by customer_id, attribute having count(*) > 1
) twice";

#[tokio::test(flavor = "multi_thread")]
async fn while_the_one_that_consolidates_is_frozen_the_other_takes_over_and_nothing_is_done_twice_when_it_wakes_up() {
    const MESSAGES: i64 = 6_000;
    let world = World::new().await;
    let first = world.run("first.log");
    world.produce(0..100).await;
    world.every_message_counts_once(100).await;
    let holders = consolidating(&world.pool).await;
    let second = world.run("second.log");
    world.produce(100..MESSAGES).await;
    world.every_message_counts_once(MESSAGES).await;
    assert_eq!(consolidating(&world.pool).await, holders, "one is at work, the other is not");

    // It freezes while it lands, merges or folds profiles that exist.
    world.move_all(0..MESSAGES, 1_000_000, "Bern").await;
    eventually("it is in the middle", async || world.count(LANDED).await > MESSAGES + 1_000).await;
    first.freeze().unwrap();
    assert!(world.count(MOVED).await < MESSAGES, "it was done before it was frozen");
    eventually("the other one has taken over", async || {
        let now = consolidating(&world.pool).await;
        !now.is_empty() && now.iter().all(|pid| !holders.contains(pid))
    })
    .await;
    world.until_count(MOVED, MESSAGES).await;

    first.thaw().unwrap();
    world.produce(MESSAGES..MESSAGES + 500).await;
    world.until_count(CUSTOMERS, MESSAGES + 500).await;
    assert_eq!(world.count(MOVED).await, MESSAGES, "nobody has moved back");
    assert_eq!(world.count(WRITTEN_TWICE).await, 0);
    assert_eq!(first.terminate().unwrap().0, Some(0));
    assert_eq!(second.terminate().unwrap().0, Some(0));
    let records = world.count("select count(*) from staging.records").await;
    assert_eq!(records, 2 * MESSAGES + 500, "every message is a record, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_any_step_of_consolidating_profiles_that_exist_does_nothing_twice() {
    const MESSAGES: i64 = 6_000;
    let world = World::new().await;
    let mut daemon = world.run("c360.log");
    world.produce(0..MESSAGES).await;
    world.every_message_counts_once(MESSAGES).await;
    world.move_all(0..MESSAGES, 1_000_000, "Bern").await;
    for round in 0..8 {
        // At some point of reading, merging or folding, another one each time.
        let moved = world.count(MOVED).await;
        let deadline = Instant::now() + Duration::from_millis(250 * round);
        while world.count(MOVED).await <= moved && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::mem::replace(&mut daemon, world.run("c360.log")).kill().unwrap();
    }
    world.until_count(MOVED, MESSAGES).await;
    assert_eq!(world.count(CUSTOMERS).await, MESSAGES);
    assert_eq!(world.count(WRITTEN_TWICE).await, 0);
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

/// Members of a file; each has an email of their own.
fn members(count: usize) -> String {
    let row = |id: usize| format!("{id},s,Bob,Member,bob{id}@example.org,{id}\n");
    "id,password,firstName,lastName,email,points\n".to_owned() + &(1..=count).map(row).collect::<String>()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_importer_is_frozen_in_the_middle_of_a_file_the_other_imports_it_and_it_is_published_once() {
    const MEMBERS: usize = 60_000;
    const LANDED_ROWS: &str = "select coalesce(sum(row_count), 0)::bigint from staging.csv_imports";
    const IMPORTED: &str = "select count(*) from staging.csv_imports where state = 'imported'";
    const PUBLISHED: &str = "select coalesce(sum(record_count), 0)::bigint from staging.batches
                             where published_at is not null and abandoned_at is null";
    let world = World::new().await;
    let drop_directory = world.installation.path().join("drop/loyalty");
    std::fs::create_dir_all(&drop_directory).unwrap();
    let first = world.run("first.log");
    // Renamed in, as a writer does: it is whole when it is seen.
    let (written, name) = (drop_directory.join("members.tmp"), "loyalty_members_2026-11-10.csv");
    std::fs::write(&written, members(MEMBERS)).unwrap();
    std::fs::rename(&written, drop_directory.join(name)).unwrap();
    eventually("it is in the middle", async || world.count(LANDED_ROWS).await > 0).await;
    first.freeze().unwrap();
    assert_eq!(world.count(IMPORTED).await, 0, "it was done before it was frozen");

    let second = world.run("second.log");
    world.until_count(IMPORTED, 1).await;
    first.thaw().unwrap();
    let members = i64::try_from(MEMBERS).unwrap();
    world.until_count(CUSTOMERS, members).await;
    assert_eq!(world.count(IMPORTED).await, 1);
    assert_eq!(world.count(PUBLISHED).await, members, "what the frozen one had landed is abandoned");
    assert_eq!(first.terminate().unwrap().0, Some(0));
    assert_eq!(second.terminate().unwrap().0, Some(0));
    assert_eq!(world.count(IMPORTED).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_network_that_is_slow_falls_silent_and_breaks_all_the_time_every_message_counts_once() {
    const MESSAGES: i64 = 2_000;
    let world = World::new().await;
    let server: PgConnectOptions = world.database.url.parse().unwrap();
    let proxy = Proxy::start(&server, Loss::Cut).await;
    let name = &world.database.name;
    let url = format!("postgres://{}@127.0.0.1:{}/{name}?sslmode=disable", server.get_username(), proxy.port());
    let daemon =
        world.installation.start_with(&["run", "--no-http"], "c360.log", &[("C360__DATABASE__URL", &url)]).unwrap();
    world.produce(0..100).await;
    world.every_message_counts_once(100).await;
    // 200 ms there and back, and one in a hundred packets breaks its connection.
    proxy.delay(100);
    proxy.break_one_in(100);
    for from in (100..MESSAGES).step_by(100) {
        world.produce(from..from + 100).await;
        let landed = world.count(LANDED).await;
        eventually("it goes on", async || world.count(LANDED).await > landed).await;
    }
    proxy.break_one_in(0);
    world.every_message_counts_once(MESSAGES).await;

    proxy.delay(0);
    proxy.silence(true);
    world.produce(MESSAGES..MESSAGES + 100).await;
    tokio::time::timeout(PATIENCE, proxy.eaten()).await.unwrap();
    proxy.silence(false);
    world.every_message_counts_once(MESSAGES + 100).await;
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}
