//! `staging.polls` and `staging.polled_products`: whom and what to ask each REST source about, and what became of it.
//!
//! Consolidation [`offer`]s emails and [`withdraw`]s them; a poller [`lease`]s what is due, asks, and lands what became of
//! it as [`crate::Checkpoint::Rest`] together with the records of the answers. Products come into being when an order
//! that names them is landed. Until an outcome is landed, `next_at` is the end of the lease, and the outcome's
//! compare-and-swap: two pollers never land answers to one asking.

mod ask_now;
mod lease;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::Error;

pub use ask_now::{AskedNow, ask_now, asked_now};
pub use lease::{LeaseTimes, held, lease, release};
pub(crate) use lease::{note, note_products};

/// The channel on which consolidation says that there are new emails to ask about.
pub const OFFERED_CHANNEL: &str = "c360_polls";

/// What a poll is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A customer, by match key: a row of `staging.polls`.
    Customer,
    /// A product, by the source's id: a row of `staging.polled_products`.
    Product,
}

/// What is known of a poll; the words of `polls.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not asked yet, or only a part of the answer was had.
    Due,
    /// The source knows it.
    Known,
    /// The source does not know it.
    Unknown,
    /// The source's last answer could not be used, or there was none.
    Failing,
}

/// Something to ask a source about, leased to one poller.
#[derive(Clone, Debug)]
pub struct Poll {
    /// What it is about.
    pub subject: Subject,
    /// The match key or product id, which names the row.
    pub key: String,
    /// The email to ask by; empty for a product.
    pub email: String,
    /// The source's own id of the customer, from its last answer.
    pub external_id: Option<String>,
    /// How many times in a row the source failed on this one.
    pub failures: i32,
    /// When the source last answered.
    pub checked_at: Option<DateTime<Utc>>,
    /// Validators of the last answers, by request, and under `rules` what these were read by: without it, whatever the source
    /// answers is new.
    pub validators: serde_json::Value,
    /// Since when it was due.
    pub due_at: DateTime<Utc>,
    /// Until when nobody else asks; also the compare-and-swap of the outcome.
    pub leased_until: DateTime<Utc>,
}

/// What became of a poll; landed with the records of the answer.
#[derive(Clone, Debug)]
pub struct Polled {
    /// What it was about.
    pub subject: Subject,
    /// The match key or product id.
    pub key: String,
    /// The lease under which the source was asked.
    pub leased_until: DateTime<Utc>,
    /// What is known now; [`State::Due`] when it has to be asked again for the rest.
    pub state: State,
    /// The source's own id of the customer.
    pub external_id: Option<String>,
    /// When the source answered; `None` leaves the time of the answer before.
    pub checked_at: Option<DateTime<Utc>>,
    /// When to ask next.
    pub next_at: DateTime<Utc>,
    /// How many times in a row the source failed.
    pub failures: i32,
    /// Validators of the answers, by request.
    pub validators: serde_json::Value,
    /// Products that the answer names; those not known yet become due.
    pub products: Vec<String>,
    /// The source's ids of the customers that land with it. Where another poll remembers one of them as it was, that answer is
    /// not the last one any more.
    pub customers: Vec<String>,
}

impl State {
    /// The word in `polls.state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Failing => "failing",
        }
    }
}

impl From<String> for State {
    fn from(word: String) -> Self {
        [Self::Known, Self::Unknown, Self::Failing]
            .into_iter()
            .find(|state| state.as_str() == word)
            .unwrap_or(Self::Due)
    }
}

/// Offers match keys to the sources: new ones are due at once, known ones keep their state and take the email.
/// `keys` and `emails` go in pairs.
pub async fn offer(
    executor: impl PgExecutor<'_>,
    sources: &[String],
    keys: &[String],
    emails: &[String],
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    let done = sqlx::query(
        "insert into staging.polls as known (source, match_key, email, next_at)
         select source, offered.match_key, offered.email, $4
         from unnest($1::text[]) as sources (source)
         cross join unnest($2::text[], $3::text[]) as offered (match_key, email)
         on conflict on constraint polls_pkey do update set email = excluded.email
         where known.email <> excluded.email",
    )
    .bind(sources)
    .bind(keys)
    .bind(emails)
    .bind(now)
    .execute(executor)
    .await
    .map_err(Error::database("offering emails to poll"))?;
    Ok(done.rows_affected())
}

/// Those of the match keys that not all of the sources were offered yet.
pub async fn not_offered(
    executor: impl PgExecutor<'_>,
    sources: &[String],
    keys: &[&str],
) -> Result<Vec<String>, Error> {
    sqlx::query_scalar(
        "with offered as materialized (
             -- to how many of the sources
             select match_key, count(*) as sources from staging.polls
             where source = any ($1) and match_key = any ($2) group by match_key
         )
         select k.match_key
         from unnest($2::text[]) as k (match_key)
         left join offered o on o.match_key = k.match_key
         where coalesce(o.sources, 0) < cardinality($1::text[])",
    )
    .bind(sources)
    .bind(keys)
    .fetch_all(executor)
    .await
    .map_err(Error::database("looking for emails that a source was not offered"))
}

