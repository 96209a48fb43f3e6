//! What senders do: take an edit for a while, and say what became of it.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::types::{Json, Uuid};

use super::{Edits, Kind, State};
use crate::Error;

/// An edit that one process has for sending.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Leased {
    /// How it is called.
    pub edit_id: Uuid,
    /// To change or to make a customer.
    #[sqlx(try_from = "String")]
    pub kind: Kind,
    /// The system of the cross-reference that was edited. Where it is not the source, that finds the customer by email.
    pub system: String,
    /// Its id there.
    pub external_id: String,
    /// Its match key.
    pub match_key: String,
    /// Its email.
    pub email: String,
    /// The attributes.
    #[sqlx(json)]
    pub edits: Edits,
    /// When it was edited.
    pub edited_at: DateTime<Utc>,
    /// How many times it was tried before.
    pub attempts: i32,
    /// Until when nobody else sends it.
    pub leased_until: DateTime<Utc>,
}

/// What became of an edit for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The source has it, but for attributes that it had changed later itself.
    Settled {
        /// Those attributes.
        overruled: Vec<String>,
    },
    /// The source does not take it.
    Refused {
        /// Why; no value.
        reason: String,
    },
}

/// Takes up to `limit` edits that are due, of each customer the oldest, unless one is under way. Cross-references of one match
/// key may be one customer at the source, and one of them may have had another match key before. Forgets what was taken back
/// while it was under way.
pub async fn lease(
    executor: impl PgExecutor<'_>,
    source: &str,
    limit: usize,
    now: DateTime<Utc>,
    leased_until: DateTime<Utc>,
) -> Result<Vec<Leased>, Error> {
    sqlx::query_as(
        "with taken_back as (
             delete from staging.outbox
             where source = $1 and state = 'waiting' and kind = 'update' and edits = '{}'
               and (leased_until is null or leased_until <= $2)
         ),
         waiting as materialized (
             select edit_id, next_at,
                    row_number() over (partition by match_key order by edited_at, edit_id) as place,
                    row_number() over (partition by system, external_id order by edited_at, edit_id) as place_of_xref,
                    bool_or(leased_until > $2) over (partition by match_key) as is_leased,
                    bool_or(leased_until > $2) over (partition by system, external_id) as is_xref_leased
             from staging.outbox
             where source = $1 and state = 'waiting' and (kind = 'create' or edits <> '{}' or leased_until > $2)
         ),
         due as materialized (
             select edit_id from waiting
             where next_at <= $2 and place = 1 and place_of_xref = 1
               and is_leased is not true and is_xref_leased is not true
             order by next_at limit $3
         )
         -- Of two processes the second waits for the first, and finds it leased.
         update staging.outbox o
         set leased_until = $4, attempts = o.attempts + 1
         from due
         where o.edit_id = due.edit_id and o.state = 'waiting' and (o.leased_until is null or o.leased_until <= $2)
         returning o.edit_id, o.kind, o.system, o.external_id, o.match_key, o.email, o.edits,
                   o.edited_at, o.attempts - 1 as attempts, o.leased_until",
    )
    .bind(source)
    .bind(now)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(leased_until)
    .fetch_all(executor)
    .await
    .map_err(Error::database("leasing edits"))
}

/// What an edit is by now, which its sender took a while ago; `None` when it was taken back, or is somebody else's.
pub async fn read_again(executor: impl PgExecutor<'_>, edit: &Leased) -> Result<Option<Edits>, Error> {
    let edits: Option<Json<Edits>> = sqlx::query_scalar(
        "select edits from staging.outbox
         where edit_id = $1 and leased_until = $2 and (kind = 'create' or edits <> '{}')",
    )
    .bind(edit.edit_id)
    .bind(edit.leased_until)
    .fetch_optional(executor)
    .await
    .map_err(Error::database("reading an edit again"))?;
    Ok(edits.map(|Json(edits)| edits))
}

/// Notes what became of an edit, while its lease is still ours; whether that was all. It is not where the edit has been
/// changed since it was read to be sent: that has still to be sent. One that is settled holds no values any more.
pub async fn settle(
    executor: impl PgExecutor<'_>,
    edit: &Leased,
    outcome: &Outcome,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let (state, overruled, reason) = match outcome {
        Outcome::Settled { overruled } => (State::Settled, overruled.as_slice(), None),
        Outcome::Refused { reason } => (State::Refused, [].as_slice(), Some(reason)),
    };
    let noted = sqlx::query(
        "update staging.outbox
         set state = $3, overruled = $4, reason = $5, settled_at = $6, leased_until = null,
             edits = case $3 when 'settled' then
                 (select coalesce(jsonb_object_agg(name, null), '{}') from jsonb_object_keys(edits) as name)
             else edits end
         where edit_id = $1 and leased_until = $2 and edits = $7",
    )
    .bind(edit.edit_id)
    .bind(edit.leased_until)
    .bind(state.as_str())
    .bind(overruled)
    .bind(reason)
    .bind(now)
    .bind(Json(&edit.edits))
    .execute(executor)
    .await
    .map_err(Error::database("noting what became of an edit"))?;
    Ok(noted.rows_affected() > 0)
}

/// Gives an edit back, to be tried again from `next_at` on. `reason` says what went wrong; without one it was not tried.
pub async fn postpone(
    executor: impl PgExecutor<'_>,
    edit: &Leased,
    reason: Option<&str>,
    next_at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(
        "update staging.outbox
         set next_at = $3, leased_until = null, reason = coalesce($4, reason),
             attempts = case when $4::text is null then attempts - 1 else attempts end
         where edit_id = $1 and leased_until = $2",
    )
    .bind(edit.edit_id)
    .bind(edit.leased_until)
    .bind(next_at)
    .bind(reason)
    .execute(executor)
    .await
    .map_err(Error::database("giving an edit back"))?;
    Ok(())
}
