//! Whom a guard keeps out: living cross-references that belong to no customer.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::Error;
use crate::error::database;

/// Which ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// For this reason, a word of `xrefs.unmatched_reason`.
    pub reason: Option<String>,
    /// Of this system.
    pub system: Option<String>,
}

/// A living cross-reference that belongs to no customer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Unmatched {
    /// The system.
    pub system: String,
    /// The system's id.
    pub external_id: String,
    /// `no_email`, `invalid_email`, `blocked` or `crowded`.
    pub reason: String,
    /// The match key under which it is crowded.
    pub match_key: Option<String>,
    /// The email as the system writes it.
    pub email: Option<String>,
    /// The time of its newest record.
    pub observed_at: DateTime<Utc>,
}

/// How many there are.
pub async fn count(executor: impl PgExecutor<'_>, selection: &Selection) -> Result<i64, Error> {
    sqlx::query_scalar(
        "select count(*) from customer360.xrefs
         where unmatched_reason is not null and deleted_at is null
           and ($1::text is null or unmatched_reason = $1) and ($2::text is null or system = $2)",
    )
    .bind(&selection.reason)
    .bind(&selection.system)
    .fetch_one(executor)
    .await
    .map_err(database("counting unmatched cross-references"))
}

/// The next ones behind `after`, by system and id.
pub async fn list(
    executor: impl PgExecutor<'_>,
    selection: &Selection,
    after: Option<(&str, &str)>,
    limit: i64,
) -> Result<Vec<Unmatched>, Error> {
    sqlx::query_as(
        "select system, external_id, unmatched_reason as reason, match_key, email, observed_at
         from customer360.xrefs
         where unmatched_reason is not null and deleted_at is null
           and ($1::text is null or unmatched_reason = $1) and ($2::text is null or system = $2)
           and ($3::text is null or (system, external_id) > ($3, $4))
         order by system, external_id
         limit $5",
    )
    .bind(&selection.reason)
    .bind(&selection.system)
    .bind(after.map(|(system, _)| system))
    .bind(after.map(|(_, external_id)| external_id))
    .bind(limit)
    .fetch_all(executor)
    .await
    .map_err(database("listing unmatched cross-references"))
}
