//! The two ways to poll, and to send what waits: for ever, and until nothing is due.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Connection, PgPool};
use staging::health::{self, Speaker};
use staging::outbox::OUTBOX_CHANNEL;
use staging::polls::{OFFERED_CHANNEL, Refreshed};
use staging::{Lander, lists, polls};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

use crate::ask::Asker;
use crate::breaker::BreakerState;
use crate::land::Landings;
use crate::pipeline::{LEASE, Pipeline, Until};
use crate::{Error, Settings, metrics, outbox};

/// How often health is said when nothing changes.
const HEALTH_EVERY: Duration = Duration::from_secs(5);
/// How long a landing that is under way may take after we were asked to stop.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often `run --once` looks whether others have answered what they hold.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What [`poll_due`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Customers asked about.
    pub asked: u64,
    /// Of these, those that the source knows under the email asked by.
    pub known: u64,
    /// Of these, those that it does not know.
    pub unknown: u64,
    /// Customers and products that have to be asked about again soon.
    pub failing: u64,
    /// Of a [`refresh`], customers that other processes asked about: they share the work.
    pub asked_elsewhere: u64,
    /// Customers and lists that another process has taken and not answered in time: it may have stopped.
    pub held: u64,
    /// Lists read, to their end or not.
    pub lists: u64,
    /// Pages of lists landed.
    pub pages: u64,
    /// Lists that could not be read to their end.
    pub lists_failed: u64,
    /// Products asked about.
    pub products: u64,
    /// Records landed.
    pub records: u64,
    /// Dead letters parked.
    pub dead_letters: u64,
    /// Requests made, retries included.
    pub requests: u64,
    /// Whether the source gave a single answer that could be used; a customer it does not know is one.
    pub reached: bool,
    /// The breaker at the end.
    pub breaker: BreakerState,
}

impl Summary {
    /// Whether the source has failed: its breaker is open, a list could not be read to its end, or no request succeeded
    /// though some were made.
    pub fn has_failed(&self) -> bool {
        self.breaker != BreakerState::Closed || self.lists_failed > 0 || (self.requests > 0 && !self.reached)
    }

    /// Adds what was done beside it.
    pub(crate) fn add(&mut self, other: &Self) {
        self.held += other.held;
        self.lists += other.lists;
        self.pages += other.pages;
        self.lists_failed += other.lists_failed;
        self.records += other.records;
        self.dead_letters += other.dead_letters;
        self.reached |= other.reached;
    }
}

/// Polls and sends edits until `cancel`: new ones at once, all others when they are due. Returns an error only for settings that cannot
/// work and for defects of the database; outages of the source or of the database are waited out.
pub async fn run(
    settings: Settings,
    database: PgConnectOptions,
    mut lander: Lander,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let pool = pool(&database);
    let asker = Asker::new(settings, pool.clone(), true)?;
    let (wake, wake_sender) = (Notify::new(), Notify::new());
    // A landing that is under way may finish, within limits, when everything else has stopped.
    let patience = CancellationToken::new();
    let fellow = lander.another();
    let lists =
        crate::lists::run(&asker, &fellow, &pool, &wake, crate::lists::Ends { cancel: &cancel, patience: &patience });
    let mut landings = landings(&asker, &mut lander, &pool, &patience);
    let pipeline =
        Pipeline { asker: &asker, database: &pool, wake: &wake, cancel: &cancel, until: Until::Cancelled, only: None };
    let sending = outbox::run(&asker, &pool, &wake_sender, &cancel);
    let work = futures::future::try_join3(pipeline.run(&mut landings), lists, sending);
    let stopping = async {
        cancel.cancelled().await;
        sleep(PATIENCE).await;
        patience.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = work => match outcome {
            Err(error) if error.is_cancelled() => {}
            outcome => {
                outcome?;
            }
        },
        () = listen(&pool, &wake, &wake_sender, &cancel) => {}
        () = watch(&asker, &pool) => {}
        () = stopping => {}
    }
    Ok(())
}

