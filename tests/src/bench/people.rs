//! Staged records of people whom three systems know: what consolidation is measured with.

use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use consolidate::{Consolidator, Rules};
use model::{
    Entity, ExternalId, Guards, InstallationKey, LogPosition, Mapped, Operation, Position, Record, Survivorship,
};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use staging::offsets::{Advance, Progress};
use staging::{Batch, Checkpoint, Lander, Seal};
use tokio_util::sync::CancellationToken;

/// The systems, and how many records each has of a person.
pub const SYSTEMS: [(&str, u64); 3] = [("home_delivery", 2), ("loyalty", 2), ("online_store", 1)];

/// The home-delivery system alone, with one record of a person.
pub const ONE_SYSTEM: [(&str, u64); 1] = [("home_delivery", 1)];

const TTL: Duration = Duration::from_hours(7 * 24);

/// What is staged: one round of records.
#[derive(Clone, Debug)]
pub struct Round {
    /// Tells rounds of one database apart, from 0.
    pub number: u32,
    /// Of whom: of these, every so-many-eth.
    pub people: Range<u64>,
    /// 1 for all of them.
    pub step: usize,
    /// Whether somebody asked for it again.
    pub is_again: bool,
    /// Every so many people there is news of one; of all others the round repeats what was said in the first.
    pub news_every: Option<u64>,
}

impl Round {
    /// What is said of everybody for the first time, or once more.
    pub fn repeated(number: u32, people: Range<u64>) -> Self {
        Self { number, people, step: 1, is_again: false, news_every: None }
    }
}

/// How many people a number of records is about.
pub fn people(records: usize) -> u64 {
    records as u64 / SYSTEMS.iter().map(|(_, records)| records).sum::<u64>()
}

/// Lands a round, as these systems say it; returns how many records that is.
pub async fn stage(options: &PgConnectOptions, systems: &[(&str, u64)], round: &Round) -> Result<usize> {
    let now = Utc::now();
    let mut records = 0;
    for (system, versions) in systems {
        let mut landing = Landing::new(options, system, round);
        for version in 0..*versions {
            for person in round.people.clone().step_by(round.step) {
                let has_news = round.news_every.is_some_and(|every| person % every == 0);
                let version = if has_news { version + u64::from(round.number) * versions } else { version };
                landing.push(&record(system, person, version, now), now).await?;
                records += 1;
            }
        }
        landing.land(now).await?;
    }
    Ok(records)
}

/// Batches of one system, landed as they fill.
struct Landing {
    lander: Lander,
    system: String,
    topic: String,
    origin: Value,
    batch: Batch,
    stored: i64,
    covered: i64,
}

impl Landing {
    fn new(options: &PgConnectOptions, system: &str, round: &Round) -> Self {
        let lander = Lander::new(options.clone(), seal(), staging::DEFAULT_PARTITION_WIDTH);
        let batch = Batch::new(system, TTL);
        let origin = if round.is_again { json!({"again": true}) } else { json!({}) };
        let topic = format!("t{}", round.number);
        Self { lander, system: system.to_owned(), topic, origin, batch, stored: 0, covered: 0 }
    }

    async fn push(&mut self, record: &Record, now: DateTime<Utc>) -> Result<()> {
        self.batch.push(record);
        self.covered += 1;
        if self.batch.is_full() {
            self.land(now).await?;
        }
        Ok(())
    }

    async fn land(&mut self, now: DateTime<Utc>) -> Result<()> {
        if self.covered == self.stored {
            return Ok(());
        }
        let advance = Advance {
            progress: Progress::Source,
            epoch: 0,
            topic: self.topic.clone(),
            partition: 0,
            expected: (self.stored > 0).then_some(self.stored),
            next_offset: self.covered,
            last_seen: None,
            last_message: None,
        };
        self.lander.land(&mut self.batch, &self.origin, &Checkpoint::Kafka(advance), now).await?;
        self.batch = Batch::new(&self.system, TTL);
        self.stored = self.covered;
        Ok(())
    }
}

/// What a system says of a person, for the so-many-eth time.
pub fn record(system: &str, person: u64, version: u64, now: DateTime<Utc>) -> Record {
    let email = format!("person.{person}@example.com");
    let attributes = match system {
        "home_delivery" => json!({
            "name": format!("Person Number{person}"), "address1": format!("{} Sporer Curve", person % 997),
            "address2": "Suite 528", "city": "West Evertchester", "state": "NH", "zipcode": "04006",
            "phone": format!("811.128.{:04} x{version}", person % 10_000)}),
        "loyalty" => json!({
            "firstName": "Person", "lastName": format!("Number{person}"), "name": format!("Person Number{person}"),
            "loyaltyPoints": (person % 500 + version).to_string()}),
        _ if version == 0 => json!({ "name": format!("P. Number{person}") }),
        _ => json!({ "name": format!("P. Number{person} the {version}th") }),
    };
    let log = LogPosition { file: 1, pos: 1_000 * person + version, streamed: true, row: 0 };
    Record {
        operation: Operation::Upsert,
        mapped: Mapped {
            entity: Entity::Customer,
            external_id: ExternalId::from_parts((person + 1).to_string(), system != "loyalty"),
            email: Some(email),
            credential: Some(format!("{person:064x}")),
            attributes: attributes.to_string(),
        },
        position: Position::kafka(0, log, 0),
        observed_at: now,
        moved_to: None,
        payload: Some(json!({"before": null, "after": attributes, "op": "u"}).to_string()),
    }
}

/// Consolidates everything that is staged.
pub async fn drain(database: &PgConnectOptions) -> Result<()> {
    let mut consolidator = Consolidator::connect(database).await?;
    while !consolidator.try_begin().await? {}
    consolidator.drain(&rules()?, &seal(), &CancellationToken::new()).await?;
    Ok(())
}

/// The rules of the reference scenario.
pub fn rules() -> Result<Rules> {
    Ok(Rules {
        survivorship: Survivorship {
            prefer: ["home_delivery", "online_store", "loyalty"].map(str::to_owned).to_vec(),
            groups: vec![["address1", "address2", "city", "state", "zipcode"].map(str::to_owned).to_vec()],
            attributes: [("loyaltyPoints".to_owned(), vec!["loyalty".to_owned()])].into(),
        },
        guards: Guards::new(&["n/a", "none", "test@*"], 10)?,
        polled_sources: vec![],
    })
}

/// The seal of a benchmark's installation.
pub fn seal() -> Seal {
    Seal::new(&InstallationKey::new([1; 32]))
}
