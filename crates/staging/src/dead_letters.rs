//! `staging.dead_letters`: what could not be landed or consolidated, sealed until an operator retries or discards it.
//!
//! An ingester parks a [`DeadLetter`] with the batch that it belongs to. [`count`] and [`list`] say what there is, and show
//! nothing of what it holds; [`open`] breaks the seal. [`Retrier`] lands what can be read by now, [`discard`] gives up;
//! either wipes what the letter holds, in the transaction that changes its state.

mod forget;
mod letter;
mod open;
mod retry;
mod settle;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{PgExecutor, Postgres};

use crate::{Error, constant_sql};

pub use forget::forget_settled;
pub use letter::{Context, DeadLetter, KeptRecord};
pub use open::{Closed, Contents, Opened, open};
pub use retry::{Cannot, Files, Reread, Retried, Retrier};
pub use settle::Settlement;

pub(crate) use letter::is_of_erased;
pub(crate) use settle::{note_batch, settle, settle_file};

/// What became of a letter; the words of `dead_letters.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for an operator.
    Parked,
    /// Its records are landed, or what came after it has made it needless.
    Retried,
    /// Given up, by an operator or with the file that it was in.
    Discarded,
}

/// Which letters; `None` of anything is all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// These.
    pub ids: Option<Vec<i64>>,
    /// Of this source.
    pub source: Option<String>,
    /// For this reason, by its word.
    pub reason: Option<String>,
    /// Parked at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Parked before this time.
    pub until: Option<DateTime<Utc>>,
    /// In this state.
    pub state: Option<State>,
    /// With no greater number than this: none that come while one works on them. See [`newest`].
    pub last: Option<i64>,
}

/// How many letters there are of a kind.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Count {
    /// The source.
    pub source: String,
    /// The word of [`model::Reason`].
    pub reason: String,
    /// The state.
    #[sqlx(try_from = "String")]
    pub state: State,
    /// How many.
    pub letters: i64,
    /// When the oldest was parked.
    pub oldest: DateTime<Utc>,
    /// When the newest was parked.
    pub newest: DateTime<Utc>,
}

/// A letter without what it holds.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Letter {
    /// Its number.
    pub dead_letter_id: i64,
    /// The source.
    pub source: String,
    /// Where it came from; see [`DeadLetter::origin`].
    pub origin: Value,
    /// The word of [`model::Reason`].
    pub reason: String,
    /// What to look at: columns and places, never a value.
    pub detail: String,
    /// Whether only a part of what came is kept.
    pub truncated: bool,
    /// The source's id, where it could be read. May be personal.
    pub external_id: Option<String>,
    /// When it was parked.
    pub landed_at: DateTime<Utc>,
    /// What became of it.
    #[sqlx(try_from = "String")]
    pub state: State,
    /// When it was last retried, with success or without, or discarded.
    pub handled_at: Option<DateTime<Utc>>,
    /// The batch that its records landed in when it was retried.
    pub landed_batch_id: Option<i64>,
}

impl State {
    /// The word in `dead_letters.state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Retried => "retried",
            Self::Discarded => "discarded",
        }
    }
}

impl From<String> for State {
    fn from(word: String) -> Self {
        [Self::Parked, Self::Retried].into_iter().find(|state| state.as_str() == word).unwrap_or(Self::Discarded)
    }
}

const LETTER: &str = "d.dead_letter_id, d.source, d.origin, d.reason, d.detail, d.truncated, d.external_id,
                      d.landed_at, d.state, d.handled_at, d.landed_batch_id";

impl Letter {
    /// Where it came from, in one phrase.
    pub fn place(&self) -> String {
        let text = |key: &str| {
            let value = self.origin.get(key)?;
            Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        let place = if let Some(topic) = text("topic") {
            let offset = text("offset").or_else(|| Some(format!("{}-{}", text("first_offset")?, text("last_offset")?)));
            format!("{topic}/{} offset {}", text("partition").unwrap_or_default(), offset.unwrap_or_default())
        } else if let Some(file) = text("file") {
            let line = text("line").or_else(|| Some(format!("{}-{}", text("first_line")?, text("last_line")?)));
            format!("{file} line {}", line.unwrap_or_default())
        } else {
            text("request").unwrap_or_else(|| self.origin.to_string())
        };
        match text("ordinal") {
            Some(ordinal) => format!("{place}, record {ordinal} of its batch"),
            None => place,
        }
    }
}

/// What the parameters of [`Selection::bind`] say.
const SELECTED: &str = "($1::bigint[] is null or d.dead_letter_id = any ($1)) and ($2::text is null or d.source = $2)
           and ($3::text is null or d.reason = $3) and ($4::timestamptz is null or d.landed_at >= $4)
           and ($5::timestamptz is null or d.landed_at < $5) and ($6::text is null or d.state = $6)
           and ($7::bigint is null or d.dead_letter_id <= $7)";

impl Selection {
    fn bind<'q, T>(&self, query: QueryAs<'q, Postgres, T, PgArguments>) -> QueryAs<'q, Postgres, T, PgArguments> {
        query
            .bind(self.ids.clone())
            .bind(self.source.clone())
            .bind(self.reason.clone())
            .bind(self.since)
            .bind(self.until)
            .bind(self.state.map(State::as_str))
            .bind(self.last)
    }
}

