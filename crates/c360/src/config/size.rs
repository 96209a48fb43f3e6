//! Sizes as people write them: `"1MiB"`, or a number of bytes.

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// Largest first, for writing.
const UNITS: [(&str, usize); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    struct Size;
    impl Visitor<'_> for Size {
        type Value = usize;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a size, such as \"1MiB\" or 4096 (bytes)")
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<usize, E> {
            usize::try_from(bytes).map_err(|_| E::custom("a size is not negative"))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<usize, E> {
            parse(text).ok_or_else(|| {
                E::custom(format!("{text:?} is not a size: a whole number and one of B, kB, KiB, MB, MiB, GB, GiB"))
            })
        }
    }
    deserializer.deserialize_any(Size)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(super) fn serialize<S: Serializer>(size: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    let unit = UNITS.into_iter().find(|(_, bytes)| size.is_multiple_of(*bytes) && *size > 0);
    let (name, bytes) = unit.unwrap_or(("B", 1));
    serializer.collect_str(&format_args!("{}{name}", size / bytes))
}

fn parse(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<usize>().ok()?, text[digits..].trim());
    let unit = if unit.is_empty() { "B" } else { unit };
    let (_, bytes) = UNITS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [("1MiB", Some(1 << 20)), ("64 kib", Some(65_536)), ("5MB", Some(5_000_000)), ("12", Some(12))];
        for (text, bytes) in cases.into_iter().chain([("MiB", None), ("1.5MiB", None), ("-1B", None), ("1XB", None)]) {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }
}
