//! What ingesters say of themselves, so that `status` can be asked from another process.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, Row};

use crate::Error;

/// The last word of one source.
#[derive(Clone, Debug)]
pub struct Health {
    /// The source.
    pub source: String,
    /// The keys of `status --json` that only the ingester knows: `lag`, `lag_seconds`, `oldest_unlanded_seconds`,
    /// `stopped`, `breaker`, ...
    pub health: Value,
    /// When it was said; old words are from a process that is gone.
    pub said_at: Option<DateTime<Utc>>,
}

/// Notes what an ingester says of itself: an object whose keys replace those said before.
pub async fn report(
    executor: impl PgExecutor<'_>,
    source: &str,
    health: &Value,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(
        "insert into staging.sources as known (source, health, health_at) values ($1, $2, $3)
         on conflict on constraint sources_pkey do update set
             health = known.health || excluded.health, health_at = excluded.health_at",
    )
    .bind(source)
    .bind(health)
    .bind(now)
    .execute(executor)
    .await
    .map_err(Error::database("reporting health"))?;
    Ok(())
}

/// What every source said last.
pub async fn all(executor: impl PgExecutor<'_>) -> Result<Vec<Health>, Error> {
    let rows = sqlx::query("select source, health, health_at from staging.sources order by source")
        .fetch_all(executor)
        .await
        .map_err(Error::database("reading health"))?;
    Ok(rows.iter().map(|row| Health { source: row.get(0), health: row.get(1), said_at: row.get(2) }).collect())
}