/// Sends the edits that are due, asks about all that is due now and what comes up by that, then returns; for `run --once`. What another process holds is
/// waited for: it lands its answers, or it is dead and its leases run out. Does not wait for a source whose breaker opens.
pub async fn poll_due(
    settings: Settings,
    database: PgConnectOptions,
    lander: &mut Lander,
    cancel: CancellationToken,
) -> Result<Summary, Error> {
    let pool = pool(&database);
    let asker = Asker::new(settings, pool.clone(), false)?;
    let has_answered = outbox::send_due(&asker, &pool, &cancel).await?;
    let mut summary = ask_due(&asker, &pool, lander, None, &cancel).await?;
    summary.reached |= has_answered;
    Ok(summary)
}

/// Asks now, due or not: about the one customer of this match key, or about everybody and everything, lists from their
/// beginning. `None` when the source is asked about nobody of this match key.
pub async fn refresh(
    settings: Settings,
    database: PgConnectOptions,
    lander: &mut Lander,
    match_key: Option<&str>,
    cancel: CancellationToken,
) -> Result<Option<Summary>, Error> {
    let pool = pool(&database);
    let asker = Asker::new(settings, pool.clone(), false)?;
    let (source, now) = (&asker.settings.source, Utc::now());
    let refreshed = polls::refresh(&pool, source, match_key, now).await?;
    match match_key {
        Some(_) if refreshed == 0 => return Ok(None),
        Some(_) => {}
        None => {
            lists::refresh(&pool, source, now).await?;
        }
    }
    let refreshed = Refreshed { match_key, since: now };
    let mut summary = ask_due(&asker, &pool, lander, Some(refreshed), &cancel).await?;
    let by_all = staging::in_time("counting polls", polls::asked(&pool, source, refreshed)).await?;
    summary.asked_elsewhere = u64::try_from(by_all).unwrap_or_default().saturating_sub(summary.asked);
    Ok(Some(summary))
}

async fn ask_due(
    asker: &Asker,
    pool: &PgPool,
    lander: &mut Lander,
    refreshed: Option<Refreshed<'_>>,
    cancel: &CancellationToken,
) -> Result<Summary, Error> {
    let wake = Notify::new();
    let only = refreshed.and_then(|refreshed| refreshed.match_key);
    // Leases of a process that has stopped run out meanwhile. One customer is asked about before all others: whoever works
    // has the answer sooner.
    let patience = only.map_or(LEASE, |_| asker.settings.timeout * 2);
    let last_look = Instant::now() + patience;
    let lists = match only {
        None => crate::lists::run_once(asker, lander, pool, cancel, last_look).await?,
        Some(_) => Summary::default(),
    };
    let mut landings = landings(asker, lander, pool, cancel);
    let until = Until::Dry { due_at: Utc::now() };
    let (mut held, mut is_told) = (0, false);
    while !cancel.is_cancelled() {
        let pipeline = Pipeline { asker, database: pool, wake: &wake, cancel, until, only };
        // What one round lands can make products due, for the next.
        let done = pipeline.run(&mut landings).await?;
        if done > 0 {
            continue;
        }
        let is_open = asker.requester.gate().state() != BreakerState::Closed;
        held = if is_open { 0 } else { held_elsewhere(asker, pool, refreshed).await? };
        if held == 0 || Instant::now() > last_look {
            break;
        }
        if !std::mem::replace(&mut is_told, true) {
            let source = &asker.settings.source;
            tracing::info!(source, held, patience = ?patience, "another process asks the source: waiting for its answers");
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = cancel.cancelled() => {}
        }
    }
    let mut summary = landings.summary;
    summary.add(&lists);
    summary.held += held;
    say(asker, pool, Speaker::Command).await;
    let gate = asker.requester.gate();
    Ok(Summary { requests: gate.requests(), breaker: gate.state(), ..summary })
}

