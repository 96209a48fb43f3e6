//! Members of a consumer group that come back by their old name: c360 as processes, and a real broker.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::time::Duration;

use c360_tests::program::{Installation, Running};
use c360_tests::source;
use c360_tests::stack::{Broker, CUSTOMERS_TOPIC};
use embedded_postgres::test::{look_until, until};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(40);
const RECORDS: &str = "select count(*) from staging.records";
const DOUBLED: &str = "select count(*) - count(distinct external_id) from staging.records";
/// So long that nobody's session ends within a test: whatever goes on has not waited for it.
const SESSION: &str = "300000";
const INSTANCE: &str = "group.instance.id";

struct World {
    broker: Broker,
    pool: PgPool,
    url: String,
    installation: Installation,
}

impl World {
    /// A topic of this many partitions, and an installation whose sessions do not end.
    async fn new(partitions: u16) -> Self {
        let broker = Broker::start().await.unwrap();
        broker.create_topic(CUSTOMERS_TOPIC, partitions).await.unwrap();
        let database = embedded_postgres::test::database().await;
        let installation = Installation::new(&configuration(&broker, &[CUSTOMERS_TOPIC]))
            .unwrap()
            .with("C360__DATABASE__URL", &database.url);
        Self { broker, pool: database.pool().await, url: database.url.clone(), installation }
    }

    fn start(&self, log: &str) -> Running {
        self.installation.start(&["run", "--no-http"], log).unwrap()
    }

    fn log(&self, log: &str) -> String {
        fs::read_to_string(self.installation.path().join(log)).unwrap()
    }

    async fn produce(&self, topic: &str, partitions: i32, ids: std::ops::Range<i32>) {
        self.broker.insert(topic, partitions, ids).await.unwrap();
    }

    /// The group's state, and of each member its id (made of its name and a random number) and whether it has partitions.
    fn group(&self) -> (String, Vec<(String, bool)>) {
        let client: BaseConsumer = client(&self.broker).create().unwrap();
        // The broker may not know its groups yet, or this one.
        let Ok(groups) = client.fetch_group_list(Some("c360"), PATIENCE) else { return Default::default() };
        let Some(group) = groups.groups().first() else { return Default::default() };
        let members = group.members().iter();
        let members = members.map(|member| (member.id().to_owned(), holds_partitions(member.assignment()))).collect();
        (group.state().to_owned(), members)
    }

    /// The ids of the group's members, sorted.
    fn members(&self) -> Vec<String> {
        let mut members: Vec<String> = self.group().1.into_iter().map(|(id, _)| id).collect();
        members.sort_unstable();
        members
    }

    async fn until_members(&self, count: usize) -> Vec<String> {
        look_until("the members are there", async || self.members(), |members| members.len() == count).await
    }

    /// Waits until each of these many processes reads a part of the partitions.
    async fn until_shared(&self, processes: usize) {
        let is_shared = |(state, members): &(String, Vec<(String, bool)>)| {
            state == "Stable" && members.iter().filter(|(_, has_partitions)| *has_partitions).count() == processes
        };
        look_until("the partitions are shared", async || self.group(), is_shared).await;
    }
}

/// Whether an assignment, in Kafka's own format, is of any topic.
fn holds_partitions(assignment: Option<&[u8]>) -> bool {
    // A version of two bytes, then the count of topics.
    assignment.is_some_and(|bytes| bytes.get(2..6).is_some_and(|count| count != [0; 4]))
}

fn client(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    config
}

