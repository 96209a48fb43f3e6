//! The gate that every request passes: the rate, the pauses that the source asks for, and the breaker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::breaker::{Admission, Breaker, BreakerState};
use crate::error::Failure;
use crate::{Settings, metrics};

/// Paces the requests of one source.
pub(crate) struct Gate {
    source: String,
    bucket: Mutex<Bucket>,
    breaker: Mutex<Breaker>,
    /// Wakes those who wait for the outcome of a probe.
    changed: Notify,
    /// Whether requests wait while the breaker is open, or are refused.
    waits: bool,
    requests: AtomicU64,
}

/// A token bucket in the form that needs no refilling: when the next request is due if all were evenly spaced.
struct Bucket {
    interval: Duration,
    /// How far requests may run ahead of even spacing.
    burst: Duration,
    next: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> Instant {
        let earliest = now.checked_sub(self.burst).unwrap_or(now);
        let at = self.next.max(earliest);
        self.next = at + self.interval;
        at
    }
}

impl Gate {
    pub(crate) fn new(settings: &Settings, waits: bool) -> Self {
        let interval = Duration::from_secs_f64(1.0 / settings.requests_per_second);
        let burst = interval
            .saturating_mul(u32::try_from(settings.concurrency).unwrap_or(u32::MAX))
            .min(Duration::from_secs(1));
        let breaker = Breaker::new(settings.breaker_failures, settings.breaker_cooldown, settings.timeout * 2);
        Self {
            source: settings.source.clone(),
            bucket: Mutex::new(Bucket { interval, burst, next: Instant::now() }),
            breaker: Mutex::new(breaker),
            changed: Notify::new(),
            waits,
            requests: AtomicU64::new(0),
        }
    }

    /// Waits until a request may be made. Its outcome must be said to [`Gate::note`].
    pub(crate) async fn enter(&self) -> Result<(), Failure> {
        let turn = lock(&self.bucket).take(Instant::now());
        sleep_until(turn).await;
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

    /// Takes the outcome of a request. `None` is an answer.
    pub(crate) fn note(&self, failure: Option<&Failure>) {
        let now = Instant::now();
        match failure {
            None => lock(&self.breaker).succeeded(),
            // The source is there, it only does not like this question, or we its answer.
            Some(failure) if !failure.is_the_sources() => lock(&self.breaker).succeeded(),
            Some(Failure::Refused(status)) => {
                if lock(&self.breaker).refused(*status, now) {
                    tracing::error!(source = self.source, status, "the source refuses our credentials: polling stops");
                }
            }
            Some(failure) => {
                if lock(&self.breaker).failed(now) {
                    tracing::warn!(source = self.source, %failure, "the source keeps failing: polling rests");
                }
            }
        }
        if let Some(pause) = failure.and_then(Failure::retry_after) {
            let mut bucket = lock(&self.bucket);
            bucket.next = bucket.next.max(now + pause);
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
        let status = lock(&self.breaker).refused_with()?;
        Some(format!("the source answers {status}: it refuses our credentials"))
    }

    fn show(&self) {
        metrics::breaker(&self.source, self.state());
    }
}

/// Nothing that holds these locks panics half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_requests_are_evenly_spaced_and_idle_time_saves_up_no_more_than_a_burst() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut bucket = Bucket {
            interval: Duration::from_millis(100),
            burst: Duration::from_millis(300),
            next: start - Duration::from_mins(1),
        };
        let at_once = (0..10).filter(|_| bucket.take(start) <= start).count();
        assert_eq!(at_once, 4);
        assert_eq!(bucket.take(start), start + Duration::from_millis(700));
    }
}
