//! `staging.lists` and `staging.listed_records`: how far the lists of REST sources are read, and what they have brought.
//!
//! A list is read in rounds, page by page. Whoever reads it [`lease`]s it and lands every page with
//! [`crate::Checkpoint::List`]: the page's records, what they look like and where the next page is commit together, and
//! only while the lease is still theirs. A process that dies leaves the round to the next one, which goes on at the page
//! that was not landed.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use model::Entity;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, Row};

use crate::Error;
use crate::polls::note_products;

/// Longer keys would not fit into an index.
pub const LONGEST_KEY: usize = 512;

/// How far a list is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Everything that had changed by then is landed, by the source's clock; `None` until a round has come to its end.
    pub complete_until: Option<DateTime<Utc>>,
    /// The round under way.
    pub round: Option<Round>,
    /// How many times in a row the list could not be read.
    pub failures: i32,
    /// The time of the last answer.
    pub answered_at: Option<DateTime<Utc>>,
}

/// A round under way: its first page is landed.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// When it began, by the source's clock.
    pub began_at: DateTime<Utc>,
    /// How the next page is asked for; `None` for the first page of a pass.
    pub next_page: Option<Value>,
    /// 1, or 2 for the second look at a list that can shift while it is read.
    pub pass: i32,
    /// Pages landed in this pass.
    pub pages: i32,
    /// Records in these pages, unchanged ones included.
    pub records: i64,
}

/// A list that is leased to this process.
#[derive(Clone, Debug)]
pub struct Lease {
    /// How far it is read.
    pub progress: Progress,
    /// Until when nobody else reads; also the compare-and-swap of the next page.
    pub leased_until: DateTime<Utc>,
}

/// A page that is landed: the progress behind it, and the lease before and behind it.
#[derive(Clone, Debug)]
pub struct Advance {
    /// What the list is of.
    pub entity: Entity,
    /// The lease under which the page was asked for.
    pub leased_until: DateTime<Utc>,
    /// How far the list is read now.
    pub progress: Progress,
    /// The end of the lease from now on, or when the next round is due.
    pub next_at: DateTime<Utc>,
    /// Whether the round has come to its end.
    pub is_finished: bool,
    /// What the records that are new or changed look like.
    pub listed: Vec<Listed>,
    /// Products that orders of the page name; those not known yet become due.
    pub products: Vec<String>,
}

/// What a record that a list has brought looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub entity: Entity,
    /// Its id, or what tells it from others where it has none; at most [`LONGEST_KEY`] bytes.
    pub key: String,
    /// The same for the same content.
    pub fingerprint: String,
}

/// A list as `status` shows it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Overview {
    /// The source.
    pub source: String,
    /// `customer`, `order`, `product` or `interaction`.
    pub entity: String,
    /// Everything that had changed by then is landed, by the source's clock.
    pub complete_until: Option<DateTime<Utc>>,
    /// When the last round came to its end.
    pub finished_at: Option<DateTime<Utc>>,
    /// Since when the round under way, a failing one, or the next one that nobody has begun is due; `None` when none is.
    pub due_since: Option<DateTime<Utc>>,
    /// Pages landed in the round under way.
    pub pages: i32,
    /// Records in these pages.
    pub records: i64,
    /// How many times in a row the list could not be read.
    pub failures: i32,
}

/// A lease that ends without a page.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// The end that it has.
    pub leased_until: DateTime<Utc>,
    /// When the list is due.
    pub next_at: DateTime<Utc>,
    /// How many times in a row the list could not be read.
    pub failures: i32,
    /// Whether the round under way is forgotten: its pages lead nowhere.
    pub begins_anew: bool,
}

