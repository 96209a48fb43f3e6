//! What a CSV source is told.

use std::path::PathBuf;
use std::time::Duration;

use encoding_rs::Encoding;
use model::mapping::{Context, Mapping};
use tokio::sync::mpsc;

use crate::Sighting;

/// A CSV source, as configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source's name.
    pub source: String,
    /// Where its files are dropped.
    pub directory: PathBuf,
    /// File names that count, as globs; each also with `.gz` behind it.
    pub patterns: Vec<String>,
    /// File names that never count, as globs: what writers call a file that they have not finished.
    pub ignore: Vec<String>,
    /// A file counts only once this one is there and not older than it: `.done` and the like are put behind the file's name,
    /// any other text is the name of a file in the directory. If it holds a number, by itself or as `rows` of a JSON object,
    /// the file must have that many rows.
    pub marker: Option<String>,
    /// Whether a member that a file lacks has left.
    pub full_export: bool,
    /// A regular expression whose one group is the as-of date in the name.
    pub as_of_pattern: Option<String>,
    /// Texts that stand for null.
    pub null_values: Vec<String>,
    /// The delimiter; found out by the header if absent.
    pub delimiter: Option<u8>,
    /// The encoding of files without a byte-order mark; UTF-8 if absent.
    pub encoding: Option<&'static Encoding>,
    /// How long a file must not change before it is taken.
    pub settle: Duration,
    /// How often the directory is looked at, whatever the system notifies.
    pub scan_every: Duration,
    /// Most bad rows of a file, unless they are within `max_bad_percent`.
    pub max_bad_rows: u64,
    /// Most bad rows of a file in percent, unless they are within `max_bad_rows`.
    pub max_bad_percent: f64,
    /// By how much a full export may shrink in percent, beyond 100 rows.
    pub max_drop_percent: f64,
    /// Longest row.
    pub max_record_bytes: usize,
    /// What the columns mean.
    pub mapping: Mapping,
    /// What mapping needs beside the row.
    pub context: Context,
    /// How long records stay in staging.
    pub ttl: Duration,
}

impl Settings {
    /// A source with the default of everything that has one.
    pub fn new(source: &str, directory: impl Into<PathBuf>, pattern: &str, mapping: Mapping, context: Context) -> Self {
        Self {
            source: source.to_owned(),
            directory: directory.into(),
            patterns: vec![pattern.to_owned()],
            ignore: ["*.tmp", "*.part", ".*"].map(str::to_owned).to_vec(),
            marker: None,
            full_export: false,
            as_of_pattern: None,
            null_values: vec!["\\N".to_owned()],
            delimiter: None,
            encoding: None,
            settle: Duration::from_secs(2),
            scan_every: Duration::from_secs(30),
            max_bad_rows: 100,
            max_bad_percent: 10.0,
            max_drop_percent: 50.0,
            max_record_bytes: 1 << 20,
            mapping,
            context,
            ttl: Duration::from_hours(25),
        }
    }
}

/// How one import differs from the daemon's.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Read, count and judge, but write nothing.
    pub dry_run: bool,
    /// With `dry_run`: who wants to see what would be landed.
    pub sightings: Option<mpsc::Sender<Sighting>>,
    /// Import what would be refused.
    pub accept: bool,
    /// Import what is imported already.
    pub again: bool,
    /// How long to wait while another process imports files of the source.
    pub wait: Duration,
}
