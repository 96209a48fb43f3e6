//! `staging.polls`: whom to ask each REST source about, and what the last answer was.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor, Row};

use crate::Error;

/// The channel on which consolidation says that there are new emails to ask about.
pub const OFFERED_CHANNEL: &str = "c360_polls";

/// Somebody to ask a source about, leased to one poller.
#[derive(Clone, Debug)]
pub struct Poll {
    /// The match key, which names the row.
    pub match_key: String,
    /// The email to ask by.
    pub email: String,
    /// The source's own id, from its last answer.
    pub external_id: Option<String>,
    /// How many times in a row the source failed on this one.
    pub failures: i32,
    /// When the source last answered.
    pub checked_at: Option<DateTime<Utc>>,
    /// Validators of the last answers, by request.
    pub validators: serde_json::Value,
    /// Until when nobody else asks; also the compare-and-swap of the outcome.
    pub leased_until: DateTime<Utc>,
}

/// What became of a poll; landed with the records of the answer.
#[derive(Clone, Debug)]
pub struct Polled {
    /// The row.
    pub match_key: String,
    /// The lease under which the source was asked.
    pub leased_until: DateTime<Utc>,
    /// `known`, `unknown`, `failing`, or `due` when it has to be asked again for the rest.
    pub state: &'static str,
    /// The source's own id.
    pub external_id: Option<String>,
    /// When the source answered; `None` leaves the time of the answer before.
    pub checked_at: Option<DateTime<Utc>>,
    /// When to ask next.
    pub next_at: DateTime<Utc>,
    /// How many times in a row the source failed.
    pub failures: i32,
    /// Validators of the answers, by request.
    pub validators: serde_json::Value,
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

/// Takes match keys back that no living cross-reference has any more.
pub async fn withdraw(executor: impl PgExecutor<'_>, keys: &[String]) -> Result<(), Error> {
    sqlx::query("delete from staging.polls where match_key = any ($1)")
        .bind(keys)
        .execute(executor)
        .await
        .map_err(Error::database("withdrawing emails from polling"))?;
    Ok(())
}

/// Leases up to `limit` polls that are due: never-asked ones first, then the stalest. A poller that dies leaves them to
/// others once the lease is over.
pub async fn lease(
    executor: impl PgExecutor<'_>,
    source: &str,
    limit: i64,
    now: DateTime<Utc>,
    leased_until: DateTime<Utc>,
) -> Result<Vec<Poll>, Error> {
    let rows = sqlx::query(
        "with due as materialized (
             select source, match_key, next_at
             from staging.polls
             where source = $1 and next_at <= $2
             order by checked_at is not null, next_at
             limit $3
         )
         update staging.polls as p
         set next_at = $4
         from due
         where p.source = due.source and p.match_key = due.match_key and p.next_at = due.next_at
         returning p.match_key, p.email, p.external_id, p.failures, p.checked_at, p.validators, p.next_at",
    )
    .bind(source)
    .bind(now)
    .bind(limit)
    .bind(leased_until)
    .fetch_all(executor)
    .await
    .map_err(Error::database("leasing polls"))?;
    let poll = |row: &sqlx::postgres::PgRow| Poll {
        match_key: row.get(0),
        email: row.get(1),
        external_id: row.get(2),
        failures: row.get(3),
        checked_at: row.get(4),
        validators: row.get(5),
        leased_until: row.get(6),
    };
    Ok(rows.iter().map(poll).collect())
}

/// Notes outcomes, each only under the lease that it was asked under; false means that one was no longer ours. A poll that
/// was withdrawn meanwhile is no conflict: it has nothing to note.
pub(crate) async fn note(connection: &mut PgConnection, source: &str, polled: &[Polled]) -> Result<bool, sqlx::Error> {
    for outcome in polled {
        let done = sqlx::query(
            "update staging.polls
             set state = $4, external_id = $5, checked_at = coalesce($6, checked_at), next_at = $7, failures = $8,
                 validators = $9
             where source = $1 and match_key = $2 and next_at = $3",
        )
        .bind(source)
        .bind(&outcome.match_key)
        .bind(outcome.leased_until)
        .bind(outcome.state)
        .bind(&outcome.external_id)
        .bind(outcome.checked_at)
        .bind(outcome.next_at)
        .bind(outcome.failures)
        .bind(&outcome.validators)
        .execute(&mut *connection)
        .await?;
        if done.rows_affected() == 0 && still_there(connection, source, &outcome.match_key).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn still_there(connection: &mut PgConnection, source: &str, match_key: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select count(*) > 0 from staging.polls where source = $1 and match_key = $2")
        .bind(source)
        .bind(match_key)
        .fetch_one(connection)
        .await
}
