//! Cross-references whose match key is another one now than what is stored, found window by window.

use model::MatchKey;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{PgConnection, Row};

use super::{WINDOW, part_of};
use crate::Error;
use crate::error::database;
use crate::matching::{Matching, Stray};

/// A window of living cross-references.
pub(super) struct Found {
    /// How many there are.
    pub(super) rows: i64,
    /// The match keys that are stored.
    pub(super) stored: Vec<String>,
    /// Those who ought to have another one, or none.
    pub(super) strays: Vec<Stray>,
    /// System and external id of the last one.
    pub(super) last: Vec<String>,
}

/// Looks at the next cross-references behind this one; `None` when that was the last.
pub(super) async fn next(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    after: &[String],
) -> Result<Option<Found>, Error> {
    let rows = sqlx::query(
        "select system, external_id, match_key, email, customer_id, unmatched_reason
         from customer360.xrefs
         where (system, external_id) > ($1, $2) and deleted_at is null
         order by system, external_id limit $3",
    )
    .bind(part_of(after, 0))
    .bind(part_of(after, 1))
    .bind(WINDOW)
    .fetch_all(connection)
    .await
    .map_err(database("comparing match keys"))?;
    Ok(rows.last().map(|last| Found {
        rows: i64::try_from(rows.len()).unwrap_or(i64::MAX),
        stored: rows.iter().filter_map(|row| row.get("match_key")).collect(),
        strays: rows.iter().filter_map(|row| stray(row, matching)).collect(),
        last: vec![last.get("system"), last.get("external_id")],
    }))
}

/// A cross-reference whose match key, or why it has none, is not what is stored.
fn stray(row: &PgRow, matching: &Matching<'_>) -> Option<Stray> {
    let (system, external_id): (&str, &str) = (row.get("system"), row.get("external_id"));
    let stored: Option<&str> = row.get("match_key");
    let key = matching.key(system, external_id, row.get("email"));
    let is_right = match &key {
        Ok(key) => stored == Some(key.as_str()),
        Err(reason) => {
            let nobodys = row.get::<Option<Uuid>, _>("customer_id").is_none();
            stored.is_none() && nobodys && row.get::<Option<&str>, _>("unmatched_reason") == Some(reason.as_str())
        }
    };
    (!is_right).then(|| Stray {
        system: system.to_owned(),
        external_id: external_id.to_owned(),
        key,
        found_by: MatchKey::from_stored(stored.unwrap_or_default().to_owned()),
    })
}
