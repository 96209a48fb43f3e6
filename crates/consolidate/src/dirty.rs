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

/// Keys that are read together.
const WINDOW_KEYS: usize = 100_000;
/// Keys of the marks that are taken together, each as often as it is marked; a mark is taken whole, so it can be more.
const LIMIT_MENTIONS: i64 = 2_000_000;

/// Marks that are being folded. They stand until all that they ask for is done. Whoever marks a key meanwhile adds a mark
/// of their own.
pub(crate) struct Marks(Vec<i64>);

/// Marked match keys, each with the cause of its first mark.
pub(crate) type Window = BTreeMap<MatchKey, Arc<str>>;

/// Whether no key comes after those of a window.
pub(crate) fn is_last(window: &Window) -> bool {
    window.len() < WINDOW_KEYS
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

/// The newest mark that there is; 0 without any.
pub(crate) async fn newest(connection: &mut PgConnection) -> Result<i64, Error> {
    sqlx::query_scalar("select coalesce(max(mark_id), 0) from customer360.dirty_marks")
        .fetch_one(connection)
        .await
        .map_err(database("looking for marked match keys"))
}

/// Whether a mark is left among those up to this one.
pub(crate) async fn is_left(connection: &mut PgConnection, up_to: i64) -> Result<bool, Error> {
    sqlx::query_scalar("select exists (select from customer360.dirty_marks where mark_id <= $1)")
        .bind(up_to)
        .fetch_one(connection)
        .await
        .map_err(database("looking for marked match keys"))
}

/// Whether one of these keys is marked.
pub(crate) async fn is_marked(connection: &mut PgConnection, match_keys: &[MatchKey]) -> Result<bool, Error> {
    sqlx::query_scalar("select exists (select from customer360.dirty_marks where match_keys && $1)")
        .bind(match_keys.iter().map(MatchKey::as_str).collect::<Vec<_>>())
        .fetch_one(connection)
        .await
        .map_err(database("looking for marked match keys"))
}

impl Marks {
    /// Takes the oldest marks.
    pub(crate) async fn take(connection: &mut PgConnection) -> Result<Self, Error> {
        let ids = sqlx::query_scalar(
            "with waiting as (
                 -- oldest first, with the count of keys before each
                 select mark_id, sum(cardinality(match_keys)) over (order by mark_id) - cardinality(match_keys) as keys_before
                 from customer360.dirty_marks
             )
             select mark_id from waiting where keys_before < $1 order by mark_id",
        )
        .bind(LIMIT_MENTIONS)
        .fetch_all(connection)
        .await
        .map_err(database("looking for marked match keys"))?;
        Ok(Self(ids))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first keys after this one, in their own order: a key that is marked many times comes once. Empty after the last.
    pub(crate) async fn window(
        &self,
        connection: &mut PgConnection,
        after: Option<&MatchKey>,
    ) -> Result<Window, Error> {
        let mut rows = sqlx::query(
            "select match_keys, cause from customer360.dirty_marks where mark_id = any ($1) order by mark_id",
        )
        .bind(&self.0)
        .fetch(connection);
        let mut window = Window::new();
        while let Some(row) = rows.try_next().await.map_err(database("reading marked match keys"))? {
            let cause: Arc<str> = row.get::<&str, _>(1).into();
            for key in row.get::<Vec<String>, _>(0).into_iter().map(MatchKey::from_stored) {
                let full = window.len() == WINDOW_KEYS;
                let beyond = full && window.last_key_value().is_some_and(|(last, _)| *last < key);
                if beyond || after.is_some_and(|after| key <= *after) {
                    continue;
                }
                window.entry(key).or_insert_with(|| Arc::clone(&cause));
                if window.len() > WINDOW_KEYS {
                    window.pop_last();
                }
            }
        }
        Ok(window)
    }

    /// Removes the marks: all that they ask for is done.
    pub(crate) async fn remove(self, connection: &mut PgConnection) -> Result<(), Error> {
        sqlx::query("delete from customer360.dirty_marks where mark_id = any ($1)")
            .bind(&self.0)
            .execute(connection)
            .await
            .map_err(database("removing marks"))?;
        Ok(())
    }
}
