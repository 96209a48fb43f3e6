//! The life of topics on a real broker: what is not there yet, what is there no more, and a broker that goes away.

#![expect(clippy::unwrap_used, reason = "a test without its world can only fail")]

use std::fs;
use std::time::Duration;

use c360_tests::event::{self, Event};
use c360_tests::program::Installation;
use c360_tests::source;
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use embedded_postgres::test::{eventually, until};
use ingest_kafka::{Error, Format, Place, Replay, Request, Settings};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(40);
const RECORDS: &str = "select count(*) from staging.records";
const SOURCE: &str = "home_delivery";

struct World {
    broker: Broker,
    pool: PgPool,
    database: PgConnectOptions,
}

type Daemon = (CancellationToken, JoinHandle<Result<(), Error>>);

impl World {
    async fn new() -> Self {
        let broker = Broker::start().await.unwrap();
        let database = embedded_postgres::test::database().await;
        let pool = database.pool().await;
        staging::migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
        Self { broker, pool, database: database.url.parse().unwrap() }
    }

    fn settings(&self, topics: &[&str]) -> Settings {
        source::kafka(SOURCE, &self.broker.bootstrap(), topics, source::customer("id", &["name"]))
    }

    fn run(&self, topics: &[&str]) -> Daemon {
        let cancel = CancellationToken::new();
        let (database, lander) = (self.database.clone(), source::lander(&self.database));
        (cancel.clone(), tokio::spawn(ingest_kafka::run(self.settings(topics), database, lander, cancel)))
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// What was landed of a topic, sorted; repeated where it was landed twice.
    async fn ids(&self, topic: &str) -> Vec<i64> {
        sqlx::query_scalar(
            "select external_id::bigint from staging.records join staging.batches using (batch_id)
             where batches.origin ->> 'topic' = $1 order by 1",
        )
        .bind(topic)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }
}

async fn stop((cancel, daemon): Daemon) {
    cancel.cancel();
    daemon.await.unwrap().unwrap();
}

async fn produce(broker: &Broker, topic: &str, partition: i32, ids: std::ops::Range<i64>) {
    broker.send_all(topic, ids.map(|id| event::insert(id).to(partition))).await.unwrap();
}

fn client(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    config
}

/// The names of all topics there are.
fn topics(broker: &Broker) -> Vec<String> {
    let client: BaseConsumer = client(broker).create().unwrap();
    let metadata = client.fetch_metadata(None, PATIENCE).unwrap();
    metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_taken_stops_its_partition_until_an_operator_says_from_where() {
    let world = World::new().await;
    world.broker.create_topic("customers", 2).await.unwrap();
    produce(&world.broker, "customers", 0, 0..100).await;
    produce(&world.broker, "customers", 1, 1_000..1_100).await;
    let daemon = world.run(&["customers"]);
    until(&world.pool, RECORDS, 200).await;
    stop(daemon).await;

    // While nobody reads, the log grows and its beginning goes.
    produce(&world.broker, "customers", 0, 100..200).await;
    produce(&world.broker, "customers", 1, 1_100..1_200).await;
    world.broker.delete_records("customers", 0, 150).await.unwrap();

    let daemon = world.run(&["customers"]);
    let alarm = "select count(*) from staging.sources
                 where health -> 'partitions' -> 'customers/0' -> 'stopped' ->> 'reason' like '%retention has passed it%'";
    until(&world.pool, alarm, 1).await;
    until(&world.pool, RECORDS, 300).await;
    produce(&world.broker, "customers", 1, 1_200..1_210).await;
    until(&world.pool, RECORDS, 310).await;
    assert_eq!(world.ids("customers").await, (0..100).chain(1_000..1_210).collect::<Vec<_>>(), "nothing jumps");
    let done = ingest_kafka::catch_up(
        world.settings(&["customers"]),
        world.database.clone(),
        source::lander(&world.database),
        CancellationToken::new(),
    );
    let stopped = done.await.unwrap().stopped;
    assert_eq!((stopped.len(), stopped[0].partition), (1, 0), "a run that ends says so, too");

    let request = Request { partition: Some(0), from: Some(Place::Offset(150)), ..Request::default() };
    let replay = Replay::plan(world.settings(&["customers"]), &world.database, request).await.unwrap();
    replay.run(source::lander(&world.database), &mut |_| {}, &CancellationToken::new()).await.unwrap();
    until(&world.pool, RECORDS, 360).await;
    until(&world.pool, alarm, 0).await;
    produce(&world.broker, "customers", 0, 200..210).await;
    until(&world.pool, RECORDS, 370).await;
    stop(daemon).await;
    assert_eq!(world.ids("customers").await, (0..100).chain(150..210).chain(1_000..1_210).collect::<Vec<_>>());
}

/// Whether somebody in the group has been given partitions of the topic.
fn is_read(broker: &Broker, group: &str, topic: &str) -> bool {
    let client: BaseConsumer = client(broker).create().unwrap();
    let groups = client.fetch_group_list(Some(group), Duration::from_secs(10)).unwrap();
    let has_some = |assignment: Option<&[u8]>| {
        assignment.is_some_and(|bytes| bytes.windows(topic.len()).any(|window| window == topic.as_bytes()))
    };
    groups.groups().iter().flat_map(rdkafka::groups::GroupInfo::members).any(|member| has_some(member.assignment()))
}

/// How many partitions are stopped because their topic was made again.
const MADE_AGAIN: &str =
    "select count(*) from staging.sources, jsonb_each(health -> 'partitions') as partition (name, word)
                          where word -> 'stopped' ->> 'reason' like '%deleted and made again%'";

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_and_filled_beyond_progress_stops_until_an_operator_says_from_where() {
    let world = World::new().await;
    world.broker.create_topic("customers", 2).await.unwrap();
    produce(&world.broker, "customers", 0, 0..100).await;
    produce(&world.broker, "customers", 1, 1_000..1_010).await;
    let daemon = world.run(&["customers"]);
    until(&world.pool, RECORDS, 110).await;
    stop(daemon).await;

    world.broker.recreate_topic("customers", 2).await.unwrap();
    // Beyond what is landed on the one, not as far on the other.
    produce(&world.broker, "customers", 0, 200..350).await;
    produce(&world.broker, "customers", 1, 2_000..2_005).await;
    let daemon = world.run(&["customers"]);
    until(&world.pool, MADE_AGAIN, 2).await;
    produce(&world.broker, "customers", 0, 350..360).await;
    let done = ingest_kafka::catch_up(
        world.settings(&["customers"]),
        world.database.clone(),
        source::lander(&world.database),
        CancellationToken::new(),
    );
    assert_eq!(done.await.unwrap().stopped.len(), 2, "a run that ends says so, too");
    assert_eq!(world.count(RECORDS).await, 110, "nothing jumps");

    let replay = Replay::plan(world.settings(&["customers"]), &world.database, Request::default()).await.unwrap();
    assert_eq!(replay.parts().iter().map(|part| (part.next_offset, part.rewinds)).collect::<Vec<_>>(), [(0, true); 2]);
    replay.run(source::lander(&world.database), &mut |_| {}, &CancellationToken::new()).await.unwrap();
    until(&world.pool, RECORDS, 275).await;
    until(&world.pool, MADE_AGAIN, 0).await;
    produce(&world.broker, "customers", 0, 360..370).await;
    produce(&world.broker, "customers", 1, 2_005..2_010).await;
    until(&world.pool, RECORDS, 290).await;
    stop(daemon).await;
    let ids = (0..100).chain(200..370).chain(1_000..1_010).chain(2_000..2_010);
    assert_eq!(world.ids("customers").await, ids.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_and_filled_beyond_progress_while_the_daemon_runs_stops_too() {
    let world = World::new().await;
    world.broker.create_topic("customers", 1).await.unwrap();
    let daemon = world.run(&["customers"]);
    produce(&world.broker, "customers", 0, 0..100).await;
    until(&world.pool, RECORDS, 100).await;
    world.broker.delete_topic("customers").await.unwrap();
    let is_read = || is_read(&world.broker, SOURCE, "customers");
    eventually("it is noticed that the topic is gone", async || !tokio::task::block_in_place(is_read)).await;
    world.broker.create_topic("customers", 1).await.unwrap();
    produce(&world.broker, "customers", 0, 200..350).await;
    until(&world.pool, MADE_AGAIN, 1).await;
    stop(daemon).await;
    assert_eq!(world.ids("customers").await, (0..100).collect::<Vec<_>>(), "nothing jumps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_which_all_that_is_landed_is_gone_goes_on() {
    let world = World::new().await;
    world.broker.create_topic("customers", 1).await.unwrap();
    let daemon = world.run(&["customers"]);
    produce(&world.broker, "customers", 0, 0..100).await;
    until(&world.pool, RECORDS, 100).await;
    stop(daemon).await;
    world.broker.delete_records("customers", 0, 100).await.unwrap();

    let catch_up = || {
        let (database, lander) = (world.database.clone(), source::lander(&world.database));
        ingest_kafka::catch_up(world.settings(&["customers"]), database, lander, CancellationToken::new())
    };
    assert_eq!(catch_up().await.unwrap().stopped, [], "there is nothing to be known again by");
    produce(&world.broker, "customers", 0, 100..110).await;
    assert_eq!(catch_up().await.unwrap().records, 10);
    let daemon = world.run(&["customers"]);
    produce(&world.broker, "customers", 0, 110..120).await;
    until(&world.pool, RECORDS, 120).await;
    stop(daemon).await;
    assert_eq!(world.ids("customers").await, (0..120).collect::<Vec<_>>());
}

/// Rows in plain JSON are ordered by the times of their messages: a key that lands in another partition, once there are
/// more, begins there at smaller offsets than it had.
#[tokio::test(flavor = "multi_thread")]
async fn of_plain_rows_whose_keys_move_to_added_partitions_the_newest_wins() {
    let world = World::new().await;
    world.broker.create_topic("rows", 2).await.unwrap();
    let mut settings = world.settings(&["rows"]);
    settings.format = Format::Json;
    let cancel = CancellationToken::new();
    let daemon = ingest_kafka::run(settings, world.database.clone(), source::lander(&world.database), cancel.clone());
    let daemon: Daemon = (cancel, tokio::spawn(daemon));
    let write = async |name: &str| {
        let row =
            |id: i64| Event { value: json!({"id": id, "name": name, "email": null}).to_string(), ..event::insert(id) };
        world.broker.send_all("rows", (0..200).map(row)).await.unwrap();
    };
    write("before").await;
    until(&world.pool, RECORDS, 200).await;
    world.broker.add_partitions("rows", 5).await.unwrap();
    write("after").await;
    until(&world.pool, RECORDS, 400).await;
    stop(daemon).await;

    let newest: Vec<(String, i64)> = sqlx::query_as(
        "select name, count(*) from (
             select distinct on (external_id) attributes ->> 'name' as name
             from staging.records
             order by external_id, position desc
         ) as newest group by name",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(newest, [("after".to_owned(), 200)]);
    let moved = "select count(*) from (
                     select external_id from staging.records join staging.batches using (batch_id)
                     group by external_id
                     having count(distinct origin ->> 'partition') > 1
                 ) as moved";
    assert!(world.count(moved).await > 50, "keys move");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_waited_for_and_found_by_pattern_and_kafkas_own_are_no_sources() {
    let world = World::new().await;
    // Whatever matches, which is as greedy as a pattern can be.
    let pattern = world.run(&["^.*customers$|^_.*"]);
    let named = source::kafka("late", &world.broker.bootstrap(), &["late"], source::customer("id", &["name"]));
    let cancel = CancellationToken::new();
    let late = ingest_kafka::run(named, world.database.clone(), source::lander(&world.database), cancel.clone());
    let late: Daemon = (cancel, tokio::spawn(late));

    world.broker.create_topic("a.customers", 1).await.unwrap();
    produce(&world.broker, "a.customers", 0, 0..10).await;
    until(&world.pool, RECORDS, 10).await;
    // Both groups commit, which writes into a topic of Kafka's own.
    assert!(topics(&world.broker).contains(&"__consumer_offsets".to_owned()));
    assert!(!topics(&world.broker).contains(&"late".to_owned()), "waiting for a topic does not make it");
    let told =
        "select count(*) from staging.sources where source = 'late' and health -> 'absent_topics' = '[\"late\"]'";
    until(&world.pool, told, 1).await;

    world.broker.create_topic("b.customers", 2).await.unwrap();
    produce(&world.broker, "b.customers", 1, 10..20).await;
    world.broker.create_topic("late", 1).await.unwrap();
    produce(&world.broker, "late", 0, 20..30).await;
    until(&world.pool, RECORDS, 30).await;
    for (topic, ids) in [("a.customers", 0..10), ("b.customers", 10..20), ("late", 20..30)] {
        assert_eq!(world.ids(topic).await, ids.collect::<Vec<_>>(), "{topic}");
    }
    until(&world.pool, told, 0).await;
    stop(pattern).await;
    stop(late).await;

    let done = ingest_kafka::catch_up(
        world.settings(&["^.*"]),
        world.database.clone(),
        source::lander(&world.database),
        CancellationToken::new(),
    );
    assert_eq!(done.await.unwrap().dead_letters, 0);
    let read: Vec<String> = sqlx::query_scalar("select distinct topic from staging.kafka_offsets order by 1")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert_eq!(read, ["a.customers", "b.customers", "late"]);
    assert_eq!(world.count("select count(*) from staging.dead_letters").await, 0);
}

/// The processor time that a process has used.
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may hold anything: fields 14 and 15 of all are ticks, of which there are 100 a second.
    let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_for_a_while_costs_patience_and_nothing_else() {
    const OUTAGE: Duration = Duration::from_secs(8);
    let mut broker = Broker::start().await.unwrap();
    broker.create_topic(CUSTOMERS_TOPIC, 2).await.unwrap();
    let database = embedded_postgres::test::database().await;
    let installation = Installation::reference(&database.url, &broker.bootstrap()).unwrap();
    let daemon = installation.start(&["run", "--no-http"], "c360.log").unwrap();
    let pool = database.pool().await;
    produce(&broker, CUSTOMERS_TOPIC, 0, 0..100).await;
    until(&pool, RECORDS, 100).await;

    broker.stop().await.unwrap();
    let trouble =
        "select count(*) from staging.sources where source = 'home_delivery' and health ->> 'trouble' is not null";
    until(&pool, trouble, 1).await;
    let log = || fs::read_to_string(installation.path().join("c360.log")).unwrap();
    let about_kafka = |log: &str| log.lines().filter(|line| line.contains("home_delivery")).count();
    let (used, lines) = (processor_time(daemon.id()), about_kafka(&log()));
    tokio::time::sleep(OUTAGE).await;
    let used = processor_time(daemon.id()).saturating_sub(used);
    assert!(used < OUTAGE / 10, "{used:?} of processor time in {OUTAGE:?} of waiting");
    let lines = about_kafka(&log()) - lines;
    assert!(lines < 5, "{lines} lines in {OUTAGE:?}:\n{}", log());

    broker.restart().await.unwrap();
    until(&pool, trouble, 0).await;
    produce(&broker, CUSTOMERS_TOPIC, 0, 100..200).await;
    produce(&broker, CUSTOMERS_TOPIC, 1, 200..300).await;
    until(&pool, RECORDS, 300).await;
    until(&pool, "select count(distinct external_id) from staging.records", 300).await;
    until(&pool, "select count(*) from customer360.documents", 300).await;
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}
