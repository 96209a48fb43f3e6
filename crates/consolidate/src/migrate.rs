//! Bringing the schema up to date, and making the partitions of `changes`.

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use sqlx::PgConnection;
use sqlx::migrate::Migrator;
use staging::Pending;

use crate::error::database;
use crate::{Error, history};

static MIGRATOR: Migrator = sqlx::migrate!();

/// Applies the migrations that are missing, one process at a time (an advisory lock), noting them in
/// `customer360._migrations`, and makes sure that role `c360_limited` sees what it may, where that can be done. Newer
/// migrations that this program does not know are left alone.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), staging::Error> {
    staging::migrate_schema(connection, &MIGRATOR, "customer360", "customer360._migrations").await?;
    sqlx::raw_sql(include_str!("limited.sql"))
        .execute(connection)
        .await
        .map_err(staging::Error::database("giving role c360_limited what it may see"))?;
    Ok(())
}

/// How many migrations of this program the database lacks: 0 once [`migrate`] has run, by whatever process.
pub async fn missing_migrations(connection: &mut PgConnection) -> Result<usize, Error> {
    Ok(pending_migrations(connection).await?.len())
}

/// All migrations of this program, in their order: what a database lacks that is not there yet.
pub fn all_migrations() -> Vec<Pending> {
    MIGRATOR.iter().map(Pending::from).collect()
}

/// The migrations that [`migrate`] would apply, in their order.
pub async fn pending_migrations(connection: &mut PgConnection) -> Result<Vec<Pending>, Error> {
    Ok(staging::pending_migrations_of(connection, &MIGRATOR, "customer360", "customer360._migrations").await?)
}

/// How long the making of next month's partition waits for whoever has locked `changes`: it is not needed yet.
const PATIENCE: &str = "500ms";

/// Makes sure that `changes` has a partition for the month of `now`.
pub(crate) async fn ensure_change_partition(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<(), Error> {
    ensure(connection, now, 0, None).await
}

/// Makes the partition of the month after that of `now`, in time; false if that is not possible at the moment.
pub(crate) async fn prepare_change_partition(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<bool, Error> {
    match ensure(connection, now, 1, Some(PATIENCE)).await {
        Ok(()) => Ok(true),
        Err(Error::Database(error)) if error.is_locked() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn ensure(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
    ahead: u32,
    patience: Option<&str>,
) -> Result<(), Error> {
    let month = |ahead: u32| {
        let first = NaiveDate::from_ymd_opt(now.year(), now.month(), 1)?;
        first.checked_add_months(Months::new(ahead))
    };
    let (Some(from), Some(to)) = (month(ahead), month(ahead + 1)) else { return Ok(()) };
    let name = history::partition(from);
    let exists: bool = sqlx::query_scalar("select to_regclass('customer360.' || $1) is not null")
        .bind(&name)
        .fetch_one(&mut *connection)
        .await
        .map_err(database("looking for a partition of changes"))?;
    if exists {
        return Ok(());
    }
    let patience = patience.map(|patience| format!("set local lock_timeout = '{patience}';")).unwrap_or_default();
    // These statements are one transaction.
    let sql = format!(
        "{patience}
         create table if not exists customer360.{name} (like customer360.changes including all);
         alter table customer360.changes attach partition customer360.{name}
         for values from ('{from} 00:00:00+00') to ('{to} 00:00:00+00')"
    );
    sqlx::raw_sql(staging::constant_sql(sql))
        .execute(&mut *connection)
        .await
        .map_err(database("making a partition of changes"))?;
    Ok(())
}
