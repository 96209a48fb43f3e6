//! What a file's name says: whether it is meant for us, and of which day it is.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use globset::{Glob, GlobSet, GlobSetBuilder};
use regex::Regex;

use crate::{Error, Settings};

/// The names of one source's files.
#[derive(Debug)]
pub(crate) struct Names {
    patterns: GlobSet,
    ignore: GlobSet,
    marker: Option<String>,
    as_of: Option<Regex>,
}

impl Names {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let as_of = match &settings.as_of_pattern {
            Some(pattern) => {
                let wrong = |message: String| Error::Pattern { key: "as_of_pattern", message };
                let regex = Regex::new(pattern).map_err(|error| wrong(error.to_string()))?;
                if regex.captures_len() != 2 {
                    return Err(wrong("the pattern must have one group".to_owned()));
                }
                Some(regex)
            }
            None => None,
        };
        Ok(Self {
            patterns: globs("pattern", &settings.patterns)?,
            ignore: globs("ignore", &settings.ignore)?,
            marker: settings.marker.clone(),
            as_of,
        })
    }

    /// Whether a file of this name is one of the source's.
    pub(crate) fn is_meant(&self, name: &str) -> bool {
        let is_marker = self.marker.as_ref().is_some_and(|marker| {
            if marker.starts_with('.') { name.ends_with(marker.as_str()) } else { name == marker }
        });
        let matches = |name: &str| self.patterns.is_match(name);
        !is_marker && !self.ignore.is_match(name) && (matches(name) || name.strip_suffix(".gz").is_some_and(matches))
    }

    /// Name of the marker of a file, if markers are wanted.
    pub(crate) fn marker_of(&self, name: &str) -> Option<String> {
        let marker = self.marker.as_ref()?;
        Some(if marker.starts_with('.') { format!("{name}{marker}") } else { marker.clone() })
    }

    /// The as-of time in a name: UTC midnight of its first date.
    pub(crate) fn as_of(&self, name: &str) -> Option<DateTime<Utc>> {
        match &self.as_of {
            Some(regex) => {
                let text = regex.captures(name)?.get(1)?.as_str();
                let time = || model::parse_time(text, chrono_tz::UTC);
                first_date(text).map(midnight).or_else(time)
            }
            None => first_date(name).map(midnight),
        }
    }
}

/// Says what is wrong with a pattern of file names.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    Glob::new(pattern).map(drop).map_err(|error| error.kind().to_string())
}

fn globs(key: &'static str, patterns: &[String]) -> Result<GlobSet, Error> {
    let wrong = |error: globset::Error| Error::Pattern { key, message: error.to_string() };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(wrong)?);
    }
    set.build().map_err(wrong)
}

fn midnight(date: NaiveDate) -> DateTime<Utc> {
    date.and_time(NaiveTime::MIN).and_utc()
}

/// The first `YYYY-MM-DD`, or `YYYYMMDD` at the start of a run of 8, 12 or 14 digits (a time may follow).
fn first_date(name: &str) -> Option<NaiveDate> {
    let bytes = name.as_bytes();
    let run = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = 0;
    while at < bytes.len() {
        let length = run(at);
        if length == 0 {
            at += 1;
            continue;
        }
        let dashed = length == 4
            && bytes.get(at + 4) == Some(&b'-')
            && bytes.get(at + 7) == Some(&b'-')
            && run(at + 5) == 2
            && run(at + 8) == 2;
        let found = if dashed {
            NaiveDate::parse_from_str(&name[at..at + 10], "%Y-%m-%d").ok()
        } else if [8, 12, 14].contains(&length) {
            NaiveDate::parse_from_str(&name[at..at + 8], "%Y%m%d").ok()
        } else {
            None
        };
        if found.is_some() {
            return found;
        }
        at += length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_date_in_a_name_is_found() {
        for (name, expected) in [
            ("loyalty_members_2026-01-31.csv", Some("2026-01-31")),
            ("loyalty_members_20260131.csv.gz", Some("2026-01-31")),
            ("20260131T0400_v2.csv", Some("2026-01-31")),
            ("export-20260131040000.csv", Some("2026-01-31")),
            ("2026-01-30_to_2026-01-31.csv", Some("2026-01-30")),
            ("v20.2026-01-31.csv", Some("2026-01-31")),
            ("batch_12345678_2026-01-31.csv", Some("2026-01-31")),
            ("members_2026-13-31.csv", None),
            ("members_1767225600.csv", None),
            ("members_12026-01-31.csv", None),
            ("loyalty_members.csv", None),
            ("é2026-01-31é", Some("2026-01-31")),
        ] {
            let found = first_date(name).map(|date| date.to_string());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}
