//! Recomputing every profile under the rules in force.
//!
//! A rebuild is [`record`]ed and then carried out by whoever consolidates under the same rules, between merges: window by
//! window it gives cross-references the match key that they have now and marks it, so that profiles follow by the normal
//! fold; then it empties customers whom nobody points to, and lets orders follow their cross-references. It remembers how
//! far it is; who is cut off in the middle goes on there. On a consistent base it changes nothing. [`carry_out`] waits for
//! it, or does it where nobody else does.

mod foresee;
mod strays;
mod sweep;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgConnection, PgExecutor};
use staging::Seal;
use tokio_util::sync::CancellationToken;

use crate::error::database;
use crate::{Error, Rules, overview, rules, worker};

pub use foresee::{Foreseen, foresee};
pub(crate) use sweep::sweep;

/// By this the marks of rebuilds are known, and what follows from them in `customer360.changes`.
const CAUSE: &str = "rebuild";
/// Rows, or match keys, that are looked at together.
const WINDOW: i64 = 5_000;

/// A rebuild that is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its number.
    pub rebuild_id: i64,
    /// Whether it goes on with one that was cut off.
    pub goes_on: bool,
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Progress {
    /// Rows gone through: participants, cross-references, customers and orders.
    pub done: i64,
    /// How many there were at the beginning, and no fewer than `done`; at the end as many.
    pub total: i64,
    /// Whether all is gone through and profiles have followed.
    pub finished: bool,
}

/// What a rebuild has changed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Changed {
    /// Profiles that are there again, or new.
    pub appeared: i64,
    /// Profiles that are gone.
    pub vanished: i64,
    /// Profiles with other values.
    pub changed: i64,
}

/// Records a rebuild under these rules, or finds the one that was cut off. One under other rules, which was cut off, is
/// given up.
///
/// # Errors
/// [`Error::OtherRules`] if another process consolidates, under other rules: it would make profiles by those.
pub async fn record(connection: &mut PgConnection, rules: &Rules, now: DateTime<Utc>) -> Result<Recorded, Error> {
    let fingerprint = rules.fingerprint();
    if is_refused(connection, rules).await? {
        return Err(Error::OtherRules);
    }
    sqlx::query("delete from customer360.rebuilds where finished_at is null and rules <> $1")
        .bind(&fingerprint)
        .execute(&mut *connection)
        .await
        .map_err(recording())?;
    let open: Option<i64> =
        sqlx::query_scalar("select max(rebuild_id) from customer360.rebuilds where finished_at is null")
            .fetch_one(&mut *connection)
            .await
            .map_err(recording())?;
    if let Some(rebuild_id) = open {
        return Ok(Recorded { rebuild_id, goes_on: true });
    }
    let rebuild_id = sqlx::query_scalar(
        "insert into customer360.rebuilds (rules, made_at, total)
         select $1, $2,
                (select count(*) from customer360.interaction_participants)
                    + (select count(*) from customer360.xrefs where deleted_at is null)
                    + (select count(*) from customer360.customers where deleted_at is null)
                    + (select count(*) from customer360.orders)
         returning rebuild_id",
    )
    .bind(&fingerprint)
    .bind(now)
    .fetch_one(connection)
    .await
    .map_err(recording())?;
    Ok(Recorded { rebuild_id, goes_on: false })
}

/// Whether another process consolidates, under other rules than these, so that [`record`] refuses.
pub async fn is_refused(connection: &mut PgConnection, rules: &Rules) -> Result<bool, Error> {
    Ok(rules::other_rules_are_at_work(&mut *connection, &rules.fingerprint()).await?
        && overview::consolidator_since(connection).await?.is_some())
}

/// How far a rebuild is.
pub async fn progress(executor: impl PgExecutor<'_>, rebuild_id: i64) -> Result<Progress, Error> {
    let progress = sqlx::query_as(
        "select done, total, finished_at is not null as finished from customer360.rebuilds where rebuild_id = $1",
    )
    .bind(rebuild_id)
    .fetch_optional(executor)
    .await
    .map_err(database("looking how far a rebuild is"))?;
    // One that is gone was given up for another one, under other rules.
    progress.ok_or(Error::OtherRules)
}

/// What a rebuild has changed, since it was first recorded.
pub async fn changed(executor: impl PgExecutor<'_>, rebuild_id: i64) -> Result<Changed, Error> {
    sqlx::query_as(
        "with made as materialized (
             select made_at from customer360.rebuilds where rebuild_id = $1
         ),
         -- what was before the first entry of each customer, and is behind the last: on the way a profile may come and go
         customers as materialized (
             select c.customer_id,
                    (array_agg(c.attribute is null and c.old is null order by c.change_id))[1] as begins,
                    (array_agg(c.attribute is null and c.new is null order by c.change_id desc))[1] as ends
             from customer360.changes c
             cross join made m
             where c.cause = $2 and c.at >= m.made_at
             group by c.customer_id
         )
         select count(*) filter (where begins and not ends) as appeared,
                count(*) filter (where ends and not begins) as vanished,
                count(*) filter (where not begins and not ends) as changed
         from customers",
    )
    .bind(rebuild_id)
    .bind(CAUSE)
    .fetch_one(executor)
    .await
    .map_err(database("counting what a rebuild has changed"))
}

/// Waits until a recorded rebuild is done, and consolidates meanwhile if nobody else does. `tell` hears how far it is.
/// Cancelled, it returns how far it came: whoever consolidates next goes on from there.
pub async fn carry_out(
    rules: &Rules,
    seal: &Seal,
    options: &PgConnectOptions,
    rebuild_id: i64,
    tell: &mut (dyn FnMut(&Progress) + Send),
    cancel: &CancellationToken,
) -> Result<Progress, Error> {
    let look = async |looker: &mut PgConnection| progress(looker, rebuild_id).await;
    worker::until_done(rules, seal, options, look, |progress| progress.finished, tell, cancel).await
}

fn part_of(key: &[String], part: usize) -> &str {
    key.get(part).map_or("", String::as_str)
}

fn recording() -> impl FnOnce(sqlx::Error) -> Error {
    database("recording a rebuild")
}
