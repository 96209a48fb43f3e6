//! When requests may be made: the turns of this process, out of those that all processes share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use staging::{Patience, rates};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::Settings;

/// At most the turns of so much time are taken at once: what a process that dies costs the others.
const AT_ONCE: Duration = Duration::from_millis(250);
/// Turns that were not used keep for this long at least, so that a busy machine is late without a loss, and at most.
const SAVED_UP: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Paces the requests of one source. All processes that ask it share one rate through the database.
pub(crate) struct Pace {
    source: String,
    database: PgPool,
    interval: Duration,
    saved_up: Duration,
    /// Locked while more turns are taken: whoever needs one waits for them anyway.
    turns: tokio::sync::Mutex<Turns>,
    /// The source asked us to wait until then.
    not_before: Mutex<Instant>,
}

/// Turns that this process has taken.
struct Turns {
    /// When they were taken. Those that were past by then are as good as one of that moment.
    since: Instant,
    next: Instant,
    left: u32,
    /// How many the last statement took, and how many of them were used.
    taken: u32,
    used: u32,
}

impl Turns {
    /// The next one that is not too old to be used.
    fn pop(&mut self, now: Instant, interval: Duration, saved_up: Duration) -> Option<Instant> {
        while self.left > 0 {
            let at = self.next;
            self.next += interval;
            self.left -= 1;
            if at.max(self.since) + saved_up >= now {
                self.used += 1;
                return Some(at);
            }
        }
        None
    }

    /// How many to take next: twice as many as long as all are used, else as many as were.
    fn wanted(&self, most: u32) -> u32 {
        let wanted = if self.used == self.taken { self.taken.saturating_mul(2) } else { self.used };
        wanted.clamp(1, most)
    }
}

impl Pace {
    pub(crate) fn new(settings: &Settings, database: PgPool) -> Self {
        let interval = Duration::from_secs_f64(1.0 / settings.requests_per_second);
        let burst = interval.saturating_mul(u32::try_from(settings.concurrency).unwrap_or(u32::MAX));
        let now = Instant::now();
        Self {
            source: settings.source.clone(),
            database,
            interval,
            saved_up: burst.clamp(SAVED_UP.0, SAVED_UP.1),
            turns: tokio::sync::Mutex::new(Turns { since: now, next: now, left: 0, taken: 0, used: 0 }),
            not_before: Mutex::new(now),
        }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) {
        loop {
            let at = self.take().await;
            loop {
                let until = at.max(*self.not_before.lock().unwrap_or_else(PoisonError::into_inner));
                if until <= Instant::now() {
                    break;
                }
                sleep_until(until).await;
            }
            // After a pause the turns of its time are gone: the requests that waited are spaced again.
            if at + self.saved_up + AT_ONCE >= Instant::now() {
                return;
            }
        }
    }

    /// Waits for as long as the source asks for, and has the other processes do so.
    pub(crate) async fn pause(&self, pause: Duration) {
        {
            let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
            *not_before = (*not_before).max(Instant::now() + pause);
        }
        let telling = rates::hold(&self.database, &self.source, pause);
        if let Err(error) = staging::in_time("telling others to wait", telling).await {
            // They find out by themselves.
            tracing::debug!(source = self.source, %error, "other processes are not told to wait");
        }
    }

    async fn take(&self) -> Instant {
        let mut turns = self.turns.lock().await;
        loop {
            if let Some(at) = turns.pop(Instant::now(), self.interval, self.saved_up) {
                return at;
            }
            let most = (AT_ONCE.as_secs_f64() / self.interval.as_secs_f64()).clamp(1.0, f64::from(u32::MAX));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let wanted = turns.wanted(most as u32);
            let next = self.first_of(wanted).await;
            *turns = Turns { since: Instant::now(), next, left: wanted, taken: wanted, used: 0 };
        }
    }

    /// Takes turns, and returns when the first of them is. Waits for the database: nothing could be landed without it.
    async fn first_of(&self, turns: u32) -> Instant {
        let never = CancellationToken::new();
        let mut patience = Patience::new("taking turns to ask a source");
        let ahead = loop {
            let taking = rates::take(&self.database, &self.source, turns, self.interval, self.saved_up);
            match staging::in_time("taking turns to ask a source", taking).await {
                Ok(ahead) => break ahead,
                Err(error) => {
                    if let Err(error) = patience.wait(&never, error).await {
                        // A defect of the database stops the landings, which say so; until then this process paces itself.
                        tracing::error!(source = self.source, %error, "the rate is not shared with other processes");
                        break 0.0;
                    }
                }
            }
        };
        patience.worked();
        let now = Instant::now();
        let by = Duration::try_from_secs_f64(ahead.abs()).unwrap_or_default();
        if ahead < 0.0 { now.checked_sub(by).unwrap_or(now) } else { now + by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);
    const KEPT: Duration = Duration::from_millis(300);

    #[test]
    fn turns_are_evenly_spaced_and_keep_for_a_while_only() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut turns = Turns { since: start, next: start, left: 10, taken: 10, used: 0 };
        assert_eq!(turns.pop(start, INTERVAL, KEPT), Some(start));
        assert_eq!(turns.pop(start, INTERVAL, KEPT), Some(start + INTERVAL), "it may be ahead");
        let late = start + 7 * INTERVAL;
        assert_eq!(turns.pop(late, INTERVAL, KEPT), Some(start + 4 * INTERVAL), "two were too old");
        assert_eq!((turns.left, turns.used), (5, 3));
        assert_eq!(turns.pop(start + Duration::from_secs(9), INTERVAL, KEPT), None);
    }

    #[test]
    fn turns_that_are_past_when_they_are_taken_can_still_be_used() {
        let since = Instant::now() + Duration::from_hours(1);
        let mut turns = Turns { since, next: since - KEPT, left: 3, taken: 3, used: 0 };
        let a_little_later = since + INTERVAL;
        assert_eq!(turns.pop(a_little_later, INTERVAL, KEPT), Some(since - KEPT));
        assert_eq!(turns.pop(a_little_later, INTERVAL, KEPT), Some(since - KEPT + INTERVAL));
        assert_eq!(turns.pop(since + 2 * KEPT, INTERVAL, KEPT), None);
    }

    #[test]
    fn a_busy_process_takes_more_turns_at_once_and_an_idle_one_gives_them_up() {
        let start = Instant::now();
        let wanted = |taken, used| Turns { since: start, next: start, left: 0, taken, used }.wanted(12);
        assert_eq!([wanted(0, 0), wanted(1, 1), wanted(8, 8), wanted(12, 3), wanted(12, 0)], [1, 2, 12, 3, 1]);
    }
}
