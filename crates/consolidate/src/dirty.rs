//! Dirty keys: the only way to have a profile folded again.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use crate::Error;
use crate::error::database;

/// A key to fold, and why.
pub(crate) struct Dirty {
    pub(crate) match_key: String,
    pub(crate) cause: String,
}

/// Marks match keys. A key that is marked already keeps its first cause.
pub(crate) async fn mark(
    connection: &mut PgConnection,
    match_keys: &[&str],
    cause: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if match_keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into customer360.dirty_keys (match_key, cause, marked_at)
         select match_key, $2, $3 from unnest($1::text[]) as marked (match_key)
         on conflict on constraint dirty_keys_pkey do nothing",
    )
    .bind(match_keys)
    .bind(cause)
    .bind(now)
    .execute(connection)
    .await
    .map_err(database("marking match keys"))?;
    Ok(())
}

/// Takes up to `limit` marked keys, oldest first, off the list; belongs into the transaction that folds them. A mark that
/// somebody sets meanwhile waits for that transaction and stands after it.
pub(crate) async fn take(connection: &mut PgConnection, limit: i64) -> Result<Vec<Dirty>, Error> {
    let rows = sqlx::query(
        "with taken as materialized (
             select match_key from customer360.dirty_keys order by marked_at, match_key limit $1
         )
         delete from customer360.dirty_keys d
         using taken
         where d.match_key = taken.match_key
         returning d.match_key, d.cause",
    )
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(database("taking marked match keys"))?;
    Ok(rows.iter().map(|row| Dirty { match_key: row.get(0), cause: row.get(1) }).collect())
}
