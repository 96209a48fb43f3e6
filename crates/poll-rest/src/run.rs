//! The two ways to poll: for ever, and until nothing is due.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};
use staging::polls::OFFERED_CHANNEL;
use staging::{Lander, health, polls};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

use crate::ask::Asker;
use crate::breaker::BreakerState;
use crate::land::Landings;
use crate::pipeline::{LEASE, Pipeline, Until};
use crate::{Error, Settings, metrics};

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
    /// Whether the source has failed: its breaker is open, or no request succeeded though some were made.
    pub fn has_failed(&self) -> bool {
        self.breaker != BreakerState::Closed || (self.requests > 0 && !self.reached)
    }
}

/// Polls until `cancel`: new emails at once, all others when they are due. Returns an error only for settings that cannot
/// work and for defects of the database; outages of the source or of the database are waited out.
pub async fn run(
    settings: Settings,
    database: PgConnectOptions,
    mut lander: Lander,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let asker = Asker::new(settings, true)?;
    let pool = pool(database);
    let wake = Notify::new();
    // A landing that is under way may finish, within limits, when everything else has stopped.
    let patience = CancellationToken::new();
    let mut landings = landings(&asker, &mut lander, &pool, &patience);
    let pipeline = Pipeline { asker: &asker, database: &pool, wake: &wake, cancel: &cancel, until: Until::Cancelled };
    let stopping = async {
        cancel.cancelled().await;
        sleep(PATIENCE).await;
        patience.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = pipeline.run(&mut landings) => match outcome {
            Err(error) if error.is_cancelled() => {}
            outcome => {
                outcome?;
            }
        },
        () = listen(&pool, &wake, &cancel) => {}
        () = watch(&asker, &pool) => {}
        () = stopping => {}
    }
    Ok(())
}

/// Asks about all that is due now and what comes up by that, then returns; for `run --once`. Polls that another process
/// holds are waited for: it lands their answers, or it is dead and its leases run out. Does not wait for a source whose
/// breaker opens.
pub async fn poll_due(
    settings: Settings,
    database: PgConnectOptions,
    lander: &mut Lander,
    cancel: CancellationToken,
) -> Result<Summary, Error> {
    let asker = Asker::new(settings, false)?;
    let pool = pool(database);
    let wake = Notify::new();
    let mut landings = landings(&asker, lander, &pool, &cancel);
    let last_look = Instant::now() + LEASE;
    let until = Until::Dry { due_at: Utc::now() };
    while !cancel.is_cancelled() {
        let pipeline = Pipeline { asker: &asker, database: &pool, wake: &wake, cancel: &cancel, until };
        // What one round lands can make products due, for the next.
        let done = pipeline.run(&mut landings).await?;
        if done > 0 {
            continue;
        }
        let is_open = asker.requester.gate().state() != BreakerState::Closed;
        if is_open || Instant::now() > last_look || !held_elsewhere(&asker, &pool).await? {
            break;
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = cancel.cancelled() => {}
        }
    }
    let summary = landings.summary;
    say(&asker, &pool).await;
    let gate = asker.requester.gate();
    Ok(Summary { requests: gate.requests(), breaker: gate.state(), ..summary })
}

async fn held_elsewhere(asker: &Asker, pool: &PgPool) -> Result<bool, Error> {
    Ok(polls::leased_elsewhere(pool, &asker.settings.source, Utc::now()).await? > 0)
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

/// Connections for leasing, listening and health; landing has its own.
fn pool(database: PgConnectOptions) -> PgPool {
    let options = database.application_name("c360").log_statements(tracing::log::LevelFilter::Off);
    PgPoolOptions::new().max_connections(3).acquire_timeout(Duration::from_secs(10)).connect_lazy_with(options)
}

/// Wakes the pipeline when consolidation offers emails. An outage only costs promptness: the pipeline looks by itself.
async fn listen(pool: &PgPool, wake: &Notify, cancel: &CancellationToken) {
    let listening = async {
        loop {
            if let Ok(mut listener) = PgListener::connect_with(pool).await
                && listener.listen(OFFERED_CHANNEL).await.is_ok()
            {
                wake.notify_one();
                while listener.recv().await.is_ok() {
                    wake.notify_one();
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
        if is_due && say(asker, pool).await {
            said = Some((Instant::now(), state));
        }
    }
}

/// Says how the source is; false when the database does not listen.
async fn say(asker: &Asker, pool: &PgPool) -> bool {
    let (source, gate) = (&asker.settings.source, asker.requester.gate());
    let saying = async {
        let now = Utc::now();
        let (due, oldest) = polls::due(pool, source, now).await?;
        #[expect(clippy::cast_precision_loss, reason = "seconds of waiting")]
        let oldest_seconds = oldest.map_or(0.0, |oldest| (now - oldest).num_milliseconds() as f64 / 1000.0);
        metrics::due(source, oldest_seconds);
        let words = json!({
            "breaker": gate.state().as_str(),
            "stopped": gate.alarm().into_iter().collect::<Vec<_>>(),
            "polls_due": due,
            "oldest_unlanded_seconds": oldest_seconds,
        });
        health::report(pool, source, &words, now).await
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
