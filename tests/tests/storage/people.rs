//! A few people of one source, consolidated.

use chrono::Utc;
use consolidate::{Consolidator, Rules};
use model::{Entity, ExternalId, Guards, LogPosition, Mapped, Operation, Position, Record, Survivorship};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use staging::offsets::{Advance, Progress};
use staging::{Batch, Checkpoint, Lander, Landing};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Brings both schemas up to date.
pub(crate) async fn migrate(database: &PgConnectOptions) {
    let mut connection = staging::connect(database).await.unwrap();
    staging::migrate(&mut connection).await.unwrap();
    consolidate::migrate(&mut connection).await.unwrap();
}

/// Lands records of the source `crm` from this offset on: two people a number, with the same email.
pub(crate) async fn land(lander: &mut Lander, offsets: std::ops::Range<i64>) {
    let mut batch = Batch::new("crm", Duration::from_hours(25));
    for offset in offsets.clone() {
        batch.push(&record(offset));
    }
    let origin = json!({"topic": "t", "partition": 0, "first_offset": offsets.start, "last_offset": offsets.end - 1});
    let advance = Advance {
        progress: Progress::Source,
        epoch: 0,
        topic: "t".to_owned(),
        partition: 0,
        expected: (offsets.start > 0).then_some(offsets.start),
        next_offset: offsets.end,
        last_seen: None,
        last_message: None,
    };
    let landing = lander.land(&mut batch, &origin, &Checkpoint::Kafka(advance), Utc::now()).await.unwrap();
    assert!(matches!(landing, Landing::Landed { .. }));
}

/// Consolidates all that is landed; a consolidator can be kept.
pub(crate) async fn consolidate(consolidator: &mut Consolidator) {
    while !consolidator.try_begin().await.unwrap() {
        // The last one's connections are being closed.
        tokio::task::yield_now().await;
    }
    consolidator.drain(&rules(), &c360_tests::source::seal(), &CancellationToken::new()).await.unwrap();
}

fn rules() -> Rules {
    Rules {
        survivorship: Survivorship::default(),
        guards: Guards::new(&["n/a".to_owned()], 10).unwrap(),
        polled_sources: Vec::new(),
    }
}

fn record(offset: i64) -> Record {
    let state = if offset % 4 < 2 { "NH" } else { "VT" };
    Record {
        operation: Operation::Upsert,
        mapped: Mapped {
            entity: Entity::Customer,
            external_id: ExternalId::from_parts(offset.to_string(), offset % 3 == 0),
            email: Some(format!("person{}@example.org", offset / 2)),
            credential: Some(format!("digest {offset}")),
            attributes: json!({"name": format!("Person {offset}"), "state": state}).to_string(),
        },
        position: Position::kafka(
            0,
            LogPosition { file: 1, pos: offset.unsigned_abs(), streamed: true, row: 0 },
            offset,
        ),
        observed_at: Utc::now(),
        moved_to: None,
        payload: Some("{}".to_owned()),
    }
}
