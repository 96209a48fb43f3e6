//! Records that cannot be consolidated: found one by one, made dead letters, left out of their batch.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use staging::{Erased, Seal, StagedRecord};

use crate::consolidator::Claim;
use crate::error::database;
use crate::merge::{apply, hold};
use crate::{Error, Rules, metrics};

/// Finds the records of a batch that the database refuses and excludes them, so that the rest of the batch can be merged.
/// Records are validated before they are landed, so this is for what nobody thought of.
pub(crate) async fn exclude_refused(
    connection: &mut PgConnection,
    rules: &Rules,
    seal: &Seal,
    erased: &Erased,
    batch: &Claim,
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    let mut trial = Trial { connection, rules, batch, now };
    let (mut taken, mut refused) = trial.each().await?;
    while let Some((culprit, detail)) = trial.together(&taken).await? {
        refused.push((taken.remove(culprit), detail));
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

/// Merges records of a batch, and takes it back.
struct Trial<'t> {
    connection: &'t mut PgConnection,
    rules: &'t Rules,
    batch: &'t Claim,
    now: DateTime<Utc>,
}

impl Trial<'_> {
    /// Tries records one by one, by halving: those that the database takes, and those that it refuses, with why.
    async fn each(&mut self) -> Result<(Vec<StagedRecord>, Vec<(StagedRecord, String)>), Error> {
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        let mut open = vec![self.batch.records.as_slice()];
        while let Some(part) = open.pop() {
            match (self.refuses(part).await?, part) {
                (None, part) => taken.extend_from_slice(part),
                (Some(detail), [record]) => refused.push((record.clone(), detail)),
                (Some(_), part) => {
                    let (left, right) = part.split_at(part.len() / 2);
                    open.extend([right, left]);
                }
            }
        }
        Ok((taken, refused))
    }

    /// The first of these records that the database does not take after those before it, though it takes each alone; `None` if
    /// it takes all.
    async fn together(&mut self, records: &[StagedRecord]) -> Result<Option<(usize, String)>, Error> {
        let Some(mut detail) = self.refuses(records).await? else { return Ok(None) };
        let (mut taken, mut refused) = (0, records.len());
        while refused - taken > 1 {
            let middle = usize::midpoint(taken, refused);
            match self.refuses(&records[..middle]).await? {
                None => taken = middle,
                Some(why) => (refused, detail) = (middle, why),
            }
        }
        Ok(Some((taken, detail)))
    }

    /// Why the database refuses these records.
    async fn refuses(&mut self, records: &[StagedRecord]) -> Result<Option<String>, Error> {
        let mut transaction = self.connection.begin().await.map_err(database("trying records one by one"))?;
        let outcome = apply(&mut transaction, self.rules, &self.batch.batches, records, self.now).await;
        transaction.rollback().await.map_err(database("trying records one by one"))?;
        match outcome {
            Ok(()) => Ok(None),
            Err(error) if error.is_data() => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

/// Counts an excluded record.
pub(crate) fn count(source: &str) {
    tracing::error!(source, "a record cannot be consolidated and is a dead letter now");
    ::metrics::counter!(metrics::RECORDS_EXCLUDED, "source" => source.to_owned()).increment(1);
}
