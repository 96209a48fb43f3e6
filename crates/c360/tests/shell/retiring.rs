//! `c360 source retire`, and what `c360 status` says before and after, on a real Postgres, as a shell sees it.

use std::time::Duration;

use assert_cmd::assert::Assert;
use chrono::{DateTime, Utc};
use consolidate::Rules;
use model::{Entity, ExternalId, Guards, InstallationKey, LogPosition, Mapped, Operation, Position, Record};
use serde_json::{Value, json};
use staging::health::Speaker;
use staging::offsets::{Advance, Progress};
use staging::{Batch, Checkpoint, DEFAULT_PARTITION_WIDTH, Lander, Seal};
use tokio_util::sync::CancellationToken;

use crate::support::{self, Home, SHIPPED, stderr, stdout};

const TOPIC: &str = "dbserver1.inventory.customers";
const TTL: Duration = Duration::from_hours(25);

/// The shipped configuration on a database of one's own.
struct Place {
    home: Home,
    next_offset: i64,
}

fn seal() -> Seal {
    Seal::new(&InstallationKey::new([7; 32]))
}

impl Place {
    async fn migrated() -> Self {
        let home = Home::new(SHIPPED).await.without_brokers();
        home.migrate().await;
        Self { home, next_offset: 0 }
    }

    async fn value(&self, sql: &str) -> i64 {
        self.home.ask(sql).await
    }

    fn retire(&self, arguments: &[&str]) -> Assert {
        self.home.c360(&[&["source", "retire"], arguments].concat())
    }

    /// What status says needs a look about a source, each as its command.
    fn looks(&self, source: &str) -> Vec<Value> {
        let status = support::document(&self.home.c360(&["status", "--json"]).code(0));
        let looks = status["looks"].as_array().unwrap().iter().filter(|look| look["source"] == source);
        looks.map(|look| look["command"].clone()).collect()
    }

    /// Lands customers as (id, binlog file, time), each in a place of its own, and consolidates.
    async fn land(&mut self, source: &str, said: &[(i64, u32, DateTime<Utc>)]) {
        let mut batch = Batch::new(source, TTL);
        let first = self.next_offset;
        for (offset, (id, file, at)) in (first..).zip(said) {
            let log = LogPosition { file: *file, pos: offset.unsigned_abs(), streamed: true, row: 0 };
            batch.push(&Record {
                operation: Operation::Upsert,
                mapped: Mapped {
                    entity: Entity::Customer,
                    external_id: ExternalId::from_parts(id.to_string(), true),
                    email: Some(format!("person.{id}@example.com")),
                    credential: None,
                    attributes: json!({"name": format!("Person {id}")}).to_string(),
                },
                position: Position::kafka(0, log, offset),
                observed_at: *at,
                moved_to: None,
                payload: None,
            });
        }
        self.next_offset += i64::try_from(said.len()).unwrap();
        let advance = Advance {
            progress: Progress::Source,
            epoch: 0,
            topic: TOPIC.to_owned(),
            partition: 0,
            expected: Some(first).filter(|first| *first > 0),
            next_offset: self.next_offset,
            last_seen: None,
            last_message: None,
        };
        let origin =
            json!({"topic": TOPIC, "partition": 0, "first_offset": first, "last_offset": self.next_offset - 1});
        let mut lander = Lander::new(self.home.options(), seal(), DEFAULT_PARTITION_WIDTH);
        lander.land(&mut batch, &origin, &Checkpoint::Kafka(advance), Utc::now()).await.unwrap();
        let rules = Rules {
            survivorship: model::Survivorship::default(),
            guards: Guards::new(&["n/a".to_owned()], 10).unwrap(),
            polled_sources: vec!["online_store".to_owned()],
        };
        consolidate::catch_up(&rules, &seal(), &self.home.options(), &CancellationToken::new()).await.unwrap();
    }
}

fn hour(hour: u32) -> DateTime<Utc> {
    format!("2026-03-01T{hour:02}:00:00Z").parse().unwrap()
}

