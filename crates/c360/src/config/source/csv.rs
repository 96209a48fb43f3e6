//! `kind = "csv"`

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{duration, size};

/// `kind = "csv"`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Csv {
    /// Where the files are dropped.
    pub directory: PathBuf,
    /// Which of them: `*`, `?` and `[...]` in the name.
    pub pattern: String,
    /// Whether a file holds everybody, so that who is missing from the newest one has left.
    pub full_export: bool,
    /// A regular expression whose first group is the date in a file's name; default: the first `YYYY-MM-DD` or `YYYYMMDD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of_pattern: Option<String>,
    /// With `max_bad_percent`: a file with more bad rows than both is refused.
    pub max_bad_rows: u64,
    /// See `max_bad_rows`.
    pub max_bad_percent: f64,
    /// A full export that lost more of its rows than this (and more than 100) is refused.
    pub max_drop_percent: f64,
    /// Values that stand for null.
    pub null_values: Vec<String>,
    /// The delimiter; absent: found out from the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// The encoding by its WHATWG label; absent: UTF-8, or what a byte-order mark says. Never guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// How long a file must have been still before it is read.
    #[serde(with = "duration")]
    pub settle: Duration,
    /// Names that are not files yet, or never.
    pub ignore: Vec<String>,
    /// The file that says that another is whole: what begins with a dot is put behind that file's name, anything else is
    /// the name of a file in the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// How often to look, should the file system not tell.
    #[serde(with = "duration")]
    pub scan_every: Duration,
    /// The longest row; longer ones become dead letters.
    #[serde(with = "size")]
    pub max_record_bytes: usize,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            pattern: "*.csv".to_owned(),
            full_export: false,
            as_of_pattern: None,
            max_bad_rows: 100,
            max_bad_percent: 10.0,
            max_drop_percent: 50.0,
            null_values: vec!["\\N".to_owned()],
            delimiter: None,
            encoding: None,
            settle: Duration::from_secs(2),
            ignore: ["*.tmp", "*.part", ".*"].map(str::to_owned).into(),
            marker: None,
            scan_every: Duration::from_secs(30),
            max_record_bytes: 1 << 20,
        }
    }
}
