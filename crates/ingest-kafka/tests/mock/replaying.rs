//! `Replay`, on librdkafka's mock cluster and a real Postgres. Times are for a real broker: the mock knows none.

#![expect(clippy::unwrap_used, reason = "a test without its world can only fail")]

use crate::world::{NEXT, RECORDS, World, insert, lander};

use embedded_postgres::test::until;
use ingest_kafka::{CaughtUp, Error, Part, Place, Replay, Request};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sqlx::Row;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const TOMBSTONE: &[u8] = b"null";

fn from(offset: i64) -> Request {
    Request { from: Some(Place::Offset(offset)), ..Request::default() }
}

fn from_to(first: i64, end: i64) -> Request {
    Request { to: Some(Place::Offset(end)), ..from(first) }
}

impl World {
    async fn plan(&self, request: Request) -> Result<Replay, Error> {
        Replay::plan(self.settings(), &self.database, request).await
    }

    async fn replay(&self, request: Request) -> CaughtUp {
        let replay = self.plan(request).await.unwrap();
        replay.run(lander(&self.database), &mut |_| {}, &CancellationToken::new()).await.unwrap()
    }

    /// Positions of the records of a batch or more, by landing.
    async fn positions(&self, sql: &'static str) -> Vec<Vec<u8>> {
        let rows = sqlx::query(sql).fetch_all(&self.pool).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

const POSITIONS_FIRST: &str = "select distinct on (external_id, operation) position from staging.records
     order by external_id, operation, batch_id";
const POSITIONS_LAST: &str = "select distinct on (external_id, operation) position from staging.records
     order by external_id, operation, batch_id desc";
const UNFINISHED: &str = "select count(*) from staging.replays";

#[tokio::test]
async fn a_replay_lands_a_section_again_beside_the_daemon_and_leaves_its_progress_alone() {
    let world = World::new(2).await;
    world.produce_inserts(0, 0..100).await;
    world.produce_inserts(1, 100..200).await;
    let daemon = world.run();
    until(&world.pool, NEXT, 200).await;

    let request = Request { partition: Some(0), ..from_to(10, 30) };
    let done = world.replay(request.clone()).await;
    assert_eq!((done.records, done.dead_letters, done.stopped), (20, 0, vec![]));
    assert_eq!(world.count(NEXT).await, 200);
    assert_eq!(world.ids().await.iter().filter(|id| (10..30).contains(*id)).count(), 40);
    assert_eq!(world.count(RECORDS).await, 220);
    assert_eq!(world.count(UNFINISHED).await, 0);
    assert_eq!(world.positions(POSITIONS_FIRST).await, world.positions(POSITIONS_LAST).await);

    // A finished replay can be asked for again, and all of it by no words at all.
    assert_eq!(world.replay(request).await.records, 20);
    assert_eq!(world.replay(Request::default()).await.records, 200);
    world.produce_inserts(0, 200..210).await;
    until(&world.pool, NEXT, 210).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_broker_that_does_not_know_a_new_partition_yet_is_asked_again() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..10).await;
    let not_yet = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    world.cluster.request_errors(RDKafkaApiKey::ListOffsets, &[not_yet; 8]);
    assert_eq!(world.plan(Request::default()).await.unwrap().messages(), 10);
}

#[tokio::test]
async fn a_topic_that_the_source_does_not_have_is_told_from_a_wrong_request() {
    let world = World::new(1).await;
    let refused = world.plan(Request { topic: Some("nope".to_owned()), ..Request::default() }).await.unwrap_err();
    assert!(matches!(&refused, Error::NotItsTopic { topic, .. } if topic == "nope"), "{refused}");
    assert_eq!(refused.to_string(), "source home_delivery: it has no topic nope; it has customers");
}

#[tokio::test]
async fn a_message_without_a_position_takes_the_one_before_it_also_where_a_replay_begins() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..3).await;
    // More of them than are looked at in one go.
    for id in 0..150 {
        world.produce(0, &format!(r#"{{"id":{id}}}"#), TOMBSTONE).await;
    }
    world.catch_up().await.unwrap();
    world.replay(from(140)).await;
    assert_eq!(world.count(RECORDS).await, 153 + 13);
    assert_eq!(world.positions(POSITIONS_FIRST).await, world.positions(POSITIONS_LAST).await);
}

#[tokio::test]
async fn a_replay_that_is_stopped_goes_on_where_it_was_and_another_begins_anew() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..20_000).await;
    world.catch_up().await.unwrap();
    let cancel = CancellationToken::new();
    let replay = world.plan(from(0)).await.unwrap();
    // Landing takes longer than telling: it is stopped between two batches, or after the last.
    let mut tell = |messages: u64| {
        if messages > 0 {
            cancel.cancel();
        }
    };
    let done = replay.run(lander(&world.database), &mut tell, &cancel).await.unwrap();
    let left = world.plan(from(0)).await.unwrap();
    if done.records < 20_000 {
        assert_eq!(left.messages(), 20_000 - done.records);
        assert_eq!(left.parts()[0].first_offset, 0);
        assert_eq!(world.replay(from(0)).await.records, 20_000 - done.records);
        assert_eq!(world.count(RECORDS).await, 40_000);
    }
    assert_eq!(world.plan(from(5)).await.unwrap().messages(), 19_995);
}

