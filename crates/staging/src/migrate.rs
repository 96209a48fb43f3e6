//! Bringing the schema up to date.

use sqlx::PgConnection;
use sqlx::migrate::{Migrate, Migration, Migrator};

use crate::Error;

/// The oldest server that the schemas are written for, as `server_version_num` has it.
const OLDEST_SERVER: u32 = 150_000;

static MIGRATOR: Migrator = sqlx::migrate!();

/// Applies the migrations that are missing, one process at a time (an advisory lock), noting them in
/// `staging._migrations`. Newer migrations that this program does not know are left alone, so that an older process can
/// start while a newer one runs.
///
/// Refuses a server that is too old ([`Error::TooOld`]) before it touches anything.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), Error> {
    check_server(connection.server_version_num())?;
    migrate_schema(connection, &MIGRATOR, "staging", "staging._migrations").await
}

/// How many migrations of this program the database lacks: 0 once [`migrate`] has run, by whatever process.
pub async fn missing_migrations(connection: &mut PgConnection) -> Result<usize, Error> {
    Ok(pending_migrations(connection).await?.len())
}

/// The migrations that [`migrate`] would apply, in their order.
pub async fn pending_migrations(connection: &mut PgConnection) -> Result<Vec<Pending>, Error> {
    pending_migrations_of(connection, &MIGRATOR, "staging", "staging._migrations").await
}

/// All migrations of this program, in their order: what a database lacks that is not there yet.
pub fn all_migrations() -> Vec<Pending> {
    MIGRATOR.iter().map(Pending::from).collect()
}

/// A migration that a database lacks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pending {
    /// The number in the name of its file.
    pub version: i64,
    /// The words in the name of its file.
    pub description: String,
}

impl From<&Migration> for Pending {
    fn from(migration: &Migration) -> Self {
        Self { version: migration.version, description: migration.description.to_string() }
    }
}

/// [`migrate`] for any schema, with the table in which its migrations are noted. The schema is made if it is not there: a role
/// that owns it may, as Postgres has it, not even ask for that unless it may make others.
pub async fn migrate_schema(
    connection: &mut PgConnection,
    migrations: &Migrator,
    schema: &'static str,
    table: &'static str,
) -> Result<(), Error> {
    let exists: bool = sqlx::query_scalar("select to_regnamespace($1) is not null")
        .bind(schema)
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::database("looking for the schema"))?;
    let mut migrator = Migrator::with_migrations(migrations.iter().cloned().collect());
    if !exists {
        migrator.create_schema(schema);
    }
    migrator.dangerous_set_table_name(table);
    migrator.set_ignore_missing(true);
    migrator.run(connection).await.map_err(|source| Error::Migrate { schema, source })
}

/// The migrations of a schema that the table in which they are noted lacks. A table that is not there lacks all of them.
pub async fn pending_migrations_of(
    connection: &mut PgConnection,
    migrator: &Migrator,
    schema: &'static str,
    table: &'static str,
) -> Result<Vec<Pending>, Error> {
    let made: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(table)
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::database("looking for the table of migrations"))?;
    let applied = if made { connection.list_applied_migrations(table).await } else { Ok(Vec::new()) };
    let applied = applied.map_err(|source| Error::Migrate { schema, source })?;
    let is_missing = |version: i64| !applied.iter().any(|migration| migration.version == version);
    Ok(migrator.iter().filter(|migration| is_missing(migration.version)).map(Pending::from).collect())
}

/// What poses as Postgres and has no version is given the benefit of the doubt.
fn check_server(version: Option<u32>) -> Result<(), Error> {
    match version {
        Some(version) if version < OLDEST_SERVER => Err(Error::TooOld { version }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused_by_its_version() {
        let told = check_server(Some(140_012)).unwrap_err().to_string();
        assert_eq!(told, "Postgres 15 or newer is needed, and the server of this database is 14.12");
        assert!(check_server(Some(150_000)).is_ok());
    }
}
