//! Retention of settled dead letters.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::Error;

/// Forgets letters that were retried or discarded before this time, and returns how many. Parked ones stay for good, and
/// so does a letter as long as the batch in which its records landed is known: should consolidation refuse one of them, the
/// letter is parked again.
pub async fn forget_settled(executor: impl PgExecutor<'_>, before: DateTime<Utc>) -> Result<u64, Error> {
    let forgotten = sqlx::query(
        "delete from staging.dead_letters l
         where l.state <> 'parked' and coalesce(l.handled_at, l.landed_at) < $1
           and not exists (select from staging.batches b where b.batch_id = l.landed_batch_id)",
    )
    .bind(before)
    .execute(executor)
    .await
    .map_err(Error::database("forgetting settled dead letters"))?;
    Ok(forgotten.rows_affected())
}
