//! Single values written out: numbers in bytes, dates and times in counts.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, BigUint};
use chrono::DateTime;
use model::fits_numeric;

/// More bytes than the longest number that Postgres holds.
const MAX_DECIMAL_BYTES: usize = 64 << 10;
/// Postgres declares no larger scale; its connector encodes a negative one as 2048 less itself.
const MAX_SCALE: i64 = 1_000;

/// What times are counted in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Unit {
    fn per_second(self) -> i64 {
        match self {
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
            Self::Nanoseconds => 1_000_000_000,
        }
    }

    /// Whole seconds and nanoseconds behind them.
    fn split(self, count: i64) -> (i64, u32) {
        let (seconds, rest) = (count.div_euclid(self.per_second()), count.rem_euclid(self.per_second()));
        (seconds, u32::try_from(rest * (1_000_000_000 / self.per_second())).unwrap_or_default())
    }

    /// A time of day; those of MariaDB are spans up to 838 hours either way.
    pub(super) fn time(self, count: i64) -> String {
        let sign = if count < 0 { "-" } else { "" };
        let (seconds, nanoseconds) = self.split(count.saturating_abs());
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction(nanoseconds))
    }

    pub(super) fn timestamp(self, count: i64) -> Result<String, &'static str> {
        // What Postgres' driver has for the infinities, in microseconds.
        let (forever, never) = (9_223_372_036_825_200_000, -9_223_372_036_832_400_000);
        let microseconds = match self {
            Self::Milliseconds => count.checked_mul(1_000),
            Self::Microseconds => Some(count),
            Self::Nanoseconds => None,
        };
        match microseconds {
            Some(microseconds) if microseconds == forever => return Ok("infinity".to_owned()),
            Some(microseconds) if microseconds == never => return Ok("-infinity".to_owned()),
            _ => {}
        }
        let (seconds, nanoseconds) = self.split(count);
        let time = DateTime::from_timestamp(seconds, nanoseconds).ok_or("is a time beyond the calendar")?.naive_utc();
        Ok(format!("{}T{}{}", time.date(), time.format("%H:%M:%S"), fraction(nanoseconds)))
    }
}

pub(super) fn date(days: i64) -> Result<String, &'static str> {
    // What is left of Postgres' infinities in 32 bits: of those that a snapshot reads, and of those in the log. Its calendar
    // begins long after all of them.
    match days {
        -622_191_234 | -2_147_472_692 => return Ok("infinity".to_owned()),
        -625_821_272 | -2_147_472_691 => return Ok("-infinity".to_owned()),
        _ => {}
    }
    let midnight = days.checked_mul(86_400).and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    Ok(midnight.ok_or("is a date beyond the calendar")?.date_naive().to_string())
}

/// A fraction of a second in three, six or nine digits, or nothing.
fn fraction(nanoseconds: u32) -> String {
    match nanoseconds {
        0 => String::new(),
        _ if nanoseconds.is_multiple_of(1_000_000) => format!(".{:03}", nanoseconds / 1_000_000),
        _ if nanoseconds.is_multiple_of(1_000) => format!(".{:06}", nanoseconds / 1_000),
        _ => format!(".{nanoseconds:09}"),
    }
}

/// All digits of an unscaled number with the decimal point put in.
pub(super) fn push_decimal(unscaled: &[u8], scale: i64, written: &mut String) -> Result<(), &'static str> {
    const BEYOND: &str = "is beyond what Postgres numeric can hold";
    if unscaled.len() > MAX_DECIMAL_BYTES || scale.unsigned_abs() > u64::from(u32::MAX) {
        return Err(BEYOND);
    }
    let mut decimal = BigDecimal::new(BigInt::from_signed_bytes_be(unscaled), scale);
    if scale > MAX_SCALE {
        decimal = decimal.normalized();
    }
    if !fits_numeric(&decimal) {
        return Err(BEYOND);
    }
    written.push_str(&decimal.to_plain_string());
    Ok(())
}

/// Bits as the number that they are.
pub(super) fn bits(little_endian: &[u8]) -> BigUint {
    BigUint::from_bytes_le(little_endian)
}

pub(super) fn bytes(raw: &str) -> Result<Vec<u8>, &'static str> {
    let text = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).ok_or("is not in base64")?;
    BASE64_STANDARD.decode(text).map_err(|_| "is not in base64")
}

pub(super) fn count(raw: &str) -> Result<i64, &'static str> {
    raw.parse().map_err(|_| "is not a whole number")
}
