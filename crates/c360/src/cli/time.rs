//! Times on the command line.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

/// Reads `2026-11-20T03:00:00Z`, `2026-11-20 03:00` (UTC) or `2026-11-20` (midnight, UTC).
///
/// # Errors
/// What can be written instead, for clap.
pub fn parse(text: &str) -> Result<DateTime<Utc>, String> {
    let midnight = || text.parse::<NaiveDate>().ok().map(|date| date.and_time(NaiveTime::MIN).and_utc());
    model::parse_time(text, chrono_tz::Tz::UTC)
        .or_else(midnight)
        .ok_or_else(|| "not a time; write 2026-11-20T03:00:00Z, or 2026-11-20 for midnight in UTC".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_dates_are_read_and_mean_utc() {
        for (text, expected) in [
            ("2026-11-20T03:00:00Z", "2026-11-20T03:00:00Z"),
            ("2026-11-20T03:00:00+01:00", "2026-11-20T02:00:00Z"),
            ("2026-11-20 03:00:00", "2026-11-20T03:00:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
        ] {
            assert_eq!(parse(text).unwrap(), expected.parse::<DateTime<Utc>>().unwrap(), "{text}");
        }
        assert!(parse("yesterday").unwrap_err().contains("2026-11-20"));
    }
}
