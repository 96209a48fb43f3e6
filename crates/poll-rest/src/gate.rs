//! The gate that every request passes: the rate, the pauses that the source asks for, and the breaker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::breaker::{Admission, Breaker, BreakerState};
use crate::error::Failure;
use crate::pace::Pace;
use crate::{Settings, metrics};

/// Paces the requests of one source.
pub(crate) struct Gate {
    source: String,
    pace: Pace,
    breaker: Mutex<Breaker>,
    /// Wakes those who wait for the outcome of a probe.
    changed: Notify,
    /// Whether requests wait while the breaker is open, or are refused.
    waits: bool,
    requests: AtomicU64,
}

impl Gate {
    pub(crate) fn new(settings: &Settings, database: PgPool, waits: bool) -> Self {
        let breaker = Breaker::new(settings.breaker_failures, settings.breaker_cooldown, settings.timeout * 2);
        Self {
            source: settings.source.clone(),
            pace: Pace::new(settings, database),
            breaker: Mutex::new(breaker),
            changed: Notify::new(),
            waits,
            requests: AtomicU64::new(0),
        }
    }

    /// Waits until a request may be made. Its outcome must be said to [`Gate::note`].
    pub(crate) async fn enter(&self) -> Result<(), Failure> {
        self.pace.turn().await;
        loop {
            // Registered before looking, so that no change is missed in between.
            let changed = self.changed.notified();
            let admission = lock(&self.breaker).admit(Instant::now());
            match admission {
                Admission::Go => break,
                Admission::Wait(_) if !self.waits => return Err(Failure::NotAsked),
                Admission::Wait(until) => {
                    tokio::select! {
                        () = sleep_until(until) => {}
                        () = changed => {}
                    }
                }
            }
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.show();
        Ok(())
    }

    /// Waits for another turn within a request that was let through.
    pub(crate) async fn turn(&self) {
        self.pace.turn().await;
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the outcome of a request. `None` is an answer.
    pub(crate) async fn note(&self, failure: Option<&Failure>) {
        self.judge(failure);
        if let Some(pause) = failure.and_then(Failure::retry_after) {
            self.pace.pause(pause).await;
        }
    }

    fn judge(&self, failure: Option<&Failure>) {
        let now = Instant::now();
        match failure {
            None => lock(&self.breaker).succeeded(),
            // The source is there, it only does not like this question, or we its answer.
            Some(failure) if !failure.is_the_sources() => lock(&self.breaker).succeeded(),
            Some(failure) => match failure.refusal() {
                Some(refusal) => {
                    if lock(&self.breaker).refused(refusal, now) {
                        tracing::error!(source = self.source, "{refusal}: polling stops");
                    }
                }
                None => {
                    if lock(&self.breaker).failed(now) {
                        tracing::warn!(source = self.source, %failure, "the source keeps failing: polling rests");
                    }
                }
            },
        }
        self.changed.notify_waiters();
        self.show();
    }

    /// How many requests were let through.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn state(&self) -> BreakerState {
        lock(&self.breaker).state()
    }

    /// What an operator has to do something about; the words of `stopped` in health.
    pub(crate) fn alarm(&self) -> Option<String> {
        lock(&self.breaker).refusal().map(|refusal| refusal.to_string())
    }

    fn show(&self) {
        metrics::breaker(&self.source, self.state());
    }
}

/// Nothing that holds these locks panics half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