/// Leases a list that is due; `None` when it is not, or another process reads it. A list that is not known yet is due. Under
/// other `rules` than those of its progress it is read from its beginning.
pub async fn lease(
    executor: impl PgExecutor<'_>,
    source: &str,
    entity: Entity,
    rules: &str,
    now: DateTime<Utc>,
    leased_until: DateTime<Utc>,
) -> Result<Option<Lease>, Error> {
    let row = sqlx::query(
        "insert into staging.lists as known (source, entity, rules, due_at, next_at)
         values ($1, $2, $3, $4, $5)
         on conflict on constraint lists_pkey do update
         set next_at = excluded.next_at,
             due_at = case when known.finished_at >= known.due_at then known.next_at else known.due_at end,
             rules = excluded.rules,
             complete_until = case when known.rules = excluded.rules then known.complete_until end,
             began_at = case when known.rules = excluded.rules then known.began_at end,
             next_page = case when known.rules = excluded.rules then known.next_page end,
             pass = case when known.rules = excluded.rules then known.pass else 1 end,
             pages = case when known.rules = excluded.rules then known.pages else 0 end,
             records = case when known.rules = excluded.rules then known.records else 0 end
         where known.next_at <= $4
         returning complete_until, began_at, next_page, pass, pages, records, failures, answered_at, next_at",
    )
    .bind(source)
    .bind(entity.as_str())
    .bind(rules)
    .bind(now)
    .bind(leased_until)
    .fetch_optional(executor)
    .await
    .map_err(Error::database("leasing a list"))?;
    Ok(row.map(|row| Lease { progress: progress(&row), leased_until: row.get("next_at") }))
}

/// Whether a list has this end of a lease, or this time of its next round: after a fenced landing it says whether only the
/// reply to COMMIT was lost.
pub async fn is_held(
    executor: impl PgExecutor<'_>,
    source: &str,
    entity: Entity,
    next_at: DateTime<Utc>,
) -> Result<bool, Error> {
    sqlx::query_scalar("select count(*) > 0 from staging.lists where source = $1 and entity = $2 and next_at = $3")
        .bind(source)
        .bind(entity.as_str())
        .bind(next_at)
        .fetch_one(executor)
        .await
        .map_err(Error::database("reading the lease of a list"))
}

/// Ends a lease without a page, if it is still ours.
pub async fn release(
    executor: impl PgExecutor<'_>,
    source: &str,
    entity: Entity,
    release: Release,
) -> Result<(), Error> {
    sqlx::query(
        "update staging.lists
         set next_at = $4, failures = $5,
             began_at = case when $6 then null else began_at end,
             next_page = case when $6 then null else next_page end,
             pass = case when $6 then 1 else pass end,
             pages = case when $6 then 0 else pages end,
             records = case when $6 then 0 else records end
         where source = $1 and entity = $2 and next_at = $3",
    )
    .bind(source)
    .bind(entity.as_str())
    .bind(release.leased_until)
    .bind(release.next_at)
    .bind(release.failures)
    .bind(release.begins_anew)
    .execute(executor)
    .await
    .map_err(Error::database("releasing a list"))?;
    Ok(())
}

/// Of these records, what those look like that a list has brought before: by entity and key.
pub async fn known(
    executor: impl PgExecutor<'_>,
    source: &str,
    records: &[(Entity, String)],
) -> Result<HashMap<(Entity, String), String>, Error> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select asked.place, l.fingerprint
         from unnest($2::text[], $3::text[]) with ordinality as asked (entity, record_key, place)
         join staging.listed_records l on l.entity = asked.entity and l.record_key = asked.record_key
         where l.source = $1",
    )
    .bind(source)
    .bind(records.iter().map(|(entity, _)| entity.as_str()).collect::<Vec<_>>())
    .bind(records.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>())
    .fetch_all(executor)
    .await
    .map_err(Error::database("reading what a list has brought"))?;
    let known = rows.into_iter().filter_map(|(place, fingerprint)| {
        let place = usize::try_from(place).ok()?;
        Some((records.get(place - 1)?.clone(), fingerprint))
    });
    Ok(known.collect())
}

/// Makes the lists of a source due now and has them read from their beginning, whatever had changed since. A round under
/// way by another process ends with its page. Returns how many lists there are.
pub async fn refresh(executor: impl PgExecutor<'_>, source: &str, now: DateTime<Utc>) -> Result<u64, Error> {
    let done = sqlx::query(
        "update staging.lists
         set next_at = $2, due_at = $2, complete_until = null, began_at = null, next_page = null, pass = 1, pages = 0,
             records = 0, failures = 0
         where source = $1",
    )
    .bind(source)
    .bind(now)
    .execute(executor)
    .await
    .map_err(Error::database("refreshing lists"))?;
    Ok(done.rows_affected())
}

