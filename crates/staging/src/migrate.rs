//! Bringing the schema up to date.

use sqlx::PgConnection;
use sqlx::migrate::{Migrate, Migrator};

use crate::Error;

static MIGRATOR: Migrator = sqlx::migrate!();

/// Applies the migrations that are missing, one process at a time (an advisory lock), noting them in
/// `staging._migrations`. Newer migrations that this program does not know are left alone, so that an older process can
/// start while a newer one runs.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), Error> {
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    migrator.create_schema("staging");
    migrator.dangerous_set_table_name("staging._migrations");
    migrator.set_ignore_missing(true);
    Ok(migrator.run(connection).await?)
}

/// How many migrations of this program the database lacks: 0 once [`migrate`] has run, by whatever process.
pub async fn missing_migrations(connection: &mut PgConnection) -> Result<usize, Error> {
    missing_migrations_of(connection, &MIGRATOR, "staging._migrations").await
}

/// How many migrations of a schema the table in which they are noted lacks. A table that is not there lacks all of them.
pub async fn missing_migrations_of(
    connection: &mut PgConnection,
    migrator: &Migrator,
    table: &'static str,
) -> Result<usize, Error> {
    let made: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(table)
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::database("looking for the table of migrations"))?;
    let applied = if made { connection.list_applied_migrations(table).await? } else { Vec::new() };
    let is_missing = |version: i64| !applied.iter().any(|migration| migration.version == version);
    Ok(migrator.iter().filter(|migration| is_missing(migration.version)).count())
}