/// How many of the customers that we wait for another process has.
async fn held_elsewhere(asker: &Asker, pool: &PgPool, refreshed: Option<Refreshed<'_>>) -> Result<u64, Error> {
    let (source, now) = (&asker.settings.source, Utc::now());
    let held = match refreshed {
        Some(refreshed) => staging::in_time("reading leases", polls::unanswered(pool, source, refreshed, now)).await?,
        None => staging::in_time("reading leases", polls::leased_elsewhere(pool, source, now)).await?,
    };
    Ok(u64::try_from(held).unwrap_or_default())
}

fn landings<'a>(
    asker: &'a Asker,
    lander: &'a mut Lander,
    database: &'a PgPool,
    cancel: &'a CancellationToken,
) -> Landings<'a> {
    let (settings, label) = (&asker.settings, asker.label());
    Landings { settings, label, lander, database, cancel, summary: Summary::default() }
}

/// Connections for leasing, listening, the rate and health; landing has its own.
///
/// None of it has to outlive a crash of the database, so none of it waits for the disk: whose lease is forgotten is fenced
/// when it lands, and somebody else asks again.
fn pool(database: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(10))
        // Whoever gave up waiting for a reply drops the connection in the middle of something: it is not waited for either.
        .after_release(|connection, _| {
            Box::pin(async move {
                let waiting = tokio::time::timeout(Duration::from_secs(5), connection.ping());
                waiting.await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))?;
                Ok(true)
            })
        })
        .connect_lazy_with(staging::session(database).options([("synchronous_commit", "off")]))
}

/// Wakes the pipeline when consolidation offers emails, and the sender when there are edits. An outage only costs promptness:
/// both look by themselves.
async fn listen(pool: &PgPool, wake: &Notify, wake_sender: &Notify, cancel: &CancellationToken) {
    let listening = async {
        loop {
            if let Ok(mut listener) = PgListener::connect_with(pool).await
                && listener.listen_all([OFFERED_CHANNEL, OUTBOX_CHANNEL]).await.is_ok()
            {
                wake.notify_one();
                wake_sender.notify_one();
                while let Ok(notification) = listener.recv().await {
                    if notification.channel() == OUTBOX_CHANNEL { wake_sender } else { wake }.notify_one();
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = listening => {}
        () = cancel.cancelled() => std::future::pending().await,
    }
}

/// Keeps health fed: every few seconds, and within one when the breaker changes.
async fn watch(asker: &Asker, pool: &PgPool) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = None;
    loop {
        ticks.tick().await;
        let state = (asker.requester.gate().state(), asker.requester.gate().alarm());
        let is_due =
            said.as_ref().is_none_or(|(at, said): &(Instant, _)| *said != state || at.elapsed() >= HEALTH_EVERY);
        if is_due && say(asker, pool, Speaker::Daemon).await {
            said = Some((Instant::now(), state));
        }
    }
}

/// Says how the source is; false when the database does not listen.
async fn say(asker: &Asker, pool: &PgPool, speaker: Speaker) -> bool {
    let (source, gate) = (&asker.settings.source, asker.requester.gate());
    let saying = async {
        let now = Utc::now();
        let (due, oldest) = polls::due(pool, source, now).await?;
        let lists = lists::overview(pool, now).await?.remove(source.as_str()).unwrap_or_default();
        let oldest = oldest.into_iter().chain(lists.iter().filter_map(|list| list.due_since)).min();
        #[expect(clippy::cast_precision_loss, reason = "seconds of waiting")]
        let oldest_seconds = oldest.map_or(0.0, |oldest| (now - oldest).num_milliseconds() as f64 / 1000.0);
        metrics::due(source, oldest_seconds);
        let words = json!({
            "breaker": gate.state().as_str(),
            "stopped": gate.alarm().into_iter().collect::<Vec<_>>(),
            "trouble": asker.lists.trouble(),
            "polls_due": due,
            "oldest_unlanded_seconds": oldest_seconds,
        });
        health::report(pool, source, speaker, &words, now).await
    };
    match tokio::time::timeout(Duration::from_secs(5), saying).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(source = source.as_str(), %error, "health is not said");
            false
        }
        Err(_) => false,
    }
}
