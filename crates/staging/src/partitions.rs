//! Time partitions of `staging.records`, made ahead of time. A partition's name holds its bounds in epoch seconds.

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use crate::{Error, constant_sql};

/// The default width of a partition.
pub const DEFAULT_PARTITION_WIDTH: Duration = Duration::from_hours(1);

/// Serialises making and dropping of partitions.
const LOCK: &str = "select pg_advisory_xact_lock(hashtext('c360.staging.partitions'))";

/// A partition by its bounds in epoch seconds, the upper one exclusive.
pub(crate) type Bounds = Range<i64>;

pub(crate) fn name(bounds: &Bounds) -> String {
    format!("records_{}_{}", bounds.start, bounds.end)
}

/// The partitions that exist, in order.
pub(crate) async fn existing(connection: &mut PgConnection) -> Result<Vec<Bounds>, Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'staging.records'::regclass",
    )
    .fetch_all(connection)
    .await
    .map_err(Error::database("listing partitions"))?;
    let bounds = |name: &String| {
        let (start, end) = name.strip_prefix("records_")?.split_once('_')?;
        Some(start.parse().ok()?..end.parse().ok()?)
    };
    let mut existing: Vec<Bounds> = names.iter().filter_map(bounds).collect();
    existing.sort_by_key(|bounds| bounds.start);
    Ok(existing)
}

/// Makes sure that a partition for this time exists. Creating a table and attaching it asks for a weaker lock than
/// `create ... partition of`: a reader with an open transaction does not hold it up.
pub(crate) async fn ensure(connection: &mut PgConnection, at: DateTime<Utc>, width: Duration) -> Result<Bounds, Error> {
    let doing = "making a partition";
    let at = at.timestamp();
    let covering = |existing: &[Bounds]| existing.iter().find(|bounds| bounds.contains(&at)).cloned();
    // Without the lock first: whoever only looks does not wait for an expiry that waits for a reader.
    if let Some(bounds) = covering(&existing(connection).await?) {
        return Ok(bounds);
    }
    let mut transaction = connection.begin().await.map_err(Error::database(doing))?;
    sqlx::query(LOCK).execute(&mut *transaction).await.map_err(Error::database(doing))?;
    let existing = existing(&mut transaction).await?;
    if let Some(bounds) = covering(&existing) {
        transaction.rollback().await.map_err(Error::database(doing))?;
        return Ok(bounds);
    }
    let bounds = free_bounds(&existing, at, i64::try_from(width.as_secs()).unwrap_or(3600).max(1));
    let name = name(&bounds);
    let sql = format!(
        "create table staging.{name} (like staging.records including all);
         alter table staging.records attach partition staging.{name}
         for values from (to_timestamp({})) to (to_timestamp({}))",
        bounds.start, bounds.end
    );
    sqlx::raw_sql(constant_sql(sql)).execute(&mut *transaction).await.map_err(Error::database(doing))?;
    transaction.commit().await.map_err(Error::database(doing))?;
    Ok(bounds)
}

/// Bounds around `at`, aligned to the width but cut where neighbours made with another width lie.
fn free_bounds(existing: &[Bounds], at: i64, width: i64) -> Bounds {
    let start = at.div_euclid(width) * width;
    let before = existing.iter().map(|bounds| bounds.end).filter(|end| *end <= at).max();
    let after = existing.iter().map(|bounds| bounds.start).filter(|start| *start > at).min();
    start.max(before.unwrap_or(i64::MIN))..(start + width).min(after.unwrap_or(i64::MAX))
}

/// Begins to change partitions, one process at a time. Nobody can read or land from here to the end of the transaction;
/// waits at most `patience` for whoever does.
pub(crate) async fn lock_out(connection: &mut PgConnection, patience: Duration) -> Result<(), sqlx::Error> {
    sqlx::query("select set_config('lock_timeout', $1, true)")
        .bind(format!("{}ms", patience.as_millis()))
        .execute(&mut *connection)
        .await?;
    sqlx::query(LOCK).execute(&mut *connection).await?;
    // Dropping a partition locks its parent too, and first.
    sqlx::query("lock table only staging.records in access exclusive mode").execute(connection).await?;
    Ok(())
}

/// Drops a partition with everything in it; belongs behind [`lock_out`].
pub(crate) async fn drop(connection: &mut PgConnection, bounds: &Bounds) -> Result<(), sqlx::Error> {
    let sql = format!("drop table if exists staging.{}", name(bounds));
    sqlx::raw_sql(constant_sql(sql)).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_width_fits_between_partitions_of_the_old_one() {
        assert_eq!(free_bounds(&[], 3_700, 3_600), 3_600..7_200);
        assert_eq!(free_bounds(&[0..3_600, 4_000..5_000], 3_700, 7_200), 3_600..4_000);
        assert_eq!(free_bounds(&[0..1_800, 1_800..3_600], 3_600, 60), 3_600..3_660);
    }
}
