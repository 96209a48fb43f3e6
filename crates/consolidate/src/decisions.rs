//! Operators' decisions, as the fold needs them.

use model::{Decisions, MatchKey};
use sqlx::{PgConnection, Row};

use crate::Error;
use crate::error::database;

/// Reads the decisions that stand, in the order made.
pub(crate) async fn standing(connection: &mut PgConnection) -> Result<Decisions, Error> {
    let rows =
        sqlx::query("select kind, subject from customer360.decisions where undone_at is null order by decision_id")
            .fetch_all(connection)
            .await
            .map_err(database("reading decisions"))?;
    let mut decisions = Decisions::default();
    for row in &rows {
        let subject: Vec<String> = row.get(1);
        match (row.get::<&str, _>(0), subject.as_slice()) {
            ("merge", [from, into]) => {
                decisions.merge(MatchKey::from_stored(from.clone()), MatchKey::from_stored(into.clone()));
            }
            ("split", [system, external_id]) => decisions.split(system.clone(), external_id.clone()),
            ("block", [value]) => decisions.block(value.clone()),
            ("allow", [key]) => decisions.allow(MatchKey::from_stored(key.clone())),
            (kind, _) => tracing::error!(kind, "a decision of a kind that this version does not know is ignored"),
        }
    }
    Ok(decisions)
}
