//! Expiry: whole partitions, never one that holds what is not consolidated.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection};

use crate::Error;
use crate::partitions::{self, Bounds};

/// What an expiry did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// How many partitions were dropped.
    pub dropped: usize,
    /// How many past partitions had to stay because a batch in them is not consolidated.
    pub held_back: usize,
    /// How many could not be dropped now because somebody reads them; the next expiry tries again.
    pub locked: usize,
}

/// Batches whose records could still be needed: not consolidated, or part of a file that is not consolidated as a whole
/// (the last batch of a full export looks back at all of its rows).
const NEEDED: &str = "
    with unfinished as materialized (
        select distinct import_id from staging.batches
        where import_id is not null and consolidated_at is null and abandoned_at is null
    )
    select count(*)
    from staging.batches b
    left join unfinished u on u.import_id = b.import_id
    where b.expires_at >= to_timestamp($1) and b.expires_at < to_timestamp($2)
      and b.abandoned_at is null
      and (b.consolidated_at is null or u.import_id is not null)";

/// How long an expiry waits for readers, all in all; landing waits behind it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Once a reader has used that up, the other partitions are only tried.
const NO_PATIENCE: Duration = Duration::from_millis(20);

/// Drops the partitions that are wholly past and whose every batch is consolidated or abandoned; rows of batches that are
/// over for a day and whose partition is gone become daily counts.
pub async fn expire(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Expired, Error> {
    let mut expired = Expired::default();
    let mut patience = PATIENCE;
    let (past, mut left): (Vec<_>, Vec<_>) =
        partitions::existing(connection).await?.into_iter().partition(|bounds| bounds.end <= now.timestamp());
    for bounds in past {
        match drop_unneeded(connection, &bounds, patience).await {
            Ok(true) => {
                expired.dropped += 1;
                continue;
            }
            Ok(false) => expired.held_back += 1,
            Err(error) if error.is_locked() => {
                expired.locked += 1;
                patience = NO_PATIENCE;
            }
            Err(error) => return Err(error),
        }
        left.push(bounds);
    }
    count_by_day(connection, &left, now - TimeDelta::days(1)).await?;
    Ok(expired)
}

/// Drops a partition unless a batch in it is still needed, in which case it returns false.
async fn drop_unneeded(connection: &mut PgConnection, bounds: &Bounds, patience: Duration) -> Result<bool, Error> {
    let database = || Error::database("dropping a partition");
    if is_needed(connection, bounds).await? {
        return Ok(false);
    }
    let mut transaction = connection.begin().await.map_err(database())?;
    partitions::lock_out(&mut transaction, patience).await.map_err(database())?;
    // Asked again now that nobody lands: a landing that was slow, or whose clock is, may have committed meanwhile.
    let needed = is_needed(&mut transaction, bounds).await?;
    if !needed {
        partitions::drop(&mut transaction, bounds).await.map_err(database())?;
    }
    transaction.commit().await.map_err(database())?;
    Ok(!needed)
}

pub(crate) async fn is_needed(connection: &mut PgConnection, bounds: &Bounds) -> Result<bool, Error> {
    #[expect(clippy::cast_precision_loss, reason = "epoch seconds are far below 2^53")]
    let (start, end) = (bounds.start as f64, bounds.end as f64);
    let needed: i64 = sqlx::query_scalar(NEEDED)
        .bind(start)
        .bind(end)
        .fetch_one(connection)
        .await
        .map_err(Error::database("looking for batches that hold a partition back"))?;
    Ok(needed > 0)
}

/// Turns the rows of batches that were over before `before` into daily counts. Rows of a partition that is left stay: its
/// records are found through them, also by the last batch of a file that is not consolidated as a whole.
async fn count_by_day(connection: &mut PgConnection, left: &[Bounds], before: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query(
        "with gone as (
             delete from staging.batches
             where expires_at < $1 and coalesce(consolidated_at, abandoned_at) < $1
               and not exists (
                   select from unnest($2::bigint[], $3::bigint[]) as partitions (lower_bound, upper_bound)
                   where expires_at >= to_timestamp(lower_bound) and expires_at < to_timestamp(upper_bound))
             returning source, landed_at, record_count, dead_letter_count, skipped_count, abandoned_at
         )
         insert into staging.daily_counts as known
             (source, day, batch_count, record_count, dead_letter_count, skipped_count)
         select source, (landed_at at time zone 'utc')::date, count(*), sum(record_count), sum(dead_letter_count),
                sum(skipped_count)
         from gone
         where abandoned_at is null
         group by 1, 2
         on conflict on constraint daily_counts_pkey do update set
             batch_count = known.batch_count + excluded.batch_count,
             record_count = known.record_count + excluded.record_count,
             dead_letter_count = known.dead_letter_count + excluded.dead_letter_count,
             skipped_count = known.skipped_count + excluded.skipped_count",
    )
    .bind(before)
    .bind(left.iter().map(|bounds| bounds.start).collect::<Vec<_>>())
    .bind(left.iter().map(|bounds| bounds.end).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(Error::database("counting expired batches"))?;
    Ok(())
}
