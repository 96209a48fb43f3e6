//! `c360 status` on a real Postgres, as a shell sees it.

use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use c360::config::{Config, Environment};
use chrono::{TimeDelta, Utc};
use consolidate::Rules;
use model::{Entity, ExternalId, InstallationKey, LogPosition, Mapped, Operation, Position, Reason, Record, Reject};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::{Value, json};
use staging::health::Speaker;
use staging::imports::{self, File, Refusal};
use staging::offsets::{Advance, Progress};
use staging::{Batch, Checkpoint, DEFAULT_PARTITION_WIDTH, DeadLetter, Lander, Seal};
use tokio_util::sync::CancellationToken;

use crate::support::{self, Home, SHIPPED, stderr, stdout};

const TOPIC: &str = "dbserver1.inventory.customers";
const TTL: Duration = Duration::from_hours(25);

/// The shipped configuration on a database of one's own.
struct Place(Home);

impl Place {
    fn at(url: &str) -> Self {
        Self(Home::at(url, SHIPPED).without_brokers())
    }

    async fn empty() -> Self {
        Self(Home::new(SHIPPED).await.without_brokers())
    }

    async fn migrated() -> Self {
        let place = Self::empty().await;
        place.0.migrate().await;
        place
    }

    fn status(&self, arguments: &[&str]) -> Assert {
        self.0.c360(&[&["status"], arguments].concat())
    }

    fn json(&self, code: i32) -> Value {
        support::document(&self.status(&["--json", "--check"]).code(code))
    }

    /// What ingesters of a running daemon say.
    async fn say(&self, words: &[(&str, Value)]) {
        let mut connection = self.0.connection().await;
        for (source, word) in words {
            staging::health::report(&mut connection, source, Speaker::Daemon, word, Utc::now()).await.unwrap();
        }
    }

    async fn say_all_is_well(&self) {
        let kafka = json!({"lag": 0, "lag_seconds": 0, "oldest_unlanded_seconds": 0, "stopped": []});
        let rest = json!({"breaker": "closed", "stopped": [], "polls_due": 0, "oldest_unlanded_seconds": 0.0});
        let csv = json!({"oldest_unlanded_seconds": 0, "stopped": []});
        self.say(&[("home_delivery", kafka), ("loyalty", csv), ("online_store", rest)]).await;
    }
}

fn seal() -> Seal {
    Seal::new(&InstallationKey::new([7; 32]))
}

fn record(offset: i64, email: Option<&str>) -> Record {
    let log = LogPosition { file: 3, pos: offset.unsigned_abs(), streamed: true, row: 0 };
    Record {
        operation: Operation::Upsert,
        mapped: Mapped {
            entity: Entity::Customer,
            external_id: ExternalId::from_parts(offset.to_string(), true),
            email: email.map(str::to_owned),
            credential: None,
            attributes: "{}".to_owned(),
        },
        position: Position::kafka(0, log, offset),
        observed_at: Utc::now(),
        moved_to: None,
        payload: None,
    }
}

/// Lands two records, of which one has no email, and a dead letter, `ago`.
async fn land(place: &Place, ago: TimeDelta) {
    let mut batch = Batch::new("home_delivery", TTL);
    batch.push(&record(0, Some("person@example.com")));
    batch.push(&record(1, None));
    let reject = Reject::new(Reason::NotJson, "value ends too early");
    batch.push_dead_letter(DeadLetter::new(json!({"topic": TOPIC, "partition": 0, "offset": 2}), reject, b"["));
    let advance = Advance {
        progress: Progress::Source,
        epoch: 0,
        topic: TOPIC.to_owned(),
        partition: 0,
        expected: None,
        next_offset: 3,
        last_seen: None,
        last_message: None,
    };
    let origin = json!({"topic": TOPIC, "partition": 0, "first_offset": 0, "last_offset": 2});
    let mut lander = Lander::new(place.0.options(), seal(), DEFAULT_PARTITION_WIDTH);
    lander.land(&mut batch, &origin, &Checkpoint::Kafka(advance), Utc::now() - ago).await.unwrap();
}

