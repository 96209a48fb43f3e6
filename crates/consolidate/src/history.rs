//! Retention of `changes`: whole partitions, a month each.

use std::time::Duration;

use chrono::{DateTime, Months, NaiveDate, NaiveTime, Utc};
use sqlx::{Connection, PgConnection};

use crate::Error;
use crate::error::database;

/// How long this waits for readers, all in all; consolidation waits behind it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Once a reader has used that up, the other partitions are only tried.
const NO_PATIENCE: Duration = Duration::from_millis(20);

/// What became of partitions whose time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many were dropped.
    pub dropped: usize,
    /// How many could not be dropped now because somebody reads them; the next time tries again.
    pub locked: usize,
}

/// The name of the partition of the month that begins on this day.
pub(crate) fn partition(month: NaiveDate) -> String {
    format!("changes_{}", month.format("%Y_%m"))
}

/// Drops the months of `changes` that were over before this time.
pub async fn forget_changes(connection: &mut PgConnection, before: DateTime<Utc>) -> Result<Forgotten, Error> {
    let mut forgotten = Forgotten::default();
    let mut patience = PATIENCE;
    for month in months(connection).await? {
        let end = month.checked_add_months(Months::new(1)).map(|end| end.and_time(NaiveTime::MIN).and_utc());
        if end.is_none_or(|end| end > before) {
            continue;
        }
        match drop(connection, month, patience).await {
            Ok(()) => forgotten.dropped += 1,
            Err(Error::Database(error)) if error.is_locked() => {
                forgotten.locked += 1;
                patience = NO_PATIENCE;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
}

/// The months that have a partition.
async fn months(connection: &mut PgConnection) -> Result<Vec<NaiveDate>, Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'customer360.changes'::regclass",
    )
    .fetch_all(connection)
    .await
    .map_err(database("listing partitions of changes"))?;
    let month =
        |name: &String| NaiveDate::parse_from_str(&format!("{}_01", name.strip_prefix("changes_")?), "%Y_%m_%d").ok();
    Ok(names.iter().filter_map(month).collect())
}

/// Nobody can read or write `changes` from here to the end of the transaction; waits at most `patience` for whoever does.
async fn drop(connection: &mut PgConnection, month: NaiveDate, patience: Duration) -> Result<(), Error> {
    let failed = || database("dropping a partition of changes");
    let mut transaction = connection.begin().await.map_err(failed())?;
    sqlx::query("select set_config('lock_timeout', $1, true)")
        .bind(format!("{}ms", patience.as_millis()))
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
    let sql = format!(
        "lock table only customer360.changes in access exclusive mode;
         drop table if exists customer360.{}",
        partition(month)
    );
    sqlx::raw_sql(staging::constant_sql(sql)).execute(&mut *transaction).await.map_err(failed())?;
    transaction.commit().await.map_err(failed())
}
