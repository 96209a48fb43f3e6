//! When to ask again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Somebody whom the source does not know is asked about at least this often.
const UNKNOWN_AT_MOST: Duration = Duration::from_hours(720);
/// The pause after the first failure of a poll; it doubles with every further one.
const FAILING_AT_FIRST: Duration = Duration::from_secs(2);
const FAILING_AT_MOST: Duration = Duration::from_hours(1);
/// Somebody looks whether an edit has arrived: it waits no longer than that once its source is back.
const UNSENT_AT_MOST: Duration = Duration::from_mins(5);

/// After an answer.
pub(crate) fn after_answer(now: DateTime<Utc>, refresh_every: Duration) -> DateTime<Utc> {
    later(now, refresh_every)
}

/// After the `times`-th answer in a row (from 1) that the source does not know it.
pub(crate) fn after_unknown(now: DateTime<Utc>, refresh_every: Duration, times: u32) -> DateTime<Utc> {
    later(now, doubled(refresh_every, times, UNKNOWN_AT_MOST.max(refresh_every)))
}

/// After the `times`-th failure in a row (from 1).
pub(crate) fn after_failure(now: DateTime<Utc>, times: i32) -> DateTime<Utc> {
    later(now, doubled(FAILING_AT_FIRST, times.unsigned_abs(), FAILING_AT_MOST))
}

/// After an edit could not be sent for the `times`-th time in a row (from 1).
pub(crate) fn after_unsent(now: DateTime<Utc>, times: i32) -> DateTime<Utc> {
    later(now, doubled(FAILING_AT_FIRST, times.unsigned_abs(), UNSENT_AT_MOST))
}

fn doubled(first: Duration, times: u32, at_most: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(at_most)
}

fn later(now: DateTime<Utc>, pause: Duration) -> DateTime<Utc> {
    let pause = TimeDelta::from_std(pause).unwrap_or(TimeDelta::MAX);
    // A pause beyond what a time can be is a century.
    now.checked_add_signed(pause.min(TimeDelta::days(36_500))).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_ones_age_up_to_thirty_days_and_failing_ones_up_to_an_hour() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let day = Duration::from_hours(24);
        let days: Vec<i64> = (1..9).map(|times| (after_unknown(now, day, times) - now).num_days()).collect();
        assert_eq!(days, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(after_unknown(now, 60 * day, 3), now + 60 * day, "never more often than the known ones");
        let seconds: Vec<i64> =
            [1, 2, 3, 11, 12, 40, i32::MAX].map(|n| (after_failure(now, n) - now).num_seconds()).to_vec();
        assert_eq!(seconds, [2, 4, 8, 2048, 3600, 3600, 3600]);
        let unsent: Vec<i64> = [1, 2, 8, 9, i32::MAX].map(|n| (after_unsent(now, n) - now).num_seconds()).to_vec();
        assert_eq!(unsent, [2, 4, 256, 300, 300]);
        assert_eq!((after_answer(now, Duration::MAX) - now).num_days(), 36_500);
    }
}