#[tokio::test]
async fn a_source_is_retired_as_the_dry_run_says_and_only_with_a_yes() {
    let mut place = Place::migrated().await;
    let people: Vec<_> = (1..=12).map(|id| (id, 1, hour(u32::try_from(id).unwrap()))).collect();
    place.land("home_delivery", &people).await;

    let said = place.retire(&["home_delivery", "--before", "2026-03-01T11:30:00Z", "--dry-run"]).code(0);
    let page = stdout(&said);
    let first = "home_delivery before 2026-03-01T11:30:00Z: 11 cross-references would be tombstoned; of profiles 11 would \
                 vanish, 0 would lose something\n";
    assert!(page.starts_with(first), "{page}");
    assert!(page.contains("who vanishes\n") && page.ends_with("  ... and 1 more\n"), "{page}");
    assert!(!page.contains('@') && !page.contains("Person"), "no values: {page}");
    let said = place.retire(&["home_delivery", "--before", "2026-03-01T11:30:00Z"]).code(2);
    assert!(stderr(&said).contains("11 cross-references: say --yes"), "{}", stderr(&said));
    assert_eq!(place.value("select count(*) from customer360.documents").await, 12);
    assert_eq!(place.value("select count(*) from customer360.retirements").await, 0);

    let arguments = ["home_delivery", "--before", "2026-03-01T11:30:00Z", "--yes", "--json"];
    let document = support::document(&place.retire(&arguments).code(0));
    let facts = ["source", "before", "dry_run", "cross_references", "profiles", "finished"].map(|key| &document[key]);
    assert_eq!(
        json!(facts),
        json!(["home_delivery", "2026-03-01T11:30:00Z", false, 11, {"vanish": 11, "change": 0}, true])
    );
    assert_eq!(place.value("select count(*) from customer360.documents").await, 1);
    let again = support::document(&place.retire(&arguments).code(0));
    assert_eq!((&again["cross_references"], &again["finished"]), (&json!(0), &json!(true)));
}

#[tokio::test]
async fn a_system_that_is_configured_no_more_can_be_retired_and_one_that_never_was_is_not_found() {
    let mut place = Place::migrated().await;
    place.land("old_shop", &[(1, 1, hour(1))]).await;
    let said = place.retire(&["old_shop", "--yes"]).code(0);
    assert!(stdout(&said).contains("1 cross-reference tombstoned; of profiles 1 vanish"), "{}", stdout(&said));
    assert_eq!(place.value("select count(*) from customer360.documents").await, 0);
    let said = place.retire(&["new_shop", "--yes"]).code(66);
    assert!(stderr(&said).contains("no source is called new_shop, and nothing is known of one"), "{}", stderr(&said));
    let said = place.retire(&["old_shop", "--before", "2999-01-01", "--yes"]).code(2);
    assert!(stderr(&said).contains("is in the future"), "{}", stderr(&said));
    assert_eq!(place.value("select count(*) from customer360.retirements").await, 1);
}

#[tokio::test]
async fn the_alarm_of_an_emptied_table_names_the_command_that_ends_it() {
    let place = Place::migrated().await;
    let at = (Utc::now() - chrono::TimeDelta::hours(1)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let word = json!({"lag": 0, "stopped": [], "truncated": [{"topic": TOPIC, "at": at, "alarm": "..."}]});
    staging::health::report(&mut place.home.connection().await, "home_delivery", Speaker::Daemon, &word, Utc::now())
        .await
        .unwrap();
    let command = format!("c360 source retire home_delivery --before {at}");
    assert_eq!(place.looks("home_delivery"), [json!(command)]);
    let arguments: Vec<&str> = command.split(' ').skip(1).chain(["--yes"]).collect();
    place.home.c360(&arguments).code(0);
    assert_eq!(place.looks("home_delivery"), [json!(null); 0]);
}

#[tokio::test]
async fn a_log_that_begins_again_is_an_alarm_with_its_command_until_the_epoch_is_raised() {
    let mut place = Place::migrated().await;
    let say_well = json!({"lag": 0, "stopped": []});
    staging::health::report(
        &mut place.home.connection().await,
        "home_delivery",
        Speaker::Daemon,
        &say_well,
        Utc::now(),
    )
    .await
    .unwrap();
    place.land("home_delivery", &[(1, 7, hour(1)), (2, 7, hour(2))]).await;
    place.land("home_delivery", &[(1, 7, hour(1)), (2, 7, hour(2))]).await;
    assert_eq!(place.looks("home_delivery"), [json!(null); 0]);
    place.land("home_delivery", &[(3, 1, hour(8)), (1, 1, hour(9))]).await;
    for _ in 0..2 {
        assert_eq!(
            place.looks("home_delivery"),
            [json!("c360 replay home_delivery --from-offset 5 --new-epoch")],
            "whoever asks, and whenever"
        );
    }
    place.home.c360(&["status", "--check"]).code(1);
    let mut connection = place.home.connection().await;
    assert!(staging::replays::rewind(&mut connection, "home_delivery", &[], true, Utc::now()).await.unwrap());
    assert_eq!(place.looks("home_delivery"), [json!(null); 0]);
}
