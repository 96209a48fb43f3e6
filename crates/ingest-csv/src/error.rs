//! What can go wrong beside the data: data is refused, never an error.

use std::io;
use std::path::PathBuf;

/// An error of importing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was named is not there.
    #[error("{}: no such file", .0.display())]
    NoSuchFile(PathBuf),
    /// Another process imports files of this source.
    #[error("source {0}: another process is importing its files")]
    Locked(String),
    /// The directory or a file cannot be read.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A pattern of the configuration does not compile.
    #[error("{key}: {message}")]
    Pattern {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// An import was taken over again and again by others.
    #[error("source {0}: another process keeps taking over the import")]
    TakenOver(String),
    /// The database.
    #[error(transparent)]
    Staging(#[from] staging::Error),
    /// The program is stopping.
    #[error("stopping")]
    Cancelled,
    /// The parser died, which is a defect.
    #[error("the parser of {0} stopped unexpectedly")]
    Parser(String),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }

    /// Whether the program was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Staging(staging::Error::Cancelled))
    }
}
