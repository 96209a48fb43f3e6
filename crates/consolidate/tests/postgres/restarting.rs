//! A source whose log begins again is noticed, and nothing else is taken for it.

use chrono::{DateTime, TimeDelta, Utc};
use consolidate::overview::{self, LogRestart};
use model::{Entity, ExternalId, LogPosition, Mapped, Operation, Position, Record};
use serde_json::json;

use crate::support::events::{Event, member, night};
use crate::support::{Export, World};

/// What a row of MySQL said.
#[derive(Clone)]
struct Said {
    id: i64,
    log: LogPosition,
    at: DateTime<Utc>,
    city: &'static str,
}

fn day(day: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + day * 86_400, 0).unwrap()
}

fn said(id: i64, (file, pos): (u32, u64), at: DateTime<Utc>, city: &'static str) -> Said {
    Said { id, log: LogPosition { file, pos, streamed: true, row: 0 }, at, city }
}

impl World {
    /// Lands these as the next messages of the topic; returns the offset of the first.
    async fn publish(&mut self, first_offset: i64, said: &[Said]) -> i64 {
        let record = |(offset, said): (i64, &Said)| Record {
            operation: Operation::Upsert,
            mapped: Mapped {
                entity: Entity::Customer,
                external_id: ExternalId::from_parts(said.id.to_string(), true),
                email: Some(format!("person.{}@x.example", said.id)),
                credential: None,
                attributes: json!({"city": said.city}).to_string(),
            },
            position: Position::kafka(self.epoch, said.log, offset),
            observed_at: said.at,
            moved_to: None,
            payload: None,
        };
        let records: Vec<Record> = (first_offset..).zip(said).map(record).collect();
        self.land_records("shop", &records).await;
        self.consolidate().await;
        first_offset + i64::try_from(said.len()).unwrap()
    }

    async fn restarts(&self) -> Vec<LogRestart> {
        let mut connection = self.pool.acquire().await.unwrap();
        overview::log_restarts(&mut connection).await.unwrap().remove("shop").unwrap_or_default()
    }

    async fn city(&self, id: i64) -> serde_json::Value {
        self.profile(&format!("person.{id}@x.example")).await.unwrap()["city"].clone()
    }

    /// What `replay --new-epoch` does before it lands.
    async fn raise_epoch(&mut self) {
        let mut connection = self.pool.acquire().await.unwrap();
        assert!(staging::replays::rewind(&mut connection, "shop", &[], true, Utc::now()).await.unwrap());
        self.epoch += 1;
    }
}

/// A long life before anything happens to the log.
fn life() -> Vec<Said> {
    (1..=6)
        .flat_map(|n| {
            [
                said(n, (9, 100 * n.unsigned_abs()), day(n), "Bern"),
                said(n, (10, 100 * n.unsigned_abs()), day(10 + n), "Basel"),
            ]
        })
        .collect()
}

#[tokio::test]
async fn a_log_that_begins_again_is_noticed_with_its_first_record_until_a_new_epoch_puts_all_right() {
    let mut world = World::new().await;
    let next = world.publish(0, &life()).await;
    assert!(world.restarts().await.is_empty());

    // The server was restored: its binlog begins with file 1.
    let new_life = [
        said(77, (1, 90), day(20), "Chur"),
        said(1, (1, 100), day(20) + TimeDelta::seconds(5), "Genf"),
        said(2, (1, 200), day(20) + TimeDelta::seconds(9), "Genf"),
    ];
    let then = world.publish(next, &new_life).await;
    world.publish(then, &[said(3, (1, 300), day(21), "Genf")]).await;
    assert_eq!(
        (world.city(1).await, world.city(3).await),
        (json!("Basel"), json!("Basel")),
        "nothing is changed by itself"
    );
    let restarts = world.restarts().await;
    assert_eq!(restarts.len(), 1, "{restarts:?}");
    let restart = &restarts[0];
    assert_eq!((restart.topic.as_str(), restart.partition, restart.records), ("shop", 0, 3));
    assert_eq!((restart.first_offset, restart.first_observed_at), (next + 1, new_life[1].at));
    assert!(restart.noticed_at < restart.last_noticed_at);

    world.raise_epoch().await;
    assert!(world.restarts().await.is_empty(), "the operator has answered");
    world.publish(next, &new_life).await;
    world.publish(then, &[said(3, (1, 300), day(21), "Genf")]).await;
    assert_eq!(
        (world.city(1).await, world.city(2).await, world.city(3).await),
        (json!("Genf"), json!("Genf"), json!("Genf"))
    );
    assert_eq!(world.city(4).await, json!("Basel"));
    assert!(world.restarts().await.is_empty());

    // It happens once more.
    world.publish(then + 1, &[said(1, (1, 7), day(40), "Lugano")]).await;
    assert_eq!(world.restarts().await.len(), 1);
}