/// Takes match keys back that no living cross-reference has any more. An answer that is under way is then not landed.
pub async fn withdraw(executor: impl PgExecutor<'_>, keys: &[String]) -> Result<(), Error> {
    sqlx::query("delete from staging.polls where match_key = any ($1)")
        .bind(keys)
        .execute(executor)
        .await
        .map_err(Error::database("withdrawing emails from polling"))?;
    Ok(())
}

/// Makes polls due now, the one of `match_key` before all that were asked before or else every one of the source, products
/// included, as if none had failed, and wakes the pollers. Returns how many customers that is.
pub async fn refresh(
    executor: impl PgExecutor<'_>,
    source: &str,
    match_key: Option<&str>,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    sqlx::query_scalar(
        "with refreshed as (
             update staging.polls
             set next_at = case when $2::text is null then least(next_at, $3) else 'epoch' end, failures = 0
             where source = $1 and ($2::text is null or match_key = $2)
             returning 1
         ),
         products as (
             -- what one customer bought is asked about in its time
             update staging.polled_products set next_at = least(next_at, $3) where source = $1 and $2::text is null
         ),
         counted as (select count(*) as polls from refreshed)
         select polls from counted, pg_notify($4, '')",
    )
    .bind(source)
    .bind(match_key)
    .bind(now)
    .bind(OFFERED_CHANNEL)
    .fetch_one(executor)
    .await
    .map_err(Error::database("refreshing polls"))
}

/// How many customers [`refresh`] would have asked about.
pub async fn count(executor: impl PgExecutor<'_>, source: &str, match_key: Option<&str>) -> Result<i64, Error> {
    sqlx::query_scalar("select count(*) from staging.polls where source = $1 and ($2::text is null or match_key = $2)")
        .bind(source)
        .bind(match_key)
        .fetch_one(executor)
        .await
        .map_err(Error::database("counting polls"))
}

/// What [`refresh`] has made due.
#[derive(Clone, Copy, Debug)]
pub struct Refreshed<'a> {
    /// The poll of this match key; `None`: every one of the source.
    pub match_key: Option<&'a str>,
    /// When.
    pub since: DateTime<Utc>,
}

/// How many polls that were made due another poller holds: not answered since, and not due either.
pub async fn unanswered(
    executor: impl PgExecutor<'_>,
    source: &str,
    refreshed: Refreshed<'_>,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    sqlx::query_scalar(
        "select count(*) from staging.polls
         where source = $1 and ($2::text is null or match_key = $2) and next_at > $4 and failures = 0
           and (checked_at is null or checked_at < $3)",
    )
    .bind(source)
    .bind(refreshed.match_key)
    .bind(refreshed.since)
    .bind(now)
    .fetch_one(executor)
    .await
    .map_err(Error::database("looking for polls that another process holds"))
}

/// How many polls that were made due were asked, by whomever: the source has answered, or failed.
pub async fn asked(executor: impl PgExecutor<'_>, source: &str, refreshed: Refreshed<'_>) -> Result<i64, Error> {
    sqlx::query_scalar(
        "select count(*) from staging.polls
         where source = $1 and ($2::text is null or match_key = $2) and (checked_at >= $3 or failures > 0)",
    )
    .bind(source)
    .bind(refreshed.match_key)
    .bind(refreshed.since)
    .fetch_one(executor)
    .await
    .map_err(Error::database("counting polls that were asked"))
}

/// How many polls of a source are due, and since when the oldest is.
pub async fn due(
    executor: impl PgExecutor<'_>,
    source: &str,
    now: DateTime<Utc>,
) -> Result<(i64, Option<DateTime<Utc>>), Error> {
    sqlx::query_as("select count(*), min(next_at) from staging.polls where source = $1 and next_at <= $2")
        .bind(source)
        .bind(now)
        .fetch_one(executor)
        .await
        .map_err(Error::database("counting due polls"))
}

/// How many polls of a source were never answered and are not due either: another poller holds them, or held them when it
/// died; their leases run out.
pub async fn leased_elsewhere(executor: impl PgExecutor<'_>, source: &str, now: DateTime<Utc>) -> Result<i64, Error> {
    sqlx::query_scalar(
        "select (select count(*) from staging.polls
                 where source = $1 and state = 'due' and checked_at is null and failures = 0 and next_at > $2)
              + (select count(*) from staging.polled_products
                 where source = $1 and state = 'due' and checked_at is null and failures = 0 and next_at > $2)",
    )
    .bind(source)
    .bind(now)
    .fetch_one(executor)
    .await
    .map_err(Error::database("looking for polls that another process holds"))
}
