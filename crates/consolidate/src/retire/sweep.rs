//! Carrying retirements out: cross-references that were there before are tombstoned, step by step.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::CAUSE;
use crate::error::database;
use crate::matching::Matching;
use crate::merge::{match_up_all, write};
use crate::xrefs::Slots;
use crate::{Error, Rules};

/// Cross-references that one transaction retires.
const STEP: i64 = 5_000;
/// A large system is swept so long before records that have landed meanwhile, and the profiles, have their turn.
const SWEEP_FOR: Duration = Duration::from_secs(20);

/// What a sweep did.
pub(crate) struct Swept {
    /// Cross-references tombstoned.
    pub(crate) tombstoned: usize,
    /// Whether it stopped before the end, to let others have their turn.
    pub(crate) is_unfinished: bool,
}

/// Carries out, for a while, what is recorded and not finished. Only for the one at work, while nothing is being merged: a
/// merge that began before the retirement was recorded does not know of it. Those that begin later do, so merges and folds
/// may have their turn in between.
pub(crate) async fn sweep(
    connection: &mut PgConnection,
    rules: &Rules,
    clock: fn() -> DateTime<Utc>,
    cancel: &CancellationToken,
) -> Result<Swept, Error> {
    let started = Instant::now();
    let open: Vec<Retirement> = sqlx::query_as(
        "select retirement_id as id, system, retired_before as before, done_until from customer360.retirements
         where finished_at is null order by retirement_id",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(database("looking for retirements"))?;
    let mut tombstoned = 0;
    for mut retirement in open {
        let matching = Matching::read(connection, rules).await?;
        while let Some(step) = retirement.step(connection, &matching, clock()).await? {
            tombstoned += step;
            if started.elapsed() > SWEEP_FOR || cancel.is_cancelled() {
                return Ok(Swept { tombstoned, is_unfinished: true });
            }
        }
    }
    Ok(Swept { tombstoned, is_unfinished: false })
}

/// One that is being carried out.
#[derive(sqlx::FromRow)]
struct Retirement {
    id: i64,
    system: String,
    before: DateTime<Utc>,
    done_until: String,
}

impl Retirement {
    /// Retires the next cross-references; `None` when that was the end.
    async fn step(
        &mut self,
        connection: &mut PgConnection,
        matching: &Matching<'_>,
        now: DateTime<Utc>,
    ) -> Result<Option<usize>, Error> {
        let mut transaction = connection.begin().await.map_err(database("retiring"))?;
        staging::erased::hold(&mut transaction).await?;
        let read = Slots::said_before(&mut transaction, &self.system, self.before, &self.done_until, STEP).await?;
        let is_end = read.is_none();
        let mut tombstoned = 0;
        if let Some((mut slots, last)) = read {
            tombstoned = slots.retire(self.before);
            let touched = match_up_all(&mut slots, matching);
            write(&mut transaction, &slots, &touched, CAUSE, now).await?;
            self.done_until = last;
        } else {
            staging::answers::forget(&mut transaction, &self.system).await?;
        }
        sqlx::query(
            "update customer360.retirements
             set done_until = $2, tombstoned = tombstoned + $3, finished_at = case when $4 then $5 end
             where retirement_id = $1",
        )
        .bind(self.id)
        .bind(&self.done_until)
        .bind(i64::try_from(tombstoned).unwrap_or(i64::MAX))
        .bind(is_end)
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(database("noting how far a retirement is"))?;
        transaction.commit().await.map_err(database("retiring"))?;
        Ok((!is_end).then_some(tombstoned))
    }
}