#[tokio::test]
async fn a_replay_whose_place_another_takes_does_not_say_that_it_is_done() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..20_000).await;
    world.catch_up().await.unwrap();
    let (long, short) = (world.plan(from(0)).await.unwrap(), world.plan(from_to(3, 5)).await.unwrap());
    let mut waiting = Some((short, lander(&world.database)));
    // The other one is done before the long one looks again.
    let mut tell = |messages: u64| {
        if (1..20_000).contains(&messages)
            && let Some((short, lander)) = waiting.take()
        {
            let run =
                async move { short.run(lander, &mut |_| {}, &CancellationToken::new()).await.map(|done| done.records) };
            let done =
                std::thread::scope(|scope| scope.spawn(|| Runtime::new().unwrap().block_on(run)).join().unwrap());
            assert_eq!(done.unwrap(), 2);
        }
    };
    let done = long.run(lander(&world.database), &mut tell, &CancellationToken::new()).await;
    match waiting {
        None => {
            assert!(matches!(done.unwrap_err(), Error::Taken { .. }));
            assert_eq!(world.count(UNFINISHED).await, 1, "what took a place stays, so that whoever had it hears of it");
        }
        Some(_) => assert_eq!(done.unwrap().records, 20_000, "it was done before the other one could begin"),
    }
    assert_eq!(world.replay(from(0)).await.records, 20_000, "and can be asked for again");
    assert_eq!(world.count(UNFINISHED).await, 0, "until the next one of its partition");
}

#[tokio::test]
async fn a_replay_that_was_stopped_begins_anew_where_messages_are_gone() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..10).await;
    world.catch_up().await.unwrap();
    let begin = "insert into staging.replays (source, topic, partition, request, first_offset, end_offset, next_offset, updated_at)
                 values ('home_delivery', 'customers', 0, '', 0, 1000, 4, now())";
    sqlx::query(begin).execute(&world.pool).await.unwrap();
    assert_eq!(world.replay(Request::default()).await.records, 10);
}

#[tokio::test]
async fn two_that_are_given_the_same_replay_share_it() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..10_000).await;
    world.catch_up().await.unwrap();
    tokio::join!(world.replay(from(0)), world.replay(from(0)));
    assert_eq!(world.count(RECORDS).await, 20_000);
}

#[tokio::test]
async fn what_is_landed_again_takes_its_dead_letter_with_it() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..5).await;
    world.produce(0, "{}", b"{\"id\":").await;
    world.produce(0, "{}", br#"{"op":"z","after":{"id":1},"source":{}}"#).await;
    world.catch_up().await.unwrap();
    let parked = "select count(*) from staging.dead_letters where state = 'parked'";
    assert_eq!(world.count(parked).await, 2);
    assert_eq!(world.replay(from_to(0, 6)).await.dead_letters, 1);
    assert_eq!(world.count(parked).await, 2);
    assert_eq!(world.count("select count(*) from staging.dead_letters where state = 'retried'").await, 1);
}

