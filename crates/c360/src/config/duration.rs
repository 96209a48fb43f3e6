//! Durations as people write them: `"7d"`, `"2s"`, `"1h 30m"`.

use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// Largest first, in nanoseconds, for writing. Months and years are no number of days, and so not among them.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration in quotes, such as \"7d\", \"90s\" or \"500ms\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text)
                .map_err(|error| E::custom(format!("{text:?} is not a duration such as \"7d\" or \"90s\": {error}")))
        }
    }
    deserializer.deserialize_str(Text)
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&text(*duration))
}

/// As one number of the largest unit that fits: `400d`, `25h`, `90s`.
fn text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fitting = UNITS.into_iter().find(|(_, unit)| nanos > 0 && nanos.is_multiple_of(*unit));
    let (name, unit) = fitting.unwrap_or(("s", 1));
    format!("{}{name}", nanos / unit)
}

/// The same for durations that have no default of their own.
pub(super) mod optional {
    use super::{Deserializer, Duration, Serializer};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }

    #[expect(clippy::ref_option, reason = "serde gives a reference")]
    pub(in super::super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_short_and_reads_as_it_was() {
        for written in ["400d", "25h", "7d", "90s", "5m", "500ms", "0s", "1001us", "1ns"] {
            let duration = humantime::parse_duration(written).unwrap();
            assert_eq!(text(duration), written);
        }
        assert_eq!(text(humantime::parse_duration("1h 30m").unwrap()), "90m");
    }
}
