//! Landing from a real broker: what the mock cluster of the crate's own tests cannot show.

#![expect(clippy::unwrap_used, reason = "a test without its world can only fail")]

use std::time::Duration;

use c360_tests::bench::Shape;
use c360_tests::event::{self, Event};
use c360_tests::source;
use c360_tests::stack::Broker;
use embedded_postgres::test::{eventually, until};
use ingest_kafka::{Error, Settings};
use model::mapping::Columns;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use staging::Lander;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const NEXT: &str = "select coalesce(sum(next_offset), 0)::bigint from staging.kafka_offsets";

const TIMEOUT: Duration = Duration::from_secs(20);

struct World {
    broker: Broker,
    pool: PgPool,
    database: PgConnectOptions,
    topic: &'static str,
}

impl World {
    async fn new(topic: &'static str, partitions: u16) -> Self {
        let broker = Broker::start().await.unwrap();
        broker.create_topic(topic, partitions).await.unwrap();
        let database = embedded_postgres::test::database().await;
        let pool = database.pool().await;
        staging::migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
        Self { broker, pool, database: database.url.parse().unwrap(), topic }
    }

    fn settings(&self) -> Settings {
        let mut customer = source::customer("id", &["name", "city"]);
        customer.attributes.insert("phone".to_owned(), Columns::One("phonenumber".to_owned()));
        let settings = source::kafka("home_delivery", &self.broker.bootstrap(), &[self.topic], customer);
        Settings { group_id: "c360".to_owned(), ..settings }
    }

    fn lander(&self) -> Lander {
        source::lander(&self.database)
    }

    fn run(&self) -> (CancellationToken, JoinHandle<Result<(), Error>>) {
        let cancel = CancellationToken::new();
        let daemon = ingest_kafka::run(self.settings(), self.database.clone(), self.lander(), cancel.clone());
        (cancel, tokio::spawn(daemon))
    }

    async fn produce(&self, partitions: i32, ids: impl Iterator<Item = u32>) {
        let event = |id: u32| Event {
            value: insert(id),
            ..event::insert(id.into()).to(i32::try_from(id).unwrap() % partitions)
        };
        self.broker.send_all(self.topic, ids.map(event)).await.unwrap();
    }

    fn transactional(&self) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.bootstrap()).set("transactional.id", "test");
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(TIMEOUT).unwrap();
        producer
    }

    async fn ids(&self) -> Vec<u32> {
        let ids: Vec<String> =
            sqlx::query_scalar("select external_id from staging.records order by external_id::integer")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }
}

