//! The consolidator: one at work per database, woken by notification and by a timer.

use std::time::Duration;

use chrono::Utc;
use model::MatchKey;
use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use staging::{LANDED_CHANNEL, Seal};
use tokio_util::sync::CancellationToken;

use crate::error::database;
use crate::{Consolidator, Drained, Error, Rules, dirty, metrics, redirects, retire, rules};

/// How often a process that stands by asks whether it may take over, and one at work looks without being woken.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often whoever waits for something is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Known emails that are looked up together when a source is polled for the first time.
const OFFER_KEYS: i64 = 10_000;

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
            Consolidator::connect(database).await
        });
        let mut consolidator = match connected.await {
            Ok(consolidator) => consolidator,
            Err(staging::Error::Cancelled) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Err(error) = work(&mut consolidator, &mut listener, rules, seal, database, cancel).await {
            ::metrics::counter!(metrics::FAILURES).increment(1);
            tracing::warn!(%error, "consolidating failed, trying again");
            pause(cancel, LOOK_EVERY).await;
        }
        ::metrics::gauge!(metrics::CONSOLIDATOR_ACTIVE).set(0.0);
    }
    Ok(())
}

/// Stands by, then works as long as the connections hold.
async fn work(
    consolidator: &mut Consolidator,
    listener: &mut Option<PgListener>,
    rules: &Rules,
    seal: &Seal,
    database: &PgConnectOptions,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    while !consolidator.try_begin().await? {
        pause(cancel, LOOK_EVERY).await;
        if cancel.is_cancelled() {
            return Ok(());
        }
    }
    ::metrics::gauge!(metrics::CONSOLIDATOR_ACTIVE).set(1.0);
    // So that the first one is a rise.
    for counter in [metrics::PROFILES_REFUSED, metrics::FAILURES] {
        ::metrics::counter!(counter).increment(0);
    }
    tracing::info!("this process consolidates");
    begin(consolidator, rules).await?;
    let warning = async { rules::warn(&mut *consolidator.connection().await, rules).await };
    consolidator.unless_lost(warning).await?;
    offer_known_keys(consolidator, rules).await?;
    while !cancel.is_cancelled() {
        // Listening comes before looking, so that nothing can land unnoticed in between.
        if listener.is_none() {
            *listener = listen(database).await;
        }
        consolidator.drain(rules, seal, cancel).await?;
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

/// Consolidates what is there now, with or without a daemon beside: takes the lock if it is free, and otherwise waits until
/// whoever has it is done. What lands meanwhile keeps nobody waiting: a source that never rests always has something left.
pub async fn catch_up(
    rules: &Rules,
    seal: &Seal,
    database: &PgConnectOptions,
    cancel: &CancellationToken,
) -> Result<Drained, Error> {
    let mut consolidator = Consolidator::connect(database).await?;
    let warning = async { rules::warn(&mut *consolidator.connection().await, rules).await };
    consolidator.unless_lost(warning).await?;
    // Where somebody is at work, they have been offered.
    if consolidator.try_begin().await? {
        offer_known_keys(&consolidator, rules).await?;
    }
    catch_up_with(&mut consolidator, rules, seal, cancel).await
}

async fn catch_up_with(
    consolidator: &mut Consolidator,
    rules: &Rules,
    seal: &Seal,
    cancel: &CancellationToken,
) -> Result<Drained, Error> {
    let setting = async { Goal::of_now(&mut *consolidator.connection().await).await };
    let mut goal = consolidator.unless_lost(setting).await?;
    let mut drained = Drained::default();
    while !cancel.is_cancelled() {
        if consolidator.try_begin().await? {
            begin(consolidator, rules).await?;
            while !cancel.is_cancelled()
                && consolidator.turn(rules, seal, cancel, &mut drained).await?
                && !goal.is_reached(consolidator).await?
            {}
            break;
        }
        if goal.is_reached(consolidator).await? {
            break;
        }
        pause(cancel, Duration::from_millis(100)).await;
    }
    Ok(drained)
}

/// Waits until something that is recorded is carried out, and consolidates meanwhile if nobody else does. `look` says how far
/// it is, and `tell` hears it. Cancelled, it returns how far it came: whoever consolidates next goes on from there.
pub(crate) async fn until_done<P>(
    rules: &Rules,
    seal: &Seal,
    database: &PgConnectOptions,
    look: impl AsyncFn(&mut PgConnection) -> Result<P, Error>,
    is_done: impl Fn(&P) -> bool,
    tell: &mut (dyn FnMut(&P) + Send),
    cancel: &CancellationToken,
) -> Result<P, Error> {
    let mut looker = staging::connect(database).await?;
    let stop = cancel.child_token();
    let working = async {
        // Beside a busy consolidator there is always something left for it, and it ends only when it is told to.
        while !stop.is_cancelled() {
            let mut consolidator = Consolidator::connect(database).await?;
            catch_up_with(&mut consolidator, rules, seal, &stop).await?;
            drop(consolidator);
            pause(&stop, TELL_EVERY).await;
        }
        Ok(())
    };
    let looking = async {
        loop {
            let progress = look(&mut looker).await?;
            tell(&progress);
            if is_done(&progress) || cancel.is_cancelled() {
                // What it is in the middle of ends first.
                stop.cancel();
                return Ok(progress);
            }
            pause(cancel, TELL_EVERY).await;
        }
    };
    tokio::try_join!(working, looking).map(|((), progress)| progress)
}

/// Folds what is marked now, or waits until whoever consolidates has done so. Records that wait are left to others. False
/// when it was cancelled first.
pub(crate) async fn settle(
    rules: &Rules,
    database: &PgConnectOptions,
    cancel: &CancellationToken,
) -> Result<bool, Error> {
    let mut consolidator = Consolidator::connect(database).await?;
    // Folding marks once more what a decision has sent elsewhere, and that is done only when this is folded, too.
    for _ in 0..2 {
        let newest = async { dirty::newest(&mut *consolidator.connection().await).await };
        let mark = consolidator.unless_lost(newest).await?;
        while consolidator.unless_lost(is_left(&consolidator, mark)).await? {
            if cancel.is_cancelled() {
                return Ok(false);
            }
            if consolidator.try_begin().await? {
                begin(&consolidator, rules).await?;
                consolidator.fold_marked(rules, cancel).await?;
            } else {
                pause(cancel, Duration::from_millis(100)).await;
            }
        }
    }
    Ok(true)
}

/// What the one at work does first.
async fn begin(consolidator: &Consolidator, rules: &Rules) -> Result<(), Error> {
    let beginning = async {
        let mut connection = consolidator.connection().await;
        redirects::catch_up(&mut connection).await?;
        rules::note(&mut connection, rules).await
    };
    consolidator.unless_lost(beginning).await
}

async fn is_left(consolidator: &Consolidator, mark: i64) -> Result<bool, Error> {
    dirty::is_left(&mut *consolidator.connection().await, mark).await
}

/// What has to be done before whoever waits has caught up.
#[derive(Debug)]
pub struct Goal {
    /// All batches up to this one.
    batch: i64,
    /// And then all marks up to this one, which is the newest when those batches are merged.
    mark: Option<i64>,
}

impl Goal {
    /// That everything is in the profiles that has landed by now.
    pub async fn of_now(connection: &mut PgConnection) -> Result<Self, Error> {
        Ok(Self { batch: staging::newest(connection).await?, mark: None })
    }

    async fn is_reached(&mut self, consolidator: &Consolidator) -> Result<bool, Error> {
        let looking = async { self.look(&mut *consolidator.connection().await).await };
        consolidator.unless_lost(looking).await
    }

    /// Whether it is reached.
    pub async fn look(&mut self, connection: &mut PgConnection) -> Result<bool, Error> {
        if staging::is_left(&mut *connection, self.batch).await? || !retire::open(&mut *connection).await?.is_empty() {
            return Ok(false);
        }
        let mark = match self.mark {
            Some(mark) => mark,
            None => *self.mark.insert(dirty::newest(&mut *connection).await?),
        };
        Ok(!dirty::is_left(connection, mark).await?)
    }
}

/// A source that is polled for the first time, or again after a pause, is offered the emails that became known without it:
/// their keys are marked, and the fold does the rest.
async fn offer_known_keys(consolidator: &Consolidator, rules: &Rules) -> Result<(), Error> {
    if rules.polled_sources.is_empty() {
        return Ok(());
    }
    let offering = async { offer_known_keys_on(&mut *consolidator.connection().await, rules).await };
    consolidator.unless_lost(offering).await
}

async fn offer_known_keys_on(connection: &mut PgConnection, rules: &Rules) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let keys: Vec<String> = sqlx::query_scalar(
            "select distinct match_key from customer360.xrefs
             where match_key > $1 and deleted_at is null order by match_key limit $2",
        )
        .bind(&after)
        .bind(OFFER_KEYS)
        .fetch_all(&mut *connection)
        .await
        .map_err(database("looking for known emails"))?;
        let Some(last) = keys.last() else { return Ok(()) };
        after.clone_from(last);
        let emails: Vec<MatchKey> = keys.into_iter().map(MatchKey::from_stored).filter(|key| !key.is_split()).collect();
        let emails: Vec<&str> = emails.iter().map(MatchKey::as_str).collect();
        let new = staging::polls::not_offered(&mut *connection, &rules.polled_sources, &emails).await?;
        let new: Vec<&str> = new.iter().map(String::as_str).collect();
        dirty::mark(connection, &new, "poll", Utc::now()).await?;
    }
}

/// `None` when listening does not work now; the timer does without.
async fn listen(database: &PgConnectOptions) -> Option<PgListener> {
    let session = staging::session(database).application_name("c360 listen");
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(session);
    let mut listener = PgListener::connect_with(&pool).await.ok()?;
    listener.listen(LANDED_CHANNEL).await.ok()?;
    Some(listener)
}

pub(crate) async fn pause(cancel: &CancellationToken, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = cancel.cancelled() => {}
    }
}
