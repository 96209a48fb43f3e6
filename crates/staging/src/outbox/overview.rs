//! What is on its way, for whoever looks. What was taken back while it was under way, and has no attributes any more, is not.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::types::Uuid;

use super::Kind;
use crate::{Error, constant_sql};

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
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct OnTheWay {
    /// To whom.
    pub source: String,
    /// The system of the cross-reference that was edited.
    pub system: String,
    /// Its id there.
    pub external_id: String,
    /// To change or to make a customer.
    #[sqlx(try_from = "String")]
    pub kind: Kind,
    /// The attributes.
    pub attributes: Vec<String>,
    /// Since when.
    pub edited_at: DateTime<Utc>,
    /// What has become of it.
    #[sqlx(try_from = "String")]
    pub state: State,
    /// Why it still waits, or is refused.
    pub reason: Option<String>,
    /// Attributes that the source had changed later.
    pub overruled: Vec<String>,
}

/// What waits to be sent to a source, and what it refused.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
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

impl From<String> for State {
    fn from(word: String) -> Self {
        [Self::Settled, Self::Refused].into_iter().find(|state| state.as_str() == word).unwrap_or(Self::Waiting)
    }
}

/// The columns of [`OnTheWay`].
const ON_THE_WAY: &str = "o.source, o.system, o.external_id, o.kind,
                array(select jsonb_object_keys(o.edits) order by 1) as attributes, o.edited_at, o.state, o.reason,
                o.overruled";

/// What has become of these edits, in the order of their sources.
pub async fn of_edits(executor: impl PgExecutor<'_>, edits: &[Uuid]) -> Result<Vec<OnTheWay>, Error> {
    let sql = format!(
        "select {ON_THE_WAY}
         from staging.outbox o
         where o.edit_id = any ($1) and (o.kind = 'create' or o.edits <> '{{}}')
         order by o.source, o.edit_id"
    );
    sqlx::query_as(constant_sql(sql))
        .bind(edits)
        .fetch_all(executor)
        .await
        .map_err(Error::database("looking for edits on their way"))
}

/// What waits for these cross-references, given in pairs, or was refused, the oldest first.
pub async fn of_xrefs(
    executor: impl PgExecutor<'_>,
    systems: &[&str],
    external_ids: &[&str],
) -> Result<Vec<OnTheWay>, Error> {
    let sql = format!(
        "select {ON_THE_WAY}
         from unnest($1::text[], $2::text[]) as x (system, external_id)
         join staging.outbox o on o.system = x.system and o.external_id = x.external_id
         where o.state <> 'settled' and (o.kind = 'create' or o.edits <> '{{}}')
         order by o.source, o.edited_at, o.edit_id"
    );
    sqlx::query_as(constant_sql(sql))
        .bind(systems)
        .bind(external_ids)
        .fetch_all(executor)
        .await
        .map_err(Error::database("looking for edits on their way"))
}

/// What waits, by source; of each that has ever been written to.
pub async fn waiting(executor: impl PgExecutor<'_>) -> Result<Vec<Waiting>, Error> {
    sqlx::query_as(
        "select s.source,
                coalesce(sum(o.edits) filter (where o.state = 'waiting'), 0)::bigint as waiting,
                min(o.edited_at) filter (where o.state = 'waiting') as oldest,
                coalesce(sum(o.edits) filter (where o.state = 'refused'), 0)::bigint as refused
         from (select distinct source from staging.outbox) as s
         left join (
             select source, state, edited_at,
                    case kind when 'create' then 1 else (select count(*) from jsonb_object_keys(edits)) end as edits
             from staging.outbox
             where state <> 'settled' and (kind = 'create' or edits <> '{}')
         ) as o on o.source = s.source
         group by s.source order by s.source",
    )
    .fetch_all(executor)
    .await
    .map_err(Error::database("counting edits on their way"))
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
