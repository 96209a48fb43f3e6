//! Bringing the schema up to date.

use sqlx::PgConnection;
use sqlx::migrate::Migrator;

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
