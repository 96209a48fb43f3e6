//! Lands CSV files that are dropped into a directory, once a night or whenever.
//!
//! What it guarantees:
//!
//! * A file is published as a whole or not at all: its batches can be claimed only once the ledger
//!   (`staging.csv_imports`) says `imported`, in one transaction. What an interrupted import has landed is abandoned, and
//!   the file starts again.
//! * Every row ends in exactly one of: a landed record, a dead letter, a counted skip. A bad row, a stray quote included,
//!   never takes its neighbours with it. [`reread`] makes a record of a dead letter once it can be made.
//! * One importer per source among all processes, by an advisory lock; one that only was asleep is fenced by the ledger.
//! * One consistent version of a file: it is opened once, hashed, parsed, and published only if the bytes parsed are those
//!   that were hashed.
//! * Memory does not grow with the file, its rows or its lines.
//!
//! What it never does: guess an encoding, follow a symlink out of the directory, move, rename or delete a file, say a value
//! of a row in a log, a metric or an error.
//!
//! A file's way: `scan` finds it and tells whether somebody still writes to it, `reading` opens and hashes it, `verdict`
//! says what it is by the ledger, `text` unpacks and decodes, `rows` and `cells` split, `header` names, `parse` fills batches, and
//! `importer` lands and publishes. Start with [`run`] (the daemon) or [`import`] (these files and then the end).

mod cells;
mod daemon;
mod error;
mod file;
mod header;
mod import;
mod importer;
mod marker;
mod metrics;
mod name;
mod parse;
mod reading;
mod report;
mod reread;
mod rows;
mod scan;
mod session;
mod settings;
mod text;
mod verdict;

pub use daemon::run;
pub use encoding_rs::Encoding;
pub use error::Error;
pub use import::import;
pub use name::check_pattern;
#[doc(hidden)]
pub use parse::parse_only;
pub use report::{FileReport, Outcome, Progress, Rows, Sighting};
pub use reread::{NamedCell, ReadRow, read_row, reread};
pub use settings::{ImportOptions, Settings};
