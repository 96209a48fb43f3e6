//! What is on its way, for whoever looks. What was taken back while it was under way, and has no attributes any more, is not.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{PgExecutor, Row};

use super::Kind;
use crate::Error;

/// What has become of an edit; the words of `outbox.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is to be sent.
    Waiting,
    /// The source has it, or had changed the same later itself.
    Settled,
    /// The source does not take it.
    Refused,
}

/// An edit on its way, or what became of it.
#[derive(Clone, Debug)]
pub struct OnTheWay {
    /// To whom.
    pub source: String,
    /// The cross-reference that was edited, by system and id.
    pub xref: (String, String),
    /// To change or to make a customer.
    pub kind: Kind,
    /// The attributes.
    pub attributes: Vec<String>,
    /// Since when.
    pub edited_at: DateTime<Utc>,
    /// What has become of it.
    pub state: State,
    /// Why it still waits, or is refused.
    pub reason: Option<String>,
    /// Attributes that the source had changed later.
    pub overruled: Vec<String>,
}

/// What waits to be sent to a source, and what it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The source.
    pub source: String,
    /// Attributes and new customers that wait.
    pub waiting: i64,
    /// Since when the oldest waits.
    pub oldest: Option<DateTime<Utc>>,
    /// Attributes and new customers that were refused.
    pub refused: i64,
}

impl State {
    /// The word in `outbox.state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Settled => "settled",
            Self::Refused => "refused",
        }
    }
}

/// What has become of these edits, in the order of their sources.
pub async fn of_edits(executor: impl PgExecutor<'_>, edits: &[Uuid]) -> Result<Vec<OnTheWay>, Error> {
    let rows = sqlx::query(
        "select source, kind, array(select jsonb_object_keys(edits) order by 1), edited_at, state, reason, overruled,
                system, external_id
         from staging.outbox
         where edit_id = any ($1) and (kind = 'create' or edits <> '{}')
         order by source, edit_id",
    )
    .bind(edits)
    .fetch_all(executor)
    .await
    .map_err(Error::database("looking for edits on their way"))?;
    Ok(rows.iter().map(on_the_way).collect())
}

/// What waits for these cross-references, given in pairs, or was refused, the oldest first.
pub async fn of_xrefs(
    executor: impl PgExecutor<'_>,
    systems: &[&str],
    external_ids: &[&str],
) -> Result<Vec<OnTheWay>, Error> {
    let rows = sqlx::query(
        "select o.source, o.kind, array(select jsonb_object_keys(o.edits) order by 1), o.edited_at, o.state, o.reason,
                o.overruled, o.system, o.external_id
         from unnest($1::text[], $2::text[]) as x (system, external_id)
         join staging.outbox o on o.system = x.system and o.external_id = x.external_id
         where o.state <> 'settled' and (o.kind = 'create' or o.edits <> '{}')
         order by o.source, o.edited_at, o.edit_id",
    )
    .bind(systems)
    .bind(external_ids)
    .fetch_all(executor)
    .await
    .map_err(Error::database("looking for edits on their way"))?;
    Ok(rows.iter().map(on_the_way).collect())
}

fn on_the_way(row: &PgRow) -> OnTheWay {
    OnTheWay {
        source: row.get(0),
        xref: (row.get(7), row.get(8)),
        kind: if row.get::<&str, _>(1) == Kind::Create.as_str() { Kind::Create } else { Kind::Update },
        attributes: row.get(2),
        edited_at: row.get(3),
        state: match row.get(4) {
            "settled" => State::Settled,
            "refused" => State::Refused,
            _ => State::Waiting,
        },
        reason: row.get(5),
        overruled: row.get(6),
    }
}

/// What waits, by source; of each that has ever been written to.
pub async fn waiting(executor: impl PgExecutor<'_>) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query(
        "select source,
                coalesce(sum(edits) filter (where state = 'waiting'), 0)::bigint,
                min(edited_at) filter (where state = 'waiting'),
                coalesce(sum(edits) filter (where state = 'refused'), 0)::bigint
         from (
             select source, state, edited_at,
                    case kind when 'create' then 1 else (select count(*) from jsonb_object_keys(edits)) end as edits
             from staging.outbox
             where kind = 'create' or edits <> '{}'
         ) as o
         group by source order by source",
    )
    .fetch_all(executor)
    .await
    .map_err(Error::database("counting edits on their way"))?;
    let waiting =
        |row: &PgRow| Waiting { source: row.get(0), waiting: row.get(1), oldest: row.get(2), refused: row.get(3) };
    Ok(rows.iter().map(waiting).collect())
}

/// Forgets edits that were settled before this time; returns how many. Where a customer was made stays: what is edited later
/// goes there.
pub async fn forget_settled(executor: impl PgExecutor<'_>, before: DateTime<Utc>) -> Result<u64, Error> {
    let done =
        sqlx::query("delete from staging.outbox where state = 'settled' and settled_at < $1 and kind = 'update'")
            .bind(before)
            .execute(executor)
            .await
            .map_err(Error::database("forgetting edits that arrived"))?;
    Ok(done.rows_affected())
}
