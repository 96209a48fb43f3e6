//! The circuit breaker: a source that fails again and again is left alone for a while. A pure state machine; time is passed
//! in.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Refusal;

/// How long a feed rests after the source refused our credentials: somebody has to change something first.
const REFUSED_COOLDOWN: Duration = Duration::from_mins(15);

/// The state as `status` and metrics show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests are made.
    #[default]
    Closed,
    /// No requests are made.
    Open,
    /// One request is made to see whether the source is back.
    HalfOpen,
}

impl BreakerState {
    /// The word in health.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Go on.
    Go,
    /// Not before this time.
    Wait(Instant),
}

#[derive(Debug)]
pub(crate) struct Breaker {
    limit: u32,
    cooldown: Duration,
    /// After this long a probe counts as lost: its caller was dropped.
    probe_timeout: Duration,
    state: State,
    /// How our credentials are refused, until the source answers again.
    alarm: Option<Refusal>,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { until: Instant },
}

impl Breaker {
    pub(crate) fn new(limit: u32, cooldown: Duration, probe_timeout: Duration) -> Self {
        Self { limit: limit.max(1), cooldown, probe_timeout, state: State::Closed { failures: 0 }, alarm: None }
    }

    /// Asks for one request. After [`Admission::Go`] its outcome must be said.
    pub(crate) fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Go,
            State::Open { until } | State::HalfOpen { until } if now < until => Admission::Wait(until),
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { until: now + self.probe_timeout };
                Admission::Go
            }
        }
    }

    /// The source answered.
    pub(crate) fn succeeded(&mut self) {
        // An answer to a request made before it opened does not close it; the probe's does.
        match self.state {
            State::Open { .. } => {}
            State::Closed { .. } | State::HalfOpen { .. } => {
                self.state = State::Closed { failures: 0 };
                self.alarm = None;
            }
        }
    }

    /// The source failed. True when that opened the breaker.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        let open = State::Open { until: now + self.cooldown };
        match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                if *failures < self.limit {
                    return false;
                }
                self.state = open;
                true
            }
            State::HalfOpen { .. } => {
                self.state = open;
                false
            }
            State::Open { .. } => false,
        }
    }

    /// The source refused our credentials. True when it had not refused them before.
    pub(crate) fn refused(&mut self, refusal: Refusal, now: Instant) -> bool {
        self.state = State::Open { until: now + REFUSED_COOLDOWN.max(self.cooldown) };
        self.alarm.replace(refusal).is_none()
    }

    pub(crate) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// How our credentials are refused.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.alarm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(3, 30 * SECOND, 60 * SECOND), Instant::now())
    }

    #[test]
    fn opens_after_failures_in_a_row_and_closes_with_the_first_answer_to_a_probe() {
        let (mut breaker, now) = breaker();
        assert!(!breaker.failed(now));
        assert!(!breaker.failed(now));
        breaker.succeeded();
        assert!(!breaker.failed(now) && !breaker.failed(now) && breaker.failed(now));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.admit(now + 29 * SECOND), Admission::Wait(now + 30 * SECOND));
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Open, "an answer from before it opened closes nothing");
        assert_eq!(breaker.admit(now + 30 * SECOND), Admission::Go);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(now + 31 * SECOND), Admission::Wait(now + 90 * SECOND));
        breaker.succeeded();
        assert_eq!((breaker.state(), breaker.admit(now)), (BreakerState::Closed, Admission::Go));
    }

    #[test]
    fn a_failed_probe_opens_it_again_and_a_lost_one_makes_room_for_another() {
        let (mut breaker, now) = breaker();
        for _ in 0..3 {
            breaker.failed(now);
        }
        assert_eq!(breaker.admit(now + 30 * SECOND), Admission::Go);
        assert!(!breaker.failed(now + 31 * SECOND), "it was open all the time: no second alarm");
        assert_eq!(breaker.admit(now + 60 * SECOND), Admission::Wait(now + 61 * SECOND));
        assert_eq!(breaker.admit(now + 61 * SECOND), Admission::Go);
        assert_eq!(breaker.admit(now + 121 * SECOND), Admission::Go);
    }

    #[test]
    fn refused_credentials_stop_the_feed_at_once_with_one_alarm() {
        let (mut breaker, now) = breaker();
        let refusal = Refusal { status: 401, by_token_endpoint: false };
        assert!(breaker.refused(refusal, now));
        assert!(!breaker.refused(refusal, now));
        assert_eq!(breaker.refusal(), Some(refusal));
        assert_eq!(breaker.admit(now + 60 * SECOND), Admission::Wait(now + REFUSED_COOLDOWN));
        assert_eq!(breaker.admit(now + REFUSED_COOLDOWN), Admission::Go);
        assert!(!breaker.refused(refusal, now), "the probe tells nothing new");
    }
}
