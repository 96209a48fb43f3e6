//! The consolidator: one at work per database, woken by notification and by a timer.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use staging::{ClaimedBatch, LANDED_CHANNEL, Seal};
use tokio_util::sync::CancellationToken;

use crate::error::database;
use crate::exclude::exclude_refused;
use crate::fold::fold;
use crate::merge::{Merged, merge};
use crate::{Error, Rules, metrics, migrate};

/// Records that one claim takes.
const CLAIM_RECORDS: i64 = 20_000;
/// Under a backlog, step 1 goes on this long before step 2 has its turn: each profile is folded less often.
const MERGE_FOR: Duration = Duration::from_secs(30);
/// How often a process that stands by asks whether it may take over, and one at work looks without being woken.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What there was to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Batches merged.
    pub batches: usize,
    /// Records read from them.
    pub records: usize,
    /// Records that are dead letters now.
    pub excluded: usize,
    /// Profiles written.
    pub profiles: usize,
}

/// Consolidates until `cancel`: as the one at work, or standing by to take over. Database outages are waited out.
pub async fn run(
    rules: &Rules,
    seal: &Seal,
    database: &PgConnectOptions,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let mut listener = None;
    while !cancel.is_cancelled() {
        let connected = staging::persist(cancel, "consolidating: connecting to the database", async || {
            staging::connect(database).await
        });
        let mut connection = match connected.await {
            Ok(connection) => connection,
            Err(staging::Error::Cancelled) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Err(error) = work(&mut connection, &mut listener, rules, seal, database, cancel).await {
            ::metrics::counter!(metrics::FAILURES).increment(1);
            tracing::warn!(%error, "consolidating failed, trying again");
            pause(cancel, LOOK_EVERY).await;
        }
        ::metrics::gauge!(metrics::CONSOLIDATOR_ACTIVE).set(0.0);
    }
    Ok(())
}

/// Works as long as the connection holds. The lock belongs to the connection, so it is free when this process dies.
async fn work(
    connection: &mut PgConnection,
    listener: &mut Option<PgListener>,
    rules: &Rules,
    seal: &Seal,
    database: &PgConnectOptions,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    while !try_lock(connection).await? {
        pause(cancel, LOOK_EVERY).await;
        if cancel.is_cancelled() {
            return Ok(());
        }
    }
    ::metrics::gauge!(metrics::CONSOLIDATOR_ACTIVE).set(1.0);
    tracing::info!("this process consolidates");
    offer_known_keys(connection, rules).await?;
    while !cancel.is_cancelled() {
        // Listening comes before looking, so that nothing can land unnoticed in between.
        if listener.is_none() {
            *listener = listen(database).await;
        }
        drain(connection, rules, seal, cancel).await?;
        let woken = async {
            match listener.as_mut() {
                Some(listener) => listener.recv().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            alive = woken => if !alive { *listener = None },
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = cancel.cancelled() => {}
        }
    }
    Ok(())
}

/// Consolidates until nothing is left, with or without a daemon beside: takes the lock if it is free, and otherwise waits
/// until whoever has it is done.
pub async fn catch_up(
    rules: &Rules,
    seal: &Seal,
    database: &PgConnectOptions,
    cancel: &CancellationToken,
) -> Result<Drained, Error> {
    let mut connection = staging::connect(database).await?;
    let mut drained = Drained::default();
    while !cancel.is_cancelled() {
        if try_lock(&mut connection).await? {
            offer_known_keys(&mut connection, rules).await?;
            drained = drain(&mut connection, rules, seal, cancel).await?;
            break;
        }
        if nothing_left(&mut connection).await? {
            break;
        }
        pause(cancel, Duration::from_millis(100)).await;
    }
    Ok(drained)
}

/// Runs both steps until nothing is left. The caller holds the consolidator's lock on this connection.
pub async fn drain(
    connection: &mut PgConnection,
    rules: &Rules,
    seal: &Seal,
    cancel: &CancellationToken,
) -> Result<Drained, Error> {
    let mut drained = Drained::default();
    migrate::ensure_change_partitions(connection, Utc::now()).await?;
    while !cancel.is_cancelled() {
        let before = drained;
        let started = Instant::now();
        loop {
            let batches = staging::claim(&mut *connection, CLAIM_RECORDS).await?;
            let batches = up_to_a_completed_file(&batches);
            if batches.is_empty() {
                break;
            }
            let merged = merge_or_exclude(connection, rules, seal, batches, Utc::now()).await?;
            drained.batches += merged.batches;
            drained.records += merged.records;
            drained.excluded += merged.excluded;
            if started.elapsed() > MERGE_FOR || cancel.is_cancelled() {
                break;
            }
        }
        loop {
            let folded = fold(connection, rules, cancel).await?;
            drained.profiles += folded.profiles;
            if folded.keys == 0 || cancel.is_cancelled() {
                break;
            }
        }
        if drained == before {
            break;
        }
    }
    Ok(drained)
}

/// A merge ends with the batch that completes a full export: who is missing from it is looked up in the table, which must
/// hold everything that came before.
fn up_to_a_completed_file(batches: &[ClaimedBatch]) -> &[ClaimedBatch] {
    let completes = |batch: &ClaimedBatch| batch.import.as_ref().is_some_and(|import| import.completes);
    batches.iter().position(completes).map_or(batches, |last| &batches[..=last])
}

/// Merges batches together; if the database refuses data, one by one, and of a batch that it refuses all but the culprits.
async fn merge_or_exclude(
    connection: &mut PgConnection,
    rules: &Rules,
    seal: &Seal,
    batches: &[ClaimedBatch],
    now: DateTime<Utc>,
) -> Result<Merged, Error> {
    let error = match merge(connection, rules, seal, batches, now).await {
        Err(error) if error.is_data() => error,
        outcome => return outcome,
    };
    let mut total = Merged::default();
    for batch in batches {
        let alone = std::slice::from_ref(batch);
        staging::fail(&mut *connection, &[batch.batch_id], &error.to_string()).await?;
        let merged = match merge(connection, rules, seal, alone, now).await {
            Err(error) if error.is_data() => {
                total.excluded += exclude_refused(connection, rules, seal, batch, now).await?;
                merge(connection, rules, seal, alone, now).await?
            }
            outcome => outcome?,
        };
        total.batches += merged.batches;
        total.records += merged.records;
        total.excluded += merged.excluded;
    }
    Ok(total)
}

/// A source that is polled for the first time, or again after a pause, is offered the emails that became known without it:
/// their keys are marked, and the fold does the rest.
async fn offer_known_keys(connection: &mut PgConnection, rules: &Rules) -> Result<(), Error> {
    if rules.polled_sources.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "with keys as materialized (
             -- a split key is no email to ask about
             select distinct match_key from customer360.xrefs
             where match_key is not null and deleted_at is null and match_key not like '#%'
         ),
         offered as materialized (
             -- to how many of the sources
             select match_key, count(*) as sources from staging.polls where source = any ($1) group by match_key
         )
         insert into customer360.dirty_marks (match_keys, cause, marked_at)
         select array_agg(match_key), 'poll', now()
         from (
             select k.match_key, row_number() over () / 10000 as part
             from keys k
             left join offered o on o.match_key = k.match_key
             where coalesce(o.sources, 0) < cardinality($1::text[])
         ) missing
         group by part",
    )
    .bind(&rules.polled_sources)
    .execute(connection)
    .await
    .map_err(database("offering known emails to a new source"))?;
    Ok(())
}

async fn nothing_left(connection: &mut PgConnection) -> Result<bool, Error> {
    if !staging::claim(&mut *connection, 1).await?.is_empty() {
        return Ok(false);
    }
    sqlx::query_scalar("select count(*) = 0 from customer360.dirty_marks")
        .fetch_one(connection)
        .await
        .map_err(database("looking for marked match keys"))
}

pub(crate) async fn try_lock(connection: &mut PgConnection) -> Result<bool, Error> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtext('c360.consolidator'))")
        .fetch_one(connection)
        .await
        .map_err(database("asking for the consolidator's lock"))
}

/// `None` when listening does not work now; the timer does without.
async fn listen(database: &PgConnectOptions) -> Option<PgListener> {
    let pool =
        PgPoolOptions::new().max_connections(1).connect_lazy_with(database.clone().application_name("c360 listen"));
    let mut listener = PgListener::connect_with(&pool).await.ok()?;
    listener.listen(LANDED_CHANNEL).await.ok()?;
    Some(listener)
}

async fn pause(cancel: &CancellationToken, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = cancel.cancelled() => {}
    }
}
