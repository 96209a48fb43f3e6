//! Times as sources write them.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike as _, Duration, NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

/// How far ahead of the landing clock a source may be before its time is taken as that clock.
const MAX_AHEAD: Duration = Duration::minutes(5);

/// A time in another year, such as what some programs write for none, is none: readers of JSON take only these.
const YEARS: RangeInclusive<i32> = 1..=9999;

/// When a record counts as changed: the source's time, unless it lies more than five minutes ahead of `now`, the landing
/// clock. Decided once, at landing, and stored.
pub fn observed_at(source_time: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    if source_time > now + MAX_AHEAD { now } else { source_time }
}

/// Reads a date and time, cut to microseconds; a time without a zone is in `zone`. `None` if the text is none.
///
/// Beside ISO 8601 this reads what a known store writes: `2019-04-25T15:15:5800838522`, the dot before the fraction missing.
pub fn parse_time(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    let text = with_dot(text.trim());
    let time = DateTime::parse_from_rfc3339(&text)
        .or_else(|_| DateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f%#z"))
        .or_else(|_| DateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
        .map(|time| time.with_timezone(&Utc))
        .ok()
        .or_else(|| {
            local(&text).and_then(|time| zone.from_local_datetime(&time).earliest()).map(|time| time.to_utc())
        })?;
    DateTime::from_timestamp_micros(time.timestamp_micros()).filter(|time| YEARS.contains(&time.year()))
}

/// The text with a dot before a fraction that has none.
fn with_dot(text: &str) -> Cow<'_, str> {
    const SECONDS_END: usize = "2019-04-25T15:15:58".len();
    let Some((seconds, rest)) = text.split_at_checked(SECONDS_END) else { return text.into() };
    match rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len()) {
        0 => text.into(),
        // chrono reads up to nine digits of a fraction; the rest is below what is kept.
        digits => format!("{seconds}.{}{}", &rest[..digits.min(9)], &rest[digits..]).into(),
    }
}

fn local(text: &str) -> Option<NaiveDateTime> {
    let text = text.replacen(' ', "T", 1);
    if let Ok(time) = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f") {
        return Some(time);
    }
    if let Ok(time) = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M") {
        return Some(time);
    }
    NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        parse_time(text, Tz::UTC).map(|time| time.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string())
    }

    #[test]
    fn reads_what_stores_write() {
        for (text, expected) in [
            ("2019-04-25T15:15:5800838522", "2019-04-25T15:15:58.008385Z"),
            ("2019-04-25T15:15:5800838522Z", "2019-04-25T15:15:58.008385Z"),
            ("2019-04-25T15:15:5800838522+02:00", "2019-04-25T13:15:58.008385Z"),
            ("2019-04-25T15:15:58.00838522", "2019-04-25T15:15:58.008385Z"),
            ("2019-04-25T15:15:58", "2019-04-25T15:15:58Z"),
            ("2019-04-25 15:15:58+02:00", "2019-04-25T13:15:58Z"),
            ("2019-04-25T15:15:58.1234567Z", "2019-04-25T15:15:58.123456Z"),
            ("2019-04-25T15:15", "2019-04-25T15:15:00Z"),
            ("2019-04-25", "2019-04-25T00:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in
            ["", "yesterday", "2019-13-01", "2019-04-25T25:00:00", "2019-04-25T15:15:58x", "é019-04-25T15:15:580"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        for text in ["0000-01-01", "0001-01-01T00:00:00+01:00", "+50000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(read("0001-01-01").is_some() && read("9999-12-31T23:59:59Z").is_some());
    }

    #[test]
    fn a_time_without_zone_is_the_sources() {
        let time = parse_time("2019-07-01T12:00:00", Tz::Europe__Zurich).unwrap();
        assert_eq!(time.to_rfc3339(), "2019-07-01T10:00:00+00:00");
    }

    #[test]
    fn a_clock_that_runs_ahead_is_cut_to_ours() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        assert_eq!(observed_at(now + Duration::minutes(5), now), now + Duration::minutes(5));
        assert_eq!(observed_at(now + Duration::days(1), now), now);
    }
}
