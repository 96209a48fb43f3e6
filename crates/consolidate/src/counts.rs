//! Counts of the whole base, which triggers keep as differences: `migrations/0013_counts.sql`.

use sqlx::PgConnection;

use crate::Error;
use crate::error::database;

/// Adds up the differences that have come together. What they add up to stays the same.
pub async fn add_up_counts(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query("select customer360.add_up_counts()")
        .execute(connection)
        .await
        .map_err(database("adding up counts"))?;
    Ok(())
}