fn configuration(broker: &Broker, topics: &[&str]) -> String {
    format!(
        "[sources.home_delivery]\nkind = \"kafka\"\nbrokers = \"{}\"\ntopics = {topics:?}\n\
         properties = {{ \"session.timeout.ms\" = \"{SESSION}\" }}\n\
         [sources.home_delivery.customer]\nexternal_id = \"id\"\nemail = \"email\"\nattributes = {{ name = \"name\" }}\n",
        broker.bootstrap()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_and_comes_back_has_its_partitions_at_once() {
    let world = World::new(2).await;
    let daemon = world.start("c360.log");
    world.produce(CUSTOMERS_TOPIC, 2, 0..10).await;
    until(&world.pool, RECORDS, 10).await;
    let mut daemon = Some(daemon);
    for kill in 1..=3 {
        daemon.take().unwrap().kill().unwrap();
        world.produce(CUSTOMERS_TOPIC, 2, kill * 10..(kill + 1) * 10).await;
        daemon = Some(world.start("c360.log"));
        until(&world.pool, RECORDS, i64::from(kill + 1) * 10).await;
        assert_eq!(world.members().len(), 1, "{:?}", world.members());
    }
    // As it is stopped, too. Nobody runs while partitions are added, and the group believes that nothing has changed.
    assert_eq!(daemon.take().unwrap().terminate().unwrap().0, Some(0));
    world.broker.add_partitions(CUSTOMERS_TOPIC, 4).await.unwrap();
    let daemon = world.start("c360.log");
    world.produce(CUSTOMERS_TOPIC, 4, 40..60).await;
    until(&world.pool, RECORDS, 60).await;
    world.broker.add_partitions(CUSTOMERS_TOPIC, 6).await.unwrap();
    world.produce(CUSTOMERS_TOPIC, 6, 60..90).await;
    until(&world.pool, RECORDS, 90).await;
    until(&world.pool, DOUBLED, 0).await;
    assert_eq!(world.members().len(), 1);
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_one_machine_share_the_partitions_and_none_is_fenced() {
    let world = World::new(4).await;
    let one = world.start("one.log");
    world.until_members(1).await;
    let two = world.start("two.log");
    let members = world.until_members(2).await;
    world.until_shared(2).await;
    world.produce(CUSTOMERS_TOPIC, 4, 0..40).await;
    until(&world.pool, RECORDS, 40).await;

    two.kill().unwrap();
    world.produce(CUSTOMERS_TOPIC, 4, 40..80).await;
    let two = world.start("two.log");
    until(&world.pool, RECORDS, 80).await;
    until(&world.pool, DOUBLED, 0).await;
    let after = world.until_members(2).await;
    assert_eq!(members.iter().filter(|member| after.contains(member)).count(), 1, "{members:?} {after:?}");
    for (daemon, log) in [(one, "one.log"), (two, "two.log")] {
        assert_eq!(daemon.terminate().unwrap().0, Some(0));
        for word in ["takes part in the group as", "joining it again"] {
            assert!(!world.log(log).contains(word), "{}", world.log(log));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_other_topics_after_a_restart_gets_them_and_no_others() {
    let world = World::new(1).await;
    // This one has to wait for the session of who it was before.
    let shorter = |topics: &[&str]| configuration(&world.broker, topics).replace(SESSION, "6000");
    let file = world.installation.path().join("c360.toml");
    fs::write(&file, shorter(&[CUSTOMERS_TOPIC])).unwrap();
    let daemon = world.start("c360.log");
    world.produce(CUSTOMERS_TOPIC, 1, 0..10).await;
    until(&world.pool, RECORDS, 10).await;
    daemon.kill().unwrap();

    world.broker.create_topic("more", 1).await.unwrap();
    world.produce(CUSTOMERS_TOPIC, 1, 10..20).await;
    world.produce("more", 1, 20..30).await;
    fs::write(&file, shorter(&["more"])).unwrap();
    let daemon = world.start("c360.log");
    until(&world.pool, "select count(*) from staging.records where external_id::integer >= 20", 10).await;
    until(&world.pool, RECORDS, 20).await;
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_by_one_name_fence_once_and_then_share() {
    let world = World::new(2).await;
    let database: PgConnectOptions = world.url.parse().unwrap();
    staging::migrate(&mut world.pool.acquire().await.unwrap()).await.unwrap();
    let run = || {
        let mut settings = source::kafka(
            "home_delivery",
            &world.broker.bootstrap(),
            &[CUSTOMERS_TOPIC],
            source::customer("id", &["name"]),
        );
        settings.group_id = "c360".to_owned();
        settings.properties = [("session.timeout.ms", SESSION), (INSTANCE, "the-same")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let cancel = CancellationToken::new();
        let lander = source::lander(&database);
        (cancel.clone(), tokio::spawn(ingest_kafka::run(settings, database.clone(), lander, cancel)))
    };
    let one = run();
    world.produce(CUSTOMERS_TOPIC, 2, 0..10).await;
    until(&world.pool, RECORDS, 10).await;
    let two = run();
    world.until_shared(2).await;
    let members = world.members();
    world.produce(CUSTOMERS_TOPIC, 2, 10..30).await;
    until(&world.pool, RECORDS, 30).await;
    until(&world.pool, DOUBLED, 0).await;
    assert_eq!(world.members(), members, "they still fence each other");
    for (cancel, daemon) in [one, two] {
        cancel.cancel();
        daemon.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_rebalances_neither_doubles_nor_skips() {
    let world = World::new(4).await;
    let logs = ["one.log", "two.log", "three.log"];
    let mut running: Vec<Running> = logs.iter().map(|log| world.start(log)).collect();
    let mut written = 0;
    // Now in the middle of starting, now after the group has settled.
    for (step, (who, pause)) in (0..).zip([
        (0, 300),
        (1, 100),
        (2, 900),
        (0, 50),
        (0, 700),
        (2, 1_500),
        (1, 20),
        (2, 400),
        (0, 1_200),
        (1, 600),
        (2, 150),
    ]) {
        world.produce(CUSTOMERS_TOPIC, 4, written..written + 100).await;
        written += 100;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // Processes that are there together have different names, and in the end all names are taken.
        let gone = running.remove(who);
        if step % 3 == 0 {
            assert_eq!(gone.terminate().unwrap().0, Some(0));
        } else {
            gone.kill().unwrap();
        }
        running.insert(who, world.start(logs[who]));
    }
    until(&world.pool, RECORDS, written.into()).await;
    world.until_shared(3).await;
    world.produce(CUSTOMERS_TOPIC, 4, written..written + 100).await;
    written += 100;
    until(&world.pool, RECORDS, written.into()).await;
    until(&world.pool, DOUBLED, 0).await;
    until(&world.pool, "select sum(next_offset)::bigint from staging.kafka_offsets", written.into()).await;
    for daemon in running {
        assert_eq!(daemon.terminate().unwrap().0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_slower_than_the_group_is_patient_costs_no_membership() {
    let world = World::new(2).await;
    let impatient = format!("{}\", \"max.poll.interval.ms\" = \"6000", 6_000);
    let file = world.installation.path().join("c360.toml");
    fs::write(&file, configuration(&world.broker, &[CUSTOMERS_TOPIC]).replace(SESSION, &impatient)).unwrap();
    let daemon = world.start("c360.log");
    world.produce(CUSTOMERS_TOPIC, 2, 0..10).await;
    until(&world.pool, RECORDS, 10).await;
    let members = world.until_members(1).await;

    let mut slow = world.pool.begin().await.unwrap();
    sqlx::query("lock table staging.kafka_offsets in exclusive mode").execute(&mut *slow).await.unwrap();
    world.produce(CUSTOMERS_TOPIC, 2, 10..20_000).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    slow.rollback().await.unwrap();
    until(&world.pool, RECORDS, 20_000).await;
    until(&world.pool, DOUBLED, 0).await;
    assert_eq!(world.members(), members);
    assert_eq!(daemon.terminate().unwrap().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_slower_than_the_hand_over_is_landed_by_one_of_two() {
    const WAITING: &str = "select count(distinct pid) from pg_locks
                           where not granted and relation = 'staging.kafka_offsets'::regclass";
    let world = World::new(2).await;
    let one = world.start("one.log");
    world.produce(CUSTOMERS_TOPIC, 2, 0..10).await;
    until(&world.pool, RECORDS, 10).await;

    let mut slow = world.pool.begin().await.unwrap();
    sqlx::query("lock table staging.kafka_offsets in exclusive mode").execute(&mut *slow).await.unwrap();
    // One batch of each partition is on its way when it is asked for one of the partitions.
    world.produce(CUSTOMERS_TOPIC, 2, 10..11).await;
    until(&world.pool, WAITING, 1).await;
    world.produce(CUSTOMERS_TOPIC, 2, 11..12).await;
    let two = world.start("two.log");
    until(&world.pool, WAITING, 2).await;
    slow.rollback().await.unwrap();
    world.produce(CUSTOMERS_TOPIC, 2, 12..100).await;
    until(&world.pool, "select sum(next_offset)::bigint from staging.kafka_offsets", 100).await;
    until(&world.pool, RECORDS, 100).await;
    until(&world.pool, DOUBLED, 0).await;
    for daemon in [one, two] {
        assert_eq!(daemon.terminate().unwrap().0, Some(0));
    }
}
