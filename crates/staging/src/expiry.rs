//! Expiry: whole partitions, never one that holds what is not consolidated.

use chrono::{DateTime, Duration, Utc};
use sqlx::PgConnection;

use crate::partitions::{self, Bounds};
use crate::{Error, is_transient};

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

/// Drops the partitions that are wholly past and whose every batch is consolidated or abandoned; batch rows a day older
/// than that become daily counts.
pub async fn expire(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Expired, Error> {
    let mut expired = Expired::default();
    for bounds in partitions::existing(connection).await?.iter().filter(|bounds| bounds.end <= now.timestamp()) {
        if is_needed(connection, bounds).await? {
            expired.held_back += 1;
            continue;
        }
        match partitions::drop(connection, bounds).await {
            Ok(()) => expired.dropped += 1,
            Err(error) if is_transient(&error) => expired.locked += 1,
            Err(error) => return Err(Error::database("dropping a partition")(error)),
        }
    }
    count_by_day(connection, now - Duration::days(1)).await?;
    Ok(expired)
}

async fn is_needed(connection: &mut PgConnection, bounds: &Bounds) -> Result<bool, Error> {
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

/// Turns the rows of batches that expired before `before` into daily counts. Rows of unpublished or unfinished files stay.
async fn count_by_day(connection: &mut PgConnection, before: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query(
        "with gone as (
             delete from staging.batches
             where expires_at < $1 and (consolidated_at is not null or abandoned_at is not null)
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
    .execute(connection)
    .await
    .map_err(Error::database("counting expired batches"))?;
    Ok(())
}