/// How far every list is read, by source.
pub async fn overview(
    executor: impl PgExecutor<'_>,
    now: DateTime<Utc>,
) -> Result<BTreeMap<String, Vec<Overview>>, Error> {
    let rows: Vec<Overview> = sqlx::query_as(
        "select source, entity, complete_until, finished_at,
                case when finished_at is null or finished_at < due_at then due_at when next_at <= $1 then next_at end
                    as due_since,
                pages, records, failures
         from staging.lists order by source, entity",
    )
    .bind(now)
    .fetch_all(executor)
    .await
    .map_err(Error::database("reading lists"))?;
    let mut lists: BTreeMap<String, Vec<Overview>> = BTreeMap::new();
    for list in rows {
        lists.entry(list.source.clone()).or_default().push(list);
    }
    Ok(lists)
}

/// Whether another process is in the middle of a round: its lease is not over.
pub async fn leased_elsewhere(
    executor: impl PgExecutor<'_>,
    source: &str,
    entity: Entity,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    sqlx::query_scalar(
        "select count(*) > 0 from staging.lists
         where source = $1 and entity = $2 and next_at > $3 and failures = 0
           and (finished_at is null or finished_at < due_at)",
    )
    .bind(source)
    .bind(entity.as_str())
    .bind(now)
    .fetch_one(executor)
    .await
    .map_err(Error::database("looking for lists that another process reads"))
}

/// Moves a list behind a page, under its lease; false means that the lease is not ours any more.
pub(crate) async fn note(
    connection: &mut PgConnection,
    source: &str,
    advance: &Advance,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let Progress { complete_until, round, failures, answered_at } = &advance.progress;
    let done = sqlx::query(
        "update staging.lists
         set next_at = $4, complete_until = $5, failures = $6, answered_at = $7, began_at = $8, next_page = $9, pass = $10,
             pages = $11, records = $12,
             finished_at = case when $14 then $13 else finished_at end
         where source = $1 and entity = $2 and next_at = $3",
    )
    .bind(source)
    .bind(advance.entity.as_str())
    .bind(advance.leased_until)
    .bind(advance.next_at)
    .bind(complete_until)
    .bind(failures)
    .bind(answered_at)
    .bind(round.as_ref().map(|round| round.began_at))
    .bind(round.as_ref().and_then(|round| round.next_page.clone()))
    .bind(round.as_ref().map_or(1, |round| round.pass))
    .bind(round.as_ref().map_or(0, |round| round.pages))
    .bind(round.as_ref().map_or(0, |round| round.records))
    .bind(now)
    .bind(advance.is_finished)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() != 1 {
        return Ok(false);
    }
    note_listed(connection, source, &advance.listed).await?;
    note_products(connection, source, advance.products.iter().map(String::as_str), now).await?;
    Ok(true)
}

/// Of one key the last one counts.
async fn note_listed(connection: &mut PgConnection, source: &str, listed: &[Listed]) -> Result<(), sqlx::Error> {
    let by_key: BTreeMap<(&str, &str), &str> = listed
        .iter()
        .map(|listed| ((listed.entity.as_str(), listed.key.as_str()), listed.fingerprint.as_str()))
        .collect();
    if by_key.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into staging.listed_records as known (source, entity, record_key, fingerprint)
         select $1, entity, record_key, fingerprint
         from unnest($2::text[], $3::text[], $4::text[]) as listed (entity, record_key, fingerprint)
         on conflict on constraint listed_records_pkey do update set fingerprint = excluded.fingerprint",
    )
    .bind(source)
    .bind(by_key.keys().map(|(entity, _)| *entity).collect::<Vec<_>>())
    .bind(by_key.keys().map(|(_, key)| *key).collect::<Vec<_>>())
    .bind(by_key.values().copied().collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

fn progress(row: &PgRow) -> Progress {
    let round = |began_at| Round {
        began_at,
        next_page: row.get("next_page"),
        pass: row.get("pass"),
        pages: row.get("pages"),
        records: row.get("records"),
    };
    Progress {
        complete_until: row.get("complete_until"),
        round: row.get::<Option<DateTime<Utc>>, _>("began_at").map(round),
        failures: row.get("failures"),
        answered_at: row.get("answered_at"),
    }
}
