//! Retiring what a system said before a time: a table that was emptied, a system that was switched off.
//!
//! A retirement holds as soon as it is [`record`]ed: from then on every record from before its time is a delete at its own
//! position, whenever it comes. What the cross-references know from before is tombstoned by the consolidator at work, step
//! by step, each with marks on the match keys that it concerns, so that profiles follow by the normal fold; who is cut off in
//! the middle goes on where it stopped. [`carry_out`] waits for that, or does it where nobody else does.
//!
//! Orders stay with the customer of a tombstoned cross-reference.

mod sweep;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgExecutor};
use staging::Seal;
use tokio_util::sync::CancellationToken;

use crate::error::database;
use crate::{Error, Rules, worker};

pub(crate) use sweep::sweep;

/// By this the marks of retirements are known, and what follows from them in `customer360.changes`.
const CAUSE: &str = "retirement";

/// What a retirement would do now.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Foreseen {
    /// Living cross-references that would be tombstoned.
    pub cross_references: i64,
    /// Living ones that would stay, without some values from before that time.
    pub trimmed: i64,
    /// Profiles that would lose a cross-reference or more, and keep others.
    pub profiles_losing: i64,
    /// Profiles that would lose all of theirs.
    pub profiles_vanishing: i64,
    /// Some of the cross-references, those first that are their profile's last.
    #[sqlx(json)]
    pub samples: Vec<Sample>,
}

/// A cross-reference that would be tombstoned.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// The system's own id.
    pub external_id: String,
    /// The customer to whom it belongs; `None` while it matches nobody.
    pub customer_id: Option<Uuid>,
    /// Whether that customer's profile would vanish.
    pub vanishes: bool,
}

/// How far a retirement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Progress {
    /// Cross-references tombstoned so far.
    pub tombstoned: i64,
    /// Whether all of the system's are gone through.
    pub finished: bool,
    /// Whether profiles have followed, too.
    pub folded: bool,
}

/// Whether there is, or was, any cross-reference of a system.
pub async fn is_known(executor: impl PgExecutor<'_>, system: &str) -> Result<bool, Error> {
    sqlx::query_scalar("select exists (select from customer360.xrefs where system = $1)")
        .bind(system)
        .fetch_one(executor)
        .await
        .map_err(database("looking for a system"))
}

/// Says what a retirement would do, with up to `samples` examples. Changes nothing.
pub async fn foresee(
    connection: &mut PgConnection,
    system: &str,
    before: DateTime<Utc>,
    samples: i64,
) -> Result<Foreseen, Error> {
    sqlx::query_as(
        "with living as materialized (
             select external_id, customer_id, observed_at < $2 as dying,
                    exists (
                        select from jsonb_each_text(attribute_observed_at) as older (name, at)
                        where older.at::timestamptz < $2
                    ) as has_older
             from customer360.xrefs
             where system = $1 and deleted_at is null
         ),
         losing as materialized (
             select distinct customer_id from living where dying and customer_id is not null
         ),
         -- of those, who keeps a cross-reference of any system
         keeping as materialized (
             select distinct l.customer_id
             from losing l
             join customer360.xrefs x on x.customer_id = l.customer_id
             where x.deleted_at is null and not (x.system = $1 and x.observed_at < $2)
         )
         select (select count(*) from living where dying) as cross_references,
                (select count(*) from living where has_older and not dying) as trimmed,
                (select count(*) from keeping) as profiles_losing,
                (select count(*) from losing) - (select count(*) from keeping) as profiles_vanishing,
                to_jsonb(array(
                    select row_to_json(s)
                    from (
                        select v.external_id, v.customer_id, v.customer_id is not null and k.customer_id is null as vanishes
                        from living v
                        left join keeping k on k.customer_id = v.customer_id
                        where v.dying
                        order by vanishes desc, v.external_id
                        limit $3
                    ) s
                )) as samples",
    )
    .bind(system)
    .bind(before)
    .bind(samples)
    .fetch_one(connection)
    .await
    .map_err(database("looking at what would be retired"))
}

/// Records a retirement, which holds from now on, and returns its number.
pub async fn record(
    executor: impl PgExecutor<'_>,
    system: &str,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    sqlx::query_scalar(
        "insert into customer360.retirements (system, retired_before, made_at) values ($1, $2, $3)
         returning retirement_id",
    )
    .bind(system)
    .bind(before)
    .bind(now)
    .fetch_one(executor)
    .await
    .map_err(database("recording a retirement"))
}

/// How far a retirement is.
pub async fn progress(executor: impl PgExecutor<'_>, retirement_id: i64) -> Result<Progress, Error> {
    sqlx::query_as(
        "select tombstoned, finished_at is not null as finished,
                not exists (select from customer360.dirty_marks where cause = $2) as folded
         from customer360.retirements where retirement_id = $1",
    )
    .bind(retirement_id)
    .bind(CAUSE)
    .fetch_one(executor)
    .await
    .map_err(database("looking how far a retirement is"))
}

/// Up to when each system is retired.
pub async fn in_force(executor: impl PgExecutor<'_>) -> Result<BTreeMap<String, DateTime<Utc>>, Error> {
    let sql = "select system, max(retired_before) from customer360.retirements group by system";
    let times: Vec<(String, DateTime<Utc>)> =
        sqlx::query_as(sql).fetch_all(executor).await.map_err(database("reading retirements"))?;
    Ok(times.into_iter().collect())
}

/// Systems whose retirement is recorded and not carried out yet, each with the time when the first one was recorded.
pub async fn open(executor: impl PgExecutor<'_>) -> Result<BTreeMap<String, DateTime<Utc>>, Error> {
    let sql = "select system, min(made_at) from customer360.retirements where finished_at is null group by system";
    let times: Vec<(String, DateTime<Utc>)> =
        sqlx::query_as(sql).fetch_all(executor).await.map_err(database("reading retirements"))?;
    Ok(times.into_iter().collect())
}

/// Waits until a recorded retirement is carried out and profiles have followed, and consolidates meanwhile if nobody else
/// does. `tell` hears how far it is. Cancelled, it returns how far it came: the next consolidator goes on from there.
pub async fn carry_out(
    rules: &Rules,
    seal: &Seal,
    options: &PgConnectOptions,
    retirement_id: i64,
    tell: &mut (dyn FnMut(&Progress) + Send),
    cancel: &CancellationToken,
) -> Result<Progress, Error> {
    let look = async |looker: &mut PgConnection| progress(looker, retirement_id).await;
    let is_done = |progress: &Progress| progress.finished && progress.folded;
    worker::until_done(rules, seal, options, look, is_done, tell, cancel).await
}
