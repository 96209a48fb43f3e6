//! Dead letters, which have to be opened.

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{PgConnection, Row};

use super::{Seen, execute};
use crate::dead_letters::{Context, is_of_erased};
use crate::{Erased, Error, Seal};

/// Dead letters that hold a person, by their numbers.
#[derive(Debug, Default)]
pub struct Letters {
    /// Of the person.
    theirs: Vec<i64>,
    /// Of others, or of whom nobody knows, and the person is named.
    others: Vec<i64>,
    /// Of the person, by their ids: they are under another key.
    sealed: Vec<i64>,
}

impl Letters {
    /// Finds them, or with `seen` those that have come since. `erased` knows this person alone.
    pub async fn find(
        &mut self,
        connection: &mut PgConnection,
        erased: &Erased,
        seal: &Seal,
        seen: Option<&Seen>,
    ) -> Result<(), Error> {
        let mut rows = sqlx::query(
            "select dead_letter_id, source, external_id, payload, context
             from staging.dead_letters
             where payload <> '' and dead_letter_id not in (select unnest($1::bigint[]))",
        )
        .bind(seen.map(|seen| seen.letters.as_slice()).unwrap_or_default())
        .fetch(connection);
        while let Some(row) = rows.try_next().await.map_err(Error::database("reading dead letters"))? {
            let dead_letter_id: i64 = row.get("dead_letter_id");
            let source: &str = row.get("source");
            let id: Option<&str> = row.get("external_id");
            let is_theirs = id.is_some_and(|id| erased.has_id(source, id));
            // One that does not open, under another key, cannot be retried either.
            let Ok(payload) = seal.open(source, row.get("payload")) else {
                self.sealed.extend(is_theirs.then_some(dead_letter_id));
                continue;
            };
            let context = row.get::<Option<&[u8]>, _>("context").and_then(|context| seal.open(source, context).ok());
            let context: Option<Context> = context.and_then(|context| serde_json::from_slice(&context).ok());
            if is_of_erased(source, id, &payload, context.as_ref(), erased) {
                if is_theirs { self.theirs.push(dead_letter_id) } else { self.others.push(dead_letter_id) }
            }
        }
        Ok(())
    }

    /// Discards them, and returns how many. Those that were settled meanwhile hold nobody any more.
    pub(super) async fn discard(&self, connection: &mut PgConnection, now: DateTime<Utc>) -> Result<u64, Error> {
        let nameless =
            sqlx::query("update staging.dead_letters set external_id = null where dead_letter_id = any ($1)");
        execute(nameless.bind(&self.sealed), connection).await?;
        // A member of a full export whose row names the person is a member all the same.
        let discard = sqlx::query(
            "update staging.dead_letters
             set state = 'discarded', payload = '', context = null, handled_at = $3,
                 external_id = case when dead_letter_id = any ($2) then external_id end
             where dead_letter_id = any ($1 || $2) and payload <> ''",
        );
        execute(discard.bind(&self.theirs).bind(&self.others).bind(now), connection).await
    }
}