#[tokio::test]
async fn a_stopped_partition_goes_on_from_where_a_replay_says() {
    let world = World::new(2).await;
    world.produce_inserts(0, 0..10).await;
    world.produce_inserts(1, 100..110).await;
    sqlx::query("insert into staging.kafka_offsets values ('home_delivery', 'customers', 1, 1000, null, now())")
        .execute(&world.pool)
        .await
        .unwrap();
    let daemon = world.run();
    until(&world.pool, NEXT, 1_010).await;
    let alarm =
        "select count(*) from staging.sources where health->'partitions'->'customers/1'->'stopped'->>'partition' = '1'";
    until(&world.pool, alarm, 1).await;

    let replay = world.plan(Request::default()).await.unwrap();
    let rewinds: Vec<(i32, bool, u64)> =
        replay.parts().iter().map(|part: &Part| (part.partition, part.rewinds, part.messages())).collect();
    assert_eq!(rewinds, [(0, false, 10), (1, true, 10)]);
    let refused = world.plan(Request { partition: Some(1), ..from_to(0, 5) }).await.unwrap_err();
    assert!(refused.to_string().contains("leave --to out"), "{refused}");

    let request = Request { partition: Some(1), ..from(4) };
    world.replay(request).await;
    until(&world.pool, NEXT, 20).await;
    until(&world.pool, alarm, 0).await;
    world.produce_inserts(1, 110..120).await;
    until(&world.pool, NEXT, 30).await;
    daemon.stop().await;
    assert_eq!(world.ids().await, (0..10).chain(104..120).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_new_epoch_is_newer_than_everything_before_whoever_lands_it() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..50).await;
    let daemon = world.run();
    until(&world.pool, NEXT, 50).await;
    // The log begins again: what is new stands before what is known.
    world.produce_inserts(0, 0..10).await;
    until(&world.pool, NEXT, 60).await;
    world.replay(Request { new_epoch: true, ..from(50) }).await;
    until(&world.pool, RECORDS, 70).await;
    world.produce_inserts(0, 10..15).await;
    until(&world.pool, RECORDS, 75).await;
    let newest = "select count(*) from staging.records where substring(position from 1 for 4) = '\\x00000001'";
    assert_eq!(world.count(newest).await, 15);
    // What came before it stays older than it, also when it is landed again.
    world.replay(Request::default()).await;
    assert_eq!((world.count(RECORDS).await, world.count(newest).await), (75 + 65, 15 + 15));
    daemon.stop().await;
    assert_eq!(world.count("select epoch::bigint from staging.sources").await, 1);
}

#[tokio::test]
async fn what_is_not_landed_when_a_new_epoch_begins_behind_it_is_landed_in_the_old_one() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..20).await;
    world.catch_up().await.unwrap();
    world.produce_inserts(0, 20..30).await;
    world.replay(Request { new_epoch: true, ..from(25) }).await;
    let newest = "select count(*) from staging.records where substring(position from 1 for 4) = '\\x00000001'";
    assert_eq!((world.count(RECORDS).await, world.count(newest).await), (30, 5));
}

#[tokio::test]
async fn a_daemon_that_has_landed_up_to_the_new_epoch_and_not_further_takes_it_up() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..50).await;
    let daemon = world.run();
    until(&world.pool, NEXT, 50).await;
    // Its stored progress stays what it was; only the epoch is another one.
    world.replay(Request { new_epoch: true, ..from(50) }).await;
    world.produce_inserts(0, 0..10).await;
    until(&world.pool, NEXT, 60).await;
    daemon.stop().await;
    let newest = "select count(*) from staging.records where substring(position from 1 for 4) = '\\x00000001'";
    assert_eq!(world.count(newest).await, 10);
}

#[tokio::test]
async fn a_dry_run_decodes_everything_and_writes_nothing() {
    let world = World::new(2).await;
    world.produce_inserts(0, 0..5_000).await;
    world.produce_inserts(1, 5_000..5_010).await;
    world.produce(1, "{}", b"{").await;
    world.produce(1, "{}", insert(7).replace(r#""op":"c""#, r#""op":"m""#).as_bytes()).await;
    world.catch_up().await.unwrap();
    let replay = world.plan(Request { new_epoch: true, ..Request::default() }).await.unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    let listening = async {
        let mut records = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            records.extend(chunk);
        }
        records
    };
    let cancel = CancellationToken::new();
    let (counts, records) = tokio::join!(replay.read(sender, &cancel), listening);
    let counts = counts.unwrap();
    assert_eq!((counts.records, counts.dead_letters, counts.skipped, records.len()), (5_010, 1, 1, 5_010));
    assert!(records.iter().all(|record| record.position.as_bytes().starts_with(&[0, 0, 0, 1])));
    assert_eq!((world.count(RECORDS).await, world.count(UNFINISHED).await), (5_010, 0));
    assert_eq!(world.count("select count(*) from staging.sources where epoch > 0").await, 0);
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let world = World::new(2).await;
    world.produce_inserts(0, 0..10).await;
    world.produce_inserts(1, 10..20).await;
    world.catch_up().await.unwrap();
    for (request, words) in [
        (from(3), "add --topic and --partition"),
        (Request { partition: Some(7), ..Request::default() }, "customers/0, customers/1"),
        (Request { partition: Some(1), ..from(11) }, "begins at 0 and ends at 10"),
    ] {
        let refused = world.plan(request).await.unwrap_err();
        assert!(matches!(refused, Error::Replay { .. }) && refused.to_string().contains(words), "{refused}");
    }
}
