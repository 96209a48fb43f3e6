//! Lands CSV files that are dropped into a directory.
mod daemon;
mod error;
mod file;
mod header;
mod import;
mod importer;
mod metrics;
mod name;
mod parse;
mod reading;
mod report;
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
pub use report::{FileReport, Outcome, Progress};
pub use settings::{ImportOptions, Settings};
