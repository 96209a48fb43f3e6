//! What ingesters say of themselves, so that `status` can be asked from another process.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::PgExecutor;

use crate::Error;

/// The last word of one source.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Health {
    /// The source.
    pub source: String,
    /// The keys of `status --json` that only the ingester knows: `lag`, `lag_seconds`, `oldest_unlanded_seconds`,
    /// `stopped`, `breaker`, `absent_topics`, ...
    pub health: Value,
    /// When it was said; old words are from a process that is gone.
    pub said_at: Option<DateTime<Utc>>,
}

impl Health {
    /// Whether the ingester has spoken within this time: one that lives does so again and again.
    pub fn is_fresh(&self, now: DateTime<Utc>, within: TimeDelta) -> bool {
        self.said_at.is_some_and(|said_at| now - said_at < within)
    }

    /// What it says under a key with a list, such as `stopped`.
    pub fn list(&self, key: &str) -> &[Value] {
        self.health.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

/// Who says how a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Whoever keeps at it, and says it again and again.
    Daemon,
    /// A command that is at it once. While a daemon is heard it is not listened to: what goes well with it may still go wrong
    /// with the daemon, and would be hidden.
    Command,
}

/// Notes what an ingester says of itself: an object whose keys replace those said before. A [`Speaker::Command`] says
/// nothing new within a minute of a daemon's last word.
///
/// Where several processes share a source, each says under the key `partitions` how those that it reads are: `{NAME:
/// {"lag", "lag_seconds", "oldest_unlanded_seconds", "stopped": {...} | null, "at"}}`. These are replaced one by one, and
/// forgotten when nobody has spoken of them for a minute while others are spoken of; [`all`] adds them up.
pub async fn report(
    executor: impl PgExecutor<'_>,
    source: &str,
    speaker: Speaker,
    health: &Value,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(
        "insert into staging.sources as known (source, health, health_at)
         values ($1, $2 || jsonb_build_object('daemon', $4), $3)
         on conflict on constraint sources_pkey do update set
             health = known.health || excluded.health || case when excluded.health ? 'partitions' then
                 jsonb_build_object('partitions', (
                     select coalesce(jsonb_object_agg(name, word), '{}')
                     from jsonb_each(known.health->'partitions') as partitions (name, word)
                     where (word->>'at')::timestamptz > $3 - interval '1 minute'
                 ) || (excluded.health->'partitions'))
             else '{}' end,
             health_at = excluded.health_at
         where $4 or not coalesce(
             (known.health->>'daemon')::boolean and known.health_at > $3 - interval '1 minute', false
         )",
    )
    .bind(source)
    .bind(health)
    .bind(now)
    .bind(speaker == Speaker::Daemon)
    .execute(executor)
    .await
    .map_err(Error::database("reporting health"))?;
    Ok(())
}

/// Notes that a table behind a source was emptied: `{"topic", "at", "noticed_at", "alarm"}`, with times as RFC 3339 to the
/// millisecond in UTC. It stays until the same topic's table is emptied again, whatever the source says of itself later.
pub async fn report_emptied(executor: impl PgExecutor<'_>, source: &str, word: &Value) -> Result<(), Error> {
    sqlx::query(
        "insert into staging.sources as known (source, health)
         values ($1, jsonb_build_object('truncated', jsonb_build_array($2::jsonb)))
         on conflict on constraint sources_pkey do update set
             health = known.health || jsonb_build_object('truncated', (
                 select jsonb_agg(word)
                 from (
                     -- A message may be read again: of a topic the latest counts, as it was noticed first.
                     select distinct on (word->>'topic') word
                     from (
                         select jsonb_array_elements(known.health->'truncated') as word
                         union all select $2::jsonb
                     ) as words
                     order by word->>'topic', word->>'at' desc, word->>'noticed_at'
                 ) as latest
             ))",
    )
    .bind(source)
    .bind(word)
    .execute(executor)
    .await
    .map_err(Error::database("reporting an emptied table"))?;
    Ok(())
}

/// What every source said last.
pub async fn all(executor: impl PgExecutor<'_>) -> Result<Vec<Health>, Error> {
    let sql = "select source, health, health_at as said_at from staging.sources order by source";
    let said: Vec<Health> = sqlx::query_as(sql).fetch_all(executor).await.map_err(Error::database("reading health"))?;
    Ok(said.into_iter().map(|said| Health { health: added_up(said.health), ..said }).collect())
}

/// One word of all partitions in place of one of each.
fn added_up(mut health: Value) -> Value {
    let partitions = health.as_object_mut().and_then(|health| health.remove("partitions"));
    let Some(Value::Object(partitions)) = partitions else { return health };
    let numbers = |key: &'static str| partitions.values().filter_map(move |word| word.get(key)?.as_i64());
    health["lag"] = json!(numbers("lag").sum::<i64>());
    for key in ["lag_seconds", "oldest_unlanded_seconds"] {
        health[key] = json!(numbers(key).max().unwrap_or(0));
    }
    let stopped = partitions.values().filter_map(|word| word.get("stopped")).filter(|stopped| !stopped.is_null());
    health["stopped"] = stopped.cloned().collect();
    health
}
