//! Single messages that are not as others, through a real broker: too large ones, and one that cannot be read among thousands.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use c360_tests::event::{self, Event};
use c360_tests::source;
use c360_tests::stack::Broker;
use ingest_kafka::CaughtUp;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "customers";
/// What a broker has to be told before it takes messages of 20 MB, and a producer before it sends them.
const LARGEST: &str = "31457280";

struct World {
    broker: Broker,
    pool: PgPool,
    database: PgConnectOptions,
}

impl World {
    async fn new() -> Self {
        let broker = Broker::start().await.unwrap();
        broker.create_topic_with(TOPIC, 1, &[("max.message.bytes", LARGEST)]).await.unwrap();
        let database = embedded_postgres::test::database().await;
        let pool = database.pool().await;
        staging::migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
        Self { broker, pool, database: database.url.parse().unwrap() }
    }

    async fn catch_up(&self) -> CaughtUp {
        let settings = source::kafka("crm", &self.broker.bootstrap(), &[TOPIC], source::customer("id", &["name"]));
        let lander = source::lander(&self.database);
        ingest_kafka::catch_up(settings, self.database.clone(), lander, CancellationToken::new()).await.unwrap()
    }

    /// What was landed, sorted; repeated where it was landed twice.
    async fn ids(&self) -> Vec<i64> {
        sqlx::query_scalar("select external_id::bigint from staging.records order by 1")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}

fn event(id: i64, name: &str) -> Event {
    event::change(id, &json!({"after": {"name": name}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_1_5_and_20_mb_become_dead_letters_and_their_neighbours_land() {
    let world = World::new().await;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", world.broker.bootstrap()).set("message.max.bytes", LARGEST);
    let producer: FutureProducer = config.create().unwrap();
    // The event around it is a little more: the first one is just beyond the default limit of 1 MiB.
    let sizes = [1 << 20, 5_000_000, 20_000_000];
    for (index, size) in sizes.into_iter().enumerate() {
        let first = i64::try_from(index * 10).unwrap();
        for (id, name) in [(first, "Ann".to_owned()), (first + 1, "x".repeat(size)), (first + 2, "Bea".to_owned())] {
            let value = event(id, &name).value;
            let record = FutureRecord::<(), _>::to(TOPIC).partition(0).payload(&value);
            producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error).unwrap();
        }
    }
    let done = world.catch_up().await;
    assert_eq!((done.records, done.dead_letters), (6, 3));
    assert_eq!(world.ids().await, [0, 2, 10, 12, 20, 22]);
    let letters: Vec<(i64, String, i32)> = sqlx::query_as(
        "select (origin ->> 'offset')::bigint, reason, length(payload) from staging.dead_letters order by 1",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    for ((offset, reason, kept), expected) in letters.iter().zip([1, 4, 7]) {
        assert_eq!((*offset, reason.as_str()), (expected, "too_large"));
        assert!((65_536..66_000).contains(kept), "the first 64 KiB, sealed: {kept} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_messages_one_that_cannot_be_read_costs_only_itself_wherever_it_is() {
    const MESSAGES: i64 = 10_000;
    let world = World::new().await;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let poison = i64::try_from(seed % 10_000).unwrap();
    eprintln!("the poison is message {poison}");
    let messages = (0..MESSAGES)
        .map(|id| if id == poison { Event::without_key(&"{\"after\": {\"id\": 1, ") } else { event(id, "Ann") });
    world.broker.send_all(TOPIC, messages).await.unwrap();
    let began = Instant::now();
    let done = world.catch_up().await;
    eprintln!("landed in {:?}", began.elapsed());
    assert_eq!((done.records, done.dead_letters), (9_999, 1));
    assert_eq!(world.ids().await, (0..MESSAGES).filter(|id| *id != poison).collect::<Vec<_>>());
    let letter: (i64, String) =
        sqlx::query_as("select (origin ->> 'offset')::bigint, reason from staging.dead_letters")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(letter, (poison, "not_json".to_owned()));
}
