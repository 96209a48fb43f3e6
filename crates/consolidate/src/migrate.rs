//! Bringing the schema up to date, and making the partitions of `changes`.

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use sqlx::PgConnection;
use sqlx::migrate::Migrator;

use crate::Error;
use crate::error::database;

static MIGRATOR: Migrator = sqlx::migrate!();

/// Applies the migrations that are missing, one process at a time (an advisory lock), noting them in
/// `customer360._migrations`. Newer migrations that this program does not know are left alone.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), Error> {
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    migrator.create_schema("customer360");
    migrator.dangerous_set_table_name("customer360._migrations");
    migrator.set_ignore_missing(true);
    Ok(migrator.run(connection).await?)
}

/// How many migrations of this program the database lacks: 0 once [`migrate`] has run, by whatever process.
pub async fn missing_migrations(connection: &mut PgConnection) -> Result<usize, Error> {
    Ok(staging::missing_migrations_of(connection, &MIGRATOR, "customer360._migrations").await?)
}

/// Makes sure that `changes` has partitions for the month of `now` and the next.
pub(crate) async fn ensure_change_partitions(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<(), Error> {
    let month = |ahead: u32| {
        let first = NaiveDate::from_ymd_opt(now.year(), now.month(), 1)?;
        first.checked_add_months(Months::new(ahead))
    };
    for ahead in 0..2 {
        let (Some(from), Some(to)) = (month(ahead), month(ahead + 1)) else { continue };
        let name = format!("changes_{}", from.format("%Y_%m"));
        let exists: bool = sqlx::query_scalar("select to_regclass('customer360.' || $1) is not null")
            .bind(&name)
            .fetch_one(&mut *connection)
            .await
            .map_err(database("looking for a partition of changes"))?;
        if exists {
            continue;
        }
        // Name and bounds are dates that we format ourselves: nothing of anybody else's gets into this statement.
        let sql = format!(
            "create table if not exists customer360.{name} (like customer360.changes including all);
             alter table customer360.changes attach partition customer360.{name}
             for values from ('{from} 00:00:00+00') to ('{to} 00:00:00+00')"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut *connection)
            .await
            .map_err(database("making a partition of changes"))?;
    }
    Ok(())
}