/// How many letters are selected, by source, reason and state.
pub async fn count(executor: impl PgExecutor<'_>, selection: &Selection) -> Result<Vec<Count>, Error> {
    let sql = format!(
        "select d.source, d.reason, d.state, count(*) as letters, min(d.landed_at) as oldest, max(d.landed_at) as newest
         from staging.dead_letters d
         where {SELECTED}
         group by d.source, d.reason, d.state
         order by d.source, d.reason, d.state"
    );
    let query = selection.bind(sqlx::query_as(constant_sql(sql)));
    query.fetch_all(executor).await.map_err(Error::database("counting dead letters"))
}

/// The newest selected letters, at most `limit`, of those with a smaller number than `before`.
pub async fn list(
    executor: impl PgExecutor<'_>,
    selection: &Selection,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Letter>, Error> {
    let sql = format!(
        "select {LETTER} from staging.dead_letters d
         where {SELECTED} and ($8::bigint is null or d.dead_letter_id < $8)
         order by d.dead_letter_id desc
         limit $9"
    );
    let query = selection.bind(sqlx::query_as(constant_sql(sql))).bind(before).bind(limit);
    query.fetch_all(executor).await.map_err(Error::database("listing dead letters"))
}

/// Those of a file that is being imported, and may yet be refused or start again, are nobody's business.
const NOT_OF_AN_OPEN_IMPORT: &str = "left join staging.batches i on i.batch_id = d.batch_id and i.import_id is not null
              and i.published_at is null and i.abandoned_at is null";

/// The greatest number that a letter has.
pub async fn newest(executor: impl PgExecutor<'_>) -> Result<Option<i64>, Error> {
    sqlx::query_scalar("select max(dead_letter_id) from staging.dead_letters")
        .fetch_one(executor)
        .await
        .map_err(Error::database("looking for the newest dead letter"))
}

/// Parked letters of one source to be retried, and how many bytes each holds: the oldest of those with a number greater
/// than `after`.
pub async fn waiting(
    executor: impl PgExecutor<'_>,
    selection: &Selection,
    source: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, i32)>, Error> {
    let sql = format!(
        "select d.dead_letter_id, octet_length(d.payload)
         from staging.dead_letters d
         {NOT_OF_AN_OPEN_IMPORT}
         where {SELECTED} and d.state = 'parked' and d.source = $8 and d.dead_letter_id > $9 and i.batch_id is null
         order by d.dead_letter_id
         limit $10"
    );
    let query = selection.bind(sqlx::query_as(constant_sql(sql))).bind(source).bind(after).bind(limit);
    query.fetch_all(executor).await.map_err(Error::database("looking for parked dead letters"))
}

/// How many letters of these batches consolidation has parked.
pub async fn excluded_from(executor: impl PgExecutor<'_>, batch_ids: &[i64]) -> Result<i64, Error> {
    sqlx::query_scalar(
        "select count(*) from staging.dead_letters where batch_id = any ($1) and reason = 'cannot_consolidate'",
    )
    .bind(batch_ids)
    .fetch_one(executor)
    .await
    .map_err(Error::database("counting dead letters"))
}

/// Gives up at most `limit` of the selected letters and wipes them: those that are parked, and those that a refused file
/// has left to be looked at. Returns how many of each; neither once there is nothing left.
pub async fn discard(
    executor: impl PgExecutor<'_>,
    selection: &Selection,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<(i64, i64), Error> {
    let sql = format!(
        "with doomed as materialized (
             select d.dead_letter_id, d.state
             from staging.dead_letters d
             {NOT_OF_AN_OPEN_IMPORT}
             where {SELECTED} and {DISCARDABLE} and i.batch_id is null
             order by d.dead_letter_id
             limit $8
         ),
         discarded as (
             -- looked at again under the row's lock: who was retried meanwhile is not discarded
             update staging.dead_letters d set state = 'discarded', payload = '', context = null, handled_at = $9
             from doomed where d.dead_letter_id = doomed.dead_letter_id and d.state = doomed.state
             returning doomed.state
         )
         select count(*) filter (where state = 'parked'), count(*) filter (where state <> 'parked') from discarded"
    );
    let query = selection.bind(sqlx::query_as(constant_sql(sql))).bind(limit).bind(now);
    query.fetch_one(executor).await.map_err(Error::database("discarding dead letters"))
}

/// What [`discard`] would do now: how many are parked, and how many were left by refused files.
pub async fn discardable(executor: impl PgExecutor<'_>, selection: &Selection) -> Result<(i64, i64), Error> {
    let sql = format!(
        "select count(*) filter (where d.state = 'parked'), count(*) filter (where d.state <> 'parked')
         from staging.dead_letters d
         {NOT_OF_AN_OPEN_IMPORT}
         where {SELECTED} and {DISCARDABLE} and i.batch_id is null"
    );
    let query = selection.bind(sqlx::query_as(constant_sql(sql)));
    query.fetch_one(executor).await.map_err(Error::database("counting dead letters"))
}

const DISCARDABLE: &str = "(d.state = 'parked' or (d.state = 'discarded' and d.payload <> ''))";
