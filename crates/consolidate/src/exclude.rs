//! Records that cannot be consolidated: found one by one, made dead letters, left out of their batch.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use staging::{Erased, Seal, StagedRecord};

use crate::consolidator::Claim;
use crate::error::database;
use crate::merge::{apply, hold};
use crate::{Error, Rules, metrics};

/// Finds the records of a batch that the database refuses, by halving, and excludes them, so that the rest of the batch can
/// be merged. Records are validated before they are landed, so this is for what nobody thought of.
pub(crate) async fn exclude_refused(
    connection: &mut PgConnection,
    rules: &Rules,
    seal: &Seal,
    erased: &Erased,
    batch: &Claim,
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    let mut refused = Vec::new();
    let mut open = vec![batch.records.as_slice()];
    while let Some(part) = open.pop() {
        match (attempt(connection, rules, batch, part, now).await, part) {
            (Ok(()), _) => {}
            (Err(error), [record]) if error.is_data() => refused.push((record, error.to_string())),
            (Err(error), part) if error.is_data() => {
                let (left, right) = part.split_at(part.len() / 2);
                open.extend([left, right]);
            }
            (Err(error), _) => return Err(error),
        }
    }
    let mut transaction = connection.begin().await.map_err(database("excluding records"))?;
    hold(&mut transaction, erased).await?;
    for (record, detail) in &refused {
        staging::exclude(&mut transaction, seal, record, detail, now).await?;
        count(&record.source);
    }
    transaction.commit().await.map_err(database("excluding records"))?;
    Ok(refused.len())
}

/// Merges records and takes it back.
async fn attempt(
    connection: &mut PgConnection,
    rules: &Rules,
    batch: &Claim,
    records: &[StagedRecord],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut transaction = connection.begin().await.map_err(database("trying records one by one"))?;
    let outcome = apply(&mut transaction, rules, &batch.batches, records, now).await;
    transaction.rollback().await.map_err(database("trying records one by one"))?;
    outcome
}

/// Counts an excluded record.
pub(crate) fn count(source: &str) {
    tracing::error!(source, "a record cannot be consolidated and is a dead letter now");
    ::metrics::counter!(metrics::RECORDS_EXCLUDED, "source" => source.to_owned()).increment(1);
}
