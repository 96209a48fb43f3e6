//! Asking about one customer out of turn, for somebody who waits for the answer.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgExecutor;

use super::{OFFERED_CHANNEL, State};
use crate::Error;

/// An answer that was asked for out of turn is waited for together for so long; then it is asked for again.
const ASKED_TOGETHER: TimeDelta = TimeDelta::seconds(10);

/// A poll of somebody who is asked about now, or could be.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct AskedNow {
    /// The source.
    pub source: String,
    /// What is known of it.
    #[sqlx(try_from = "String")]
    pub state: State,
    /// When the source last answered.
    pub answered_at: Option<DateTime<Utc>>,
    /// Whether the outcome of a question out of turn is still to come.
    pub is_waited_for: bool,
    /// Whether the source failed since its last answer.
    pub has_failed: bool,
}

/// Makes the polls of these match keys due before all others, where the source's last answer is from before
/// `answered_before`, as if none had failed, and wakes the pollers. One that somebody waits for already stays as it is.
pub async fn ask_now(
    executor: impl PgExecutor<'_>,
    sources: &[String],
    match_keys: &[String],
    answered_before: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(
        "with made_due as (
             update staging.polls
             set next_at = 'epoch', failures = 0, asked_now_at = $4
             where source = any ($1) and match_key = any ($2) and (checked_at is null or checked_at < $3)
               and (asked_now_at is null or asked_now_at <= $5)
             returning 1
         )
         select pg_notify($6, '') where exists (select from made_due)",
    )
    .bind(sources)
    .bind(match_keys)
    .bind(answered_before)
    .bind(now)
    .bind(now - ASKED_TOGETHER)
    .bind(OFFERED_CHANNEL)
    .execute(executor)
    .await
    .map_err(Error::database("asking sources now"))?;
    Ok(())
}

/// How far the polls of these match keys are, by source.
pub async fn asked_now(
    executor: impl PgExecutor<'_>,
    sources: &[String],
    match_keys: &[String],
) -> Result<Vec<AskedNow>, Error> {
    sqlx::query_as(
        "select source, state, checked_at as answered_at, asked_now_at is not null as is_waited_for,
                failures > 0 as has_failed
         from staging.polls
         where source = any ($1) and match_key = any ($2)
         order by source, match_key",
    )
    .bind(sources)
    .bind(match_keys)
    .fetch_all(executor)
    .await
    .map_err(Error::database("looking for answers"))
}