fn insert(id: u32) -> String {
    Shape::Envelopes.event(usize::try_from(id).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_consumers_share_added_partitions_and_hand_over_without_loss_or_doubling() {
    let world = World::new("customers", 2).await;
    let one = world.run();
    world.produce(2, 0..2_000).await;
    let other = world.run();
    world.produce(2, 2_000..4_000).await;

    world.broker.add_partitions("customers", 4).await.unwrap();
    world.produce(4, 4_000..8_000).await;
    until(&world.pool, NEXT, 8_000).await;

    one.0.cancel();
    world.produce(4, 8_000..10_000).await;
    one.1.await.unwrap().unwrap();
    until(&world.pool, NEXT, 10_000).await;
    other.0.cancel();
    other.1.await.unwrap().unwrap();
    assert_eq!(world.ids().await, (0..10_000).collect::<Vec<_>>());
}

/// Waits until the group has two members, and both have a partition.
async fn until_shared(broker: &Broker) {
    let share = || tokio::task::block_in_place(|| all_have_partitions(broker, 2));
    eventually("the two share the topic", async || share()).await;
}

/// Whether the group has so many members, and every one of them has a partition.
fn all_have_partitions(broker: &Broker, members: usize) -> bool {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    let client: BaseConsumer = config.create().unwrap();
    let groups = client.fetch_group_list(Some("c360"), Duration::from_secs(10)).unwrap();
    let has_some = |assignment: Option<&[u8]>| {
        assignment.is_some_and(|assignment| assignment.windows(9).any(|window| window == b"customers"))
    };
    groups.groups().iter().any(|group| {
        group.members().len() == members && group.members().iter().all(|member| has_some(member.assignment()))
    })
}

/// Slowness of the database pauses what is read. A partition that goes to another process meanwhile, and comes back later, is
/// not paused any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_left_while_reading_was_paused_is_read_when_it_comes_back() {
    let world = World::new("customers", 2).await;
    let one = world.run();
    world.produce(2, 0..100).await;
    until(&world.pool, NEXT, 100).await;
    let mut locked = world.pool.begin().await.unwrap();
    sqlx::query("lock table staging.kafka_offsets in exclusive mode").execute(&mut *locked).await.unwrap();
    world.produce(2, 100..60_000).await;
    // Nobody tells that it has paused; it does so after a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let other = world.run();
    until_shared(&world.broker).await;
    locked.rollback().await.unwrap();
    until(&world.pool, NEXT, 60_000).await;

    other.0.cancel();
    other.1.await.unwrap().unwrap();
    world.produce(2, 60_000..61_000).await;
    until(&world.pool, NEXT, 61_000).await;
    one.0.cancel();
    one.1.await.unwrap().unwrap();
    assert_eq!(world.ids().await, (0..61_000).collect::<Vec<_>>());
}

/// Whoever was fenced once lands again after the partition went to somebody else and came back.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_fenced_and_left_is_landed_when_it_comes_back() {
    let world = World::new("customers", 2).await;
    let one = world.run();
    world.produce(2, 0..100).await;
    until(&world.pool, NEXT, 100).await;
    // As if somebody else had landed ten messages of each.
    sqlx::query("update staging.kafka_offsets set next_offset = next_offset + 10").execute(&world.pool).await.unwrap();
    world.produce(2, 100..130).await;
    until(&world.pool, NEXT, 130).await;

    let other = world.run();
    until_shared(&world.broker).await;
    other.0.cancel();
    other.1.await.unwrap().unwrap();
    world.produce(2, 130..1_000).await;
    until(&world.pool, NEXT, 1_000).await;
    one.0.cancel();
    one.1.await.unwrap().unwrap();
    assert_eq!(world.ids().await, (0..100).chain(120..1_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_are_never_landed_and_progress_passes_over_them() {
    let world = World::new("orders", 1).await;
    let producer = world.transactional();
    for (first, commits) in [(0, true), (100, false), (200, true), (300, false)] {
        producer.begin_transaction().unwrap();
        for id in first..first + 100 {
            producer
                .send(BaseRecord::<(), String>::to("orders").partition(0).payload(&insert(id)))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        producer.flush(TIMEOUT).unwrap();
        if commits {
            producer.commit_transaction(TIMEOUT).unwrap();
        } else {
            producer.abort_transaction(TIMEOUT).unwrap();
        }
    }
    let cancel = CancellationToken::new();
    let done = ingest_kafka::catch_up(world.settings(), world.database.clone(), world.lander(), cancel).await.unwrap();
    assert_eq!(done.records, 200);
    assert_eq!(world.ids().await, (0..100).chain(200..300).collect::<Vec<_>>());
    let lag = ingest_kafka::lag(&world.settings(), &world.database).await.unwrap();
    assert_eq!((lag[0].high, lag[0].next_offset, lag[0].lag), (404, Some(404), 0));
}

/// Ends of transactions are the last of many partitions when another one turns out to be beyond the range, and all are sought
/// anew: what was behind the ends is read again, though nobody will ever see a message of it.
#[tokio::test(flavor = "multi_thread")]
async fn progress_passes_over_ends_of_transactions_also_when_their_partitions_are_sought_anew() {
    const PARTITIONS: u16 = 24;
    let world = World::new("customers", PARTITIONS).await;
    world.broker.create_topic("emptied", 1).await.unwrap();
    sqlx::query(
        "insert into staging.kafka_offsets (source, topic, partition, next_offset, updated_at)
         values ('home_delivery', 'emptied', 0, 10, now())",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let producer = world.transactional();
    producer.begin_transaction().unwrap();
    for partition in 0..i32::from(PARTITIONS) {
        let id = partition.unsigned_abs();
        let value = insert(id);
        producer
            .send(BaseRecord::<(), String>::to("customers").partition(partition).payload(&value))
            .map_err(|(error, _)| error)
            .unwrap();
    }
    producer.commit_transaction(TIMEOUT).unwrap();
    let mut settings = world.settings();
    settings.topics.push("emptied".to_owned());
    let cancel = CancellationToken::new();
    let daemon = ingest_kafka::run(settings, world.database.clone(), world.lander(), cancel.clone());
    let daemon = tokio::spawn(daemon);
    let alarm = "select count(*) from staging.sources
        where health->'partitions'->'emptied/0'->'stopped'->>'topic' = 'emptied'";
    until(&world.pool, alarm, 1).await;
    until(&world.pool, NEXT, 10 + 2 * i64::from(PARTITIONS)).await;
    cancel.cancel();
    daemon.await.unwrap().unwrap();
    assert_eq!(world.ids().await, (0..PARTITIONS.into()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_stops_with_an_alarm_while_the_daemon_runs() {
    let world = World::new("customers", 1).await;
    let daemon = world.run();
    world.produce(1, 0..100).await;
    until(&world.pool, NEXT, 100).await;
    world.broker.recreate_topic("customers", 1).await.unwrap();
    world.produce(1, 1_000..1_010).await;
    let alarm = "select count(*) from staging.sources
        where health->'partitions'->'customers/0'->'stopped'->>'topic' = 'customers'";
    until(&world.pool, alarm, 1).await;
    until(&world.pool, NEXT, 100).await;
    daemon.0.cancel();
    daemon.1.await.unwrap().unwrap();
    assert_eq!(world.ids().await, (0..100).collect::<Vec<_>>());
}