async fn consolidated(place: &Place) {
    let config = Config::load(Some(&place.0.path("c360.toml")), &Environment::default()).unwrap();
    let rules = Rules {
        survivorship: config.survivorship.rules(),
        guards: config.matching.guards().unwrap(),
        polled_sources: vec!["online_store".to_owned()],
    };
    consolidate::catch_up(&rules, &seal(), &place.0.options(), &CancellationToken::new()).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_migrated_is_said_to_be_and_left_alone() {
    let place = Place::empty().await;
    let document = place.json(1);
    assert_eq!((&document["ready"], &document["sources"]["loyalty"]["kind"]), (&json!(false), &json!("csv")));
    assert!(document.get("backlog").is_none());
    let page = stdout(&place.status(&[]).code(0));
    assert!(page.contains("not migrated yet: run `c360 run` or `c360 migrate`"), "{page}");
    let schemas: i64 =
        sqlx::query_scalar("select count(*) from pg_namespace where nspname in ('staging', 'customer360')")
            .fetch_one(&mut place.0.connection().await)
            .await
            .unwrap();
    assert_eq!(schemas, 0);
    assert_eq!(std::fs::read_dir(place.0.path("")).unwrap().count(), 1, "only the configuration: no key, no cluster");
}

#[test]
fn an_embedded_database_that_was_never_made_is_not_made() {
    let place = Place::at("");
    let lines: Vec<&str> = SHIPPED.lines().filter(|line| !line.starts_with("url")).collect();
    place.0.write("c360.toml", lines.join("\n"));
    let mut command = support::c360();
    command.current_dir(place.0.path("")).arg("status");
    let page = stdout(&Command::from_std(command).assert().code(0));
    assert!(page.contains("not migrated yet"), "{page}");
    assert_eq!(std::fs::read_dir(place.0.path("")).unwrap().count(), 1);
}

#[test]
fn a_database_out_of_reach_exits_with_69_and_the_document_says_so() {
    let place = Place::at("postgres://c360@127.0.0.1:1/c360");
    let document = place.json(69);
    assert_eq!((&document["ready"], document["looks"].as_array().unwrap().len()), (&json!(false), 1));
    let status = place.status(&[]).code(69);
    assert_eq!(stdout(&status), "");
    assert!(stderr(&status).contains("the database cannot be reached"), "{}", stderr(&status));
}

#[tokio::test]
async fn where_a_daemon_is_well_nothing_needs_attention() {
    let place = Place::migrated().await;
    place.say_all_is_well().await;
    let document = place.json(0);
    assert_eq!((&document["ready"], &document["looks"]), (&json!(true), &json!([])));
    assert_eq!(document["backlog"], json!({"batches": 0, "records": 0, "oldest_seconds": 0}));
    assert_eq!(document["unmatched"], json!({}));
    assert_eq!((&document["expiry"]["held_back_seconds"], &document["expiry"]["partitions"]), (&json!(0), &json!(0)));
    let kafka = &document["sources"]["home_delivery"];
    assert_eq!((&kafka["kind"], &kafka["lag"], &kafka["stopped"]), (&json!("kafka"), &json!(0), &json!([])));
    assert_eq!(document["sources"]["online_store"]["polls_due"], 0);
    assert_eq!(document["sources"]["online_store"]["breaker"], "closed");
    for table in [
        "staging.records",
        "staging.batches",
        "staging.dead_letters",
        "customer360.changes",
        "customer360.xrefs",
        "customer360.customers",
        "customer360.orders",
    ] {
        assert!(document["storage"][table].as_i64().is_some(), "{table}: {}", document["storage"]);
    }
    assert_eq!((&document["safe_to_stop"]["safe"], &document["orders_total_differs"]), (&json!(true), &json!({})));
    assert!(stdout(&place.status(&["--check"]).code(0)).starts_with("Nothing needs attention.\n"));
}

#[tokio::test]
async fn what_is_landed_shows_until_it_is_consolidated_and_what_matches_nobody_from_then_on() {
    let place = Place::migrated().await;
    land(&place, TimeDelta::minutes(7)).await;
    place.say_all_is_well().await;
    let document = place.json(1);
    let backlog = &document["backlog"];
    assert_eq!((&backlog["batches"], &backlog["records"]), (&json!(1), &json!(2)));
    assert!((420..480).contains(&backlog["oldest_seconds"].as_i64().unwrap()), "{backlog}");
    assert_eq!(document["sources"]["home_delivery"]["dead_letters"], json!({"not_json": 1}));
    let page = stdout(&place.status(&["--check"]).code(1));
    for part in [
        "2 things need a look:",
        "Consolidation is behind: 2 records to do, the oldest for 7 min, and nobody consolidates.\n",
        "$ c360 run --once\n",
        "home_delivery: 1 dead letter within a day: not_json 1.\n",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    place.status(&[]).code(0);

    consolidated(&place).await;
    let document = place.json(1);
    assert_eq!((&document["backlog"]["batches"], &document["unmatched"]), (&json!(0), &json!({"no_email": 1})));
    assert_eq!(document["sources"]["online_store"]["polls_due"], 1, "the one known email");
    sqlx::raw_sql("update staging.dead_letters set state = 'discarded'")
        .execute(&mut place.0.connection().await)
        .await
        .unwrap();
    let document = place.json(0);
    assert_eq!((&document["looks"], &document["sources"]["home_delivery"]["dead_letters"]), (&json!([]), &json!({})));
}

#[tokio::test]
async fn a_refused_file_is_shown_and_needs_a_look() {
    let place = Place::migrated().await;
    place.say_all_is_well().await;
    let file = File {
        directory: "/mnt/exports".to_owned(),
        source: "loyalty".to_owned(),
        file_name: "loyalty_members_2026-03-01.csv".to_owned(),
        as_of: "2026-03-01T00:00:00Z".parse().unwrap(),
        mtime: Utc::now(),
        dated: true,
        full_export: true,
        sha256: "00".to_owned(),
    };
    let refusal = Refusal { reason: "the export has no rows".to_owned(), may_be_accepted: true };
    let mut connection = place.0.connection().await;
    let import_id = imports::begin(&mut connection, &file, Utc::now()).await.unwrap();
    imports::refuse(&mut connection, import_id, &refusal, Utc::now()).await.unwrap();
    let document = place.json(1);
    let last = &document["sources"]["loyalty"]["last_file"];
    assert_eq!((&last["file"], &last["state"]), (&json!(file.file_name), &json!("refused")));
    assert_eq!((&last["as_of"], &last["reason"]), (&json!("2026-03-01T00:00:00Z"), &json!("the export has no rows")));
    assert_eq!(document["looks"][0]["source"], "loyalty");
    assert_eq!(
        document["looks"][0]["command"],
        "c360 import loyalty /mnt/exports/loyalty_members_2026-03-01.csv --accept"
    );
}

#[tokio::test]
async fn without_a_daemon_brokers_are_asked_and_not_waited_for() {
    let place = Place::migrated().await;
    let since = Instant::now();
    let document = place.json(1);
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    let kafka = &document["sources"]["home_delivery"];
    assert!(kafka.get("lag").is_none() && kafka["lag_unknown"].as_str().unwrap().contains("127.0.0.1:1"), "{kafka}");
    assert_eq!((&document["daemon"]["running"], &document["ready"]), (&json!(false), &json!(true)));

    let brokers: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    brokers.create_topic(TOPIC, 1, 1).unwrap();
    let place = Place(place.0.with("C360__SOURCES__HOME_DELIVERY__BROKERS", brokers.bootstrap_servers()));
    let producer: ThreadedProducer<DefaultProducerContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", brokers.bootstrap_servers()).create().unwrap();
    for _ in 0..5 {
        producer.send(BaseRecord::<(), _>::to(TOPIC).payload("{}")).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let document = place.json(1);
    assert_eq!(document["sources"]["home_delivery"]["lag"], 5);
    assert_eq!(document["looks"][0]["command"], "c360 run");
    land(&place, TimeDelta::zero()).await;
    assert_eq!(place.json(1)["sources"]["home_delivery"]["lag"], 2);
}

#[tokio::test]
async fn brokers_that_do_not_answer_need_a_look_until_they_do() {
    let place = Place::migrated().await;
    place.say_all_is_well().await;
    place.say(&[("home_delivery", json!({"trouble": "no broker answers"}))]).await;
    let kafka = &place.json(1)["sources"]["home_delivery"];
    assert_eq!((&kafka["trouble"], kafka.get("lag")), (&json!("no broker answers"), None), "the lag is of before");
    let page = stdout(&place.status(&["--check"]).code(1));
    assert!(page.contains("home_delivery: no broker answers.\n") && page.contains("in trouble"), "{page}");
    place.say(&[("home_delivery", json!({"trouble": null}))]).await;
    assert_eq!(place.json(0)["sources"]["home_delivery"]["lag"], 0);
}

#[tokio::test]
async fn a_stopped_partition_makes_it_not_ready() {
    let place = Place::migrated().await;
    place.say_all_is_well().await;
    let stopped = json!([{"topic": TOPIC, "partition": 0, "reason": "retention has passed it"}]);
    place.say(&[("home_delivery", json!({"lag": 7, "stopped": stopped}))]).await;
    let document = place.json(1);
    assert_eq!(document["ready"], false);
    assert_eq!(document["sources"]["home_delivery"]["stopped"], stopped);
}