#[tokio::test]
async fn landed_in_one_piece_with_what_was_before_it_is_noticed_too() {
    let mut world = World::new().await;
    let mut all = life();
    all.push(said(2, (1, 100), day(20), "Genf"));
    world.publish(0, &all).await;
    assert_eq!(world.restarts().await[0].first_offset, 12);
}

#[tokio::test]
async fn a_replay_of_everything_in_any_order_is_no_restart() {
    let mut world = World::new().await;
    // A snapshot has one place in the log, and times as late as the reading of its table; what happened meanwhile follows
    // with earlier times.
    let read = |n: i64| Said {
        log: LogPosition { streamed: false, ..said(n, (8, 1), day(30), "").log },
        ..said(n, (8, 1), day(30), "Thun")
    };
    let mut all: Vec<Said> = (1..=6).map(read).collect();
    all.extend(life());
    let next = world.publish(0, &all).await;
    for (start, step) in [(0, 1), (3, 5), (7, 11), (17, 17)] {
        let order: Vec<Said> = (0..all.len()).map(|n| all[(start + n * step) % all.len()].clone()).collect();
        for part in order.chunks(4) {
            // At its own offsets, as a replay does, or as a worker that was killed publishes it again.
            world.publish(0, part).await;
            world.publish(next, part).await;
        }
    }
    assert!(world.restarts().await.is_empty());
    let moved = "select count(*) from customer360.xrefs where attributes->>'city' <> 'Basel'";
    assert_eq!(world.value(moved).await, 0);
}

#[tokio::test]
async fn what_comes_late_is_no_restart() {
    let mut world = World::new().await;
    let next = world.publish(0, &life()).await;
    // A partition that was added: another id's news come first, an old change of id 1 comes last.
    let next = world.publish(next, &[said(1, (11, 500), day(30), "Sion")]).await;
    let next = world.publish(next, &[said(1, (11, 400), day(30) - TimeDelta::hours(3), "Thun")]).await;
    // Clocks that disagree by less than a minute.
    world.publish(next, &[said(1, (11, 450), day(30) + TimeDelta::seconds(50), "Thun")]).await;
    assert!(world.restarts().await.is_empty());
    assert_eq!(world.city(1).await, json!("Sion"));
}

#[tokio::test]
async fn an_incremental_snapshot_of_a_table_at_rest_is_no_restart() {
    let mut world = World::new().await;
    // One statement wrote three rows; nothing has happened since, so the snapshot has the place of that statement.
    let row = |n: u32| Said {
        log: LogPosition { row: n, ..said(0, (10, 500), day(1), "").log },
        ..said(i64::from(n), (10, 500), day(1), "Bern")
    };
    let next = world.publish(0, &[row(0), row(1), row(2)]).await;
    let read = |n: i64| said(n, (10, 500), day(5), "Bern");
    world.publish(next, &[read(0), read(1), read(2)]).await;
    assert!(world.restarts().await.is_empty());
}

#[tokio::test]
async fn a_file_that_is_imported_again_is_no_restart() {
    let mut world = World::new().await;
    let members = |in_night: i64| -> Vec<Event> {
        (1..).zip(["ann", "bob"]).map(|(row, id)| member(id, in_night, row).email(&format!("{id}@x.example"))).collect()
    };
    for in_night in [0, 3, 3, 1, 0] {
        let export =
            Export { source: "shop", night: in_night, members: &members(in_night), unreadable: &[], batch_rows: 1 };
        world.export(&export).await;
        world.consolidate().await;
    }
    // And its rows by themselves, as a delta file has them.
    world.land("shop", &members(2)).await;
    world.land("shop", &[member("ann", 9, 1).email("ann@x.example").observed_at(night(9).timestamp())]).await;
    world.land("shop", &[member("ann", 8, 1).email("ann@x.example").observed_at(night(20).timestamp())]).await;
    world.consolidate().await;
    assert!(world.restarts().await.is_empty());
}
