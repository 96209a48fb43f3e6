//! What an import says of its files.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use model::{Position, Record};
use serde::Serialize;

/// What became of a file. All but the last two are words of `csv_imports.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Published.
    Imported,
    /// The same content as the newest import that it could replace.
    Copy,
    /// A full export older than one that is imported.
    Superseded,
    /// Nothing of it is published.
    Refused,
    /// It was written to while it was read, again and again; nothing of it is published, the next import takes it.
    Changing,
    /// It cannot be read; nothing of it is published.
    Unreadable,
}

/// One file of an import.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// The file as it was named, or its path in the directory.
    pub file: PathBuf,
    /// The time that its content is of.
    pub as_of: Option<DateTime<Utc>>,
    /// What became of it.
    pub state: Outcome,
    /// Its rows: landed, dead letters and skips.
    pub rows: u64,
    /// Rows that became dead letters.
    pub dead_letters: u64,
    /// Rows that are nothing to land: empty lines, repeated headers, all rows of copies and superseded files.
    pub skipped: u64,
    /// Why it is not imported; holds no value of any row.
    pub reason: Option<String>,
    /// SHA-256 of its bytes, in hex.
    pub sha256: Option<String>,
    /// The delimiter that was configured or found out.
    pub delimiter: Option<char>,
    /// The encoding that was configured or found out.
    pub encoding: Option<&'static str>,
    /// How long it took.
    pub seconds: f64,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// What a dry run sees of the files that would be imported: of each its beginning, its rows, and its end. One that changes
/// while it is read begins again.
#[derive(Clone, Debug)]
pub enum Sighting {
    /// A file begins.
    Begins(PathBuf),
    /// Rows of it.
    Rows(Rows),
    /// It is read to its end.
    Ends {
        /// Whether it would be published.
        is_published: bool,
        /// The position of the file itself.
        position: Position,
        /// The time that its content is of.
        as_of: DateTime<Utc>,
    },
}

/// Rows of a file as they would be landed.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The records, in their order.
    pub records: Vec<Record>,
    /// Ids of rows that would be dead letters: they are no records, and have not left.
    pub bad_ids: Vec<String>,
}

/// How far the import of a file is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The file's name.
    pub file: String,
    /// Size of the file.
    pub bytes: u64,
    /// How much of it is read and landed.
    pub bytes_landed: u64,
    /// How many rows are landed.
    pub rows: u64,
}

impl FileReport {
    pub(crate) fn new(file: PathBuf, dry_run: bool) -> Self {
        Self {
            file,
            as_of: None,
            state: Outcome::Unreadable,
            rows: 0,
            dead_letters: 0,
            skipped: 0,
            reason: None,
            sha256: None,
            delimiter: None,
            encoding: None,
            seconds: 0.0,
            dry_run,
        }
    }
}
