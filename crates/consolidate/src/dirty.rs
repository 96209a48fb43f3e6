//! Dirty keys: the only way to have a profile folded again. One row per marking, not per key: a merge marks tens of
//! thousands of keys, and a row for each would cost as much as the fold.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use model::MatchKey;
use sqlx::{PgConnection, Row};

use crate::Error;
use crate::error::database;

/// Keys that one look at the marks takes, each once; a mark is taken whole, so it can be more.
const LIMIT_KEYS: usize = 250_000;
/// Keys that one look reads for that, each as often as it is marked.
const LIMIT_MENTIONS: i64 = 2_000_000;

/// Marks that were read. They stand until all that they ask for is folded.
#[derive(Default)]
pub(crate) struct Marks {
    ids: Vec<i64>,
    /// Match keys, each with the cause of its first mark.
    pub(crate) keys: BTreeMap<MatchKey, Arc<str>>,
}

/// Marks match keys.
pub async fn mark(
    connection: &mut PgConnection,
    match_keys: &[&str],
    cause: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if match_keys.is_empty() {
        return Ok(());
    }
    sqlx::query("insert into customer360.dirty_marks (match_keys, cause, marked_at) values ($1, $2, $3)")
        .bind(match_keys)
        .bind(cause)
        .bind(now)
        .execute(connection)
        .await
        .map_err(database("marking match keys"))?;
    Ok(())
}

/// Reads the oldest marks. Whoever marks a key meanwhile adds a mark of their own, which stands after these.
pub(crate) async fn read(connection: &mut PgConnection) -> Result<Marks, Error> {
    let mut rows = sqlx::query(
        "with waiting as (
             -- oldest first, with the count of keys before each
             select *, sum(cardinality(match_keys)) over (order by mark_id) - cardinality(match_keys) as keys_before
             from customer360.dirty_marks
         )
         select mark_id, match_keys, cause from waiting where keys_before < $1 order by mark_id",
    )
    .bind(LIMIT_MENTIONS)
    .fetch(connection);
    let mut marks = Marks::default();
    while let Some(row) = rows.try_next().await.map_err(database("reading marked match keys"))? {
        marks.ids.push(row.get(0));
        let cause: Arc<str> = row.get::<&str, _>(2).into();
        for key in row.get::<Vec<String>, _>(1) {
            marks.keys.entry(MatchKey::from_stored(key)).or_insert_with(|| Arc::clone(&cause));
        }
        if marks.keys.len() >= LIMIT_KEYS {
            break;
        }
    }
    Ok(marks)
}

/// Removes marks whose keys are folded.
pub(crate) async fn remove(connection: &mut PgConnection, marks: &Marks) -> Result<(), Error> {
    sqlx::query("delete from customer360.dirty_marks where mark_id = any ($1)")
        .bind(&marks.ids)
        .execute(connection)
        .await
        .map_err(database("removing marks"))?;
    Ok(())
}
