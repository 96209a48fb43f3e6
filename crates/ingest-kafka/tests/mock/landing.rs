//! The loop, on librdkafka's mock cluster and a real Postgres.

use std::time::Duration;

use crate::world::{NEXT, RECORDS, World, lander};
use embedded_postgres::test::until;
use ingest_kafka::Error;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn everything_is_landed_once_and_a_second_life_goes_on_from_there() {
    let world = World::new(3).await;
    for partition in 0..3 {
        world.produce_inserts(partition, (0..2_000).map(|id| id * 3 + u32::try_from(partition).unwrap())).await;
    }
    let daemon = world.run();
    until(&world.pool, NEXT, 6_000).await;
    daemon.stop().await;
    let daemon = world.run();
    world.produce_inserts(1, 6_000..6_010).await;
    until(&world.pool, NEXT, 6_010).await;
    daemon.stop().await;
    assert_eq!(world.ids().await, (0..6_010).collect::<Vec<_>>());
    let covered = "select sum((origin->>'last_offset')::bigint - (origin->>'first_offset')::bigint + 1)::bigint from staging.batches";
    assert_eq!(world.count(covered).await, 6_010);
}

#[tokio::test]
async fn a_daemon_that_is_killed_any_time_loses_nothing_and_doubles_nothing() {
    let world = World::new(2).await;
    for round in 0..6_u32 {
        let daemon = world.run();
        world.produce_inserts(0, round * 1_000..round * 1_000 + 500).await;
        world.produce_inserts(1, round * 1_000 + 500..(round + 1) * 1_000).await;
        // Somewhere in the middle of it.
        until(&world.pool, "select least(count(*), 1) from staging.records", 1).await;
        daemon.abort().await;
    }
    world.catch_up().await.unwrap();
    assert_eq!(world.ids().await, (0..6_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn catching_up_ends_at_the_watermarks_and_a_second_time_has_nothing_to_do() {
    let world = World::new(2).await;
    world.produce_inserts(0, 0..100).await;
    world.produce(0, "null", b"").await;
    world.produce(1, r#"{"id":100}"#, br#"{"op":"x","after":{"id":100},"source":{}}"#).await;
    let done = world.catch_up().await.unwrap();
    assert_eq!((done.records, done.dead_letters, done.skipped, done.stopped), (100, 1, 1, vec![]));
    assert_eq!(world.catch_up().await.unwrap(), ingest_kafka::CaughtUp::default());
    let lag = ingest_kafka::lag(&world.settings(), &world.database).await.unwrap();
    assert_eq!(
        lag.iter().map(|partition| (partition.next_offset, partition.lag)).collect::<Vec<_>>(),
        [(Some(101), 0), (Some(1), 0)]
    );
}

#[tokio::test]
async fn of_two_landers_on_one_partition_nobody_doubles_anything() {
    let world = World::new(1).await;
    // Two groups: each believes that the partition is its own, as a zombie does.
    let mut zombie = world.settings();
    zombie.group_id = "zombie".to_owned();
    let (one, other) = (world.run(), world.run_with(zombie));
    for round in 0..20 {
        world.produce_inserts(0, round * 100..(round + 1) * 100).await;
    }
    until(&world.pool, NEXT, 2_000).await;
    assert_eq!(world.ids().await, (0..2_000).collect::<Vec<_>>());
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn two_processes_of_a_group_share_the_partitions_and_one_takes_over() {
    let world = World::new(4).await;
    let (one, other) = (world.run(), world.run());
    for partition in 0..4_u32 {
        world.produce_inserts(partition.try_into().unwrap(), partition * 100..(partition + 1) * 100).await;
    }
    until(&world.pool, NEXT, 400).await;
    other.stop().await;
    for partition in 0..4_u32 {
        world.produce_inserts(partition.try_into().unwrap(), 400 + partition * 100..500 + partition * 100).await;
    }
    until(&world.pool, NEXT, 800).await;
    one.stop().await;
    assert_eq!(world.ids().await, (0..800).collect::<Vec<_>>());
}

#[tokio::test]
async fn poison_is_parked_and_its_neighbours_land() {
    let world = World::new(1).await;
    let poison: [(&[u8], &str); 5] = [
        (b"{\"id\":\"\xff\"}", "not_utf8"),
        (br#"{"id":1,"name":"\u0000"}"#, "nul"),
        (b"{\"id\":", "not_json"),
        (br#"{"op":"z","after":{"id":1},"source":{}}"#, "unknown_operation"),
        (br#"{"name":"nobody"}"#, "no_external_id"),
    ];
    for (place, (value, _)) in (0_u32..).zip(poison) {
        world.produce_inserts(0, place * 10..(place + 1) * 10).await;
        world.produce(0, "{}", value).await;
    }
    world.catch_up().await.unwrap();
    assert_eq!(world.ids().await, (0..50).collect::<Vec<_>>());
    let letters: Vec<(String, i64, i32)> = sqlx::query_as(
        "select reason, (origin->>'offset')::bigint, (origin->>'partition')::integer from staging.dead_letters order by 2",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let expected = (0..).zip(poison).map(|(place, (_, reason))| (reason.to_owned(), place * 11 + 10, 0));
    assert_eq!(letters, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_that_only_the_database_refuses_is_found_and_parked_alone() {
    let world = World::new(1).await;
    // A refusal that no inspection can foresee.
    sqlx::query("alter table staging.records add constraint unforeseen check (external_id <> '13')")
        .execute(&world.pool)
        .await
        .unwrap();
    world.produce_inserts(0, 0..100).await;
    let done = world.catch_up().await.unwrap();
    assert_eq!((done.records, done.dead_letters), (99, 1));
    assert_eq!(world.count("select (origin->>'offset')::bigint from staging.dead_letters").await, 13);
    assert_eq!(world.ids().await, (0..100).filter(|id| *id != 13).collect::<Vec<_>>());
}

#[tokio::test]
async fn stored_progress_that_is_changed_underneath_is_taken_up() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..50).await;
    let daemon = world.run();
    until(&world.pool, NEXT, 50).await;
    // As `replay` does: an earlier offset, and a new epoch.
    sqlx::query("update staging.kafka_offsets set next_offset = 40").execute(&world.pool).await.unwrap();
    sqlx::query("insert into staging.sources (source, epoch) values ('home_delivery', 1) on conflict (source) do update set epoch = 1")
        .execute(&world.pool).await.unwrap();
    world.produce_inserts(0, 50..60).await;
    until(&world.pool, NEXT, 60).await;
    daemon.stop().await;
    assert_eq!(world.count(RECORDS).await, 70);
    let newest = "select count(*) from staging.records where substring(position from 1 for 4) = '\\x00000001'";
    assert_eq!(world.count(newest).await, 20);
}

#[tokio::test]
async fn progress_beyond_the_end_stops_the_partition_with_an_alarm_and_no_other() {
    let world = World::new(2).await;
    world.produce_inserts(0, 0..10).await;
    sqlx::query("insert into staging.kafka_offsets values ('home_delivery', 'customers', 1, 1000, null, now())")
        .execute(&world.pool)
        .await
        .unwrap();
    world.produce_inserts(1, 100..110).await;
    let done = world.catch_up().await.unwrap();
    assert_eq!((done.records, done.stopped.len(), done.stopped[0].partition), (10, 1, 1));

    let daemon = world.run();
    let alarm =
        "select count(*) from staging.sources where health->'partitions'->'customers/1'->'stopped'->>'partition' = '1'";
    until(&world.pool, alarm, 1).await;
    // The operator decides, and the daemon goes on.
    sqlx::query("update staging.kafka_offsets set next_offset = 0 where partition = 1")
        .execute(&world.pool)
        .await
        .unwrap();
    until(&world.pool, RECORDS, 20).await;
    until(&world.pool, alarm, 0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn brokers_that_do_not_answer_are_told_until_they_do() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..10).await;
    let daemon = world.run();
    until(&world.pool, NEXT, 10).await;
    let in_trouble = "select count(*) from staging.sources where health->>'trouble' = 'no broker answers'";
    assert_eq!(world.count(in_trouble).await, 0);
    world.cluster.broker_down(1).unwrap();
    until(&world.pool, in_trouble, 1).await;
    // No message comes that would show it.
    world.cluster.broker_up(1).unwrap();
    until(&world.pool, in_trouble, 0).await;
    world.produce_inserts(0, 10..20).await;
    until(&world.pool, RECORDS, 20).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_topic_that_does_not_exist_yet_is_waited_for() {
    let world = World::new(1).await;
    let mut settings = world.settings();
    settings.topics = vec!["later".to_owned(), "^cust.*$".to_owned()];
    let daemon = world.run_with(settings.clone());
    world.produce_inserts(0, 0..10).await;
    until(&world.pool, RECORDS, 10).await;
    let is_told = "select count(*) from staging.sources where health->'absent_topics' = '[\"later\"]'";
    until(&world.pool, is_told, 1).await;
    daemon.stop().await;
    let unknown = ingest_kafka::catch_up(
        settings.clone(),
        world.database.clone(),
        lander(&world.database),
        CancellationToken::new(),
    )
    .await;
    assert!(matches!(unknown, Err(Error::UnknownTopic { topic, .. }) if topic == "later"));
    let daemon = world.run_with(settings);
    world.cluster.create_topic("later", 1, 1).unwrap();
    until(&world.pool, is_told, 0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_wrong_property_is_an_error_of_the_configuration() {
    let world = World::new(1).await;
    let mut settings = world.settings();
    settings.properties.insert("fetch.max.byte".to_owned(), "1".to_owned());
    let daemon = world.run_with(settings);
    let refused = tokio::time::timeout(Duration::from_secs(10), daemon.end()).await.unwrap();
    assert!(refused.is_configuration(), "{refused}");
    assert!(refused.to_string().contains("fetch.max.byte"), "{refused}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_build_with_tls_reads_brokers_without_it_and_tries_it_where_it_is_told_to() {
    let world = World::new(1).await;
    world.produce_inserts(0, 0..10).await;
    assert_eq!(world.catch_up().await.unwrap().records, 10);
    let mut settings = world.settings();
    settings.properties.insert("security.protocol".to_owned(), "ssl".to_owned());
    // The mock cluster knows no TLS: that the client is made, and tries, is all that can be seen here.
    let daemon = world.run_with(settings);
    until(&world.pool, "select count(*) from staging.sources where health->>'trouble' is not null", 1).await;
    daemon.stop().await;
}
