//! What can go wrong while consolidating.

/// An error of schema `customer360`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or could not be reached.
    #[error(transparent)]
    Database(#[from] staging::Error),
    /// Somebody was erased since what is being merged was read.
    #[error("somebody was erased meanwhile, try again")]
    Erasing,
    /// The process that consolidates has other rules than this one.
    #[error("the process that consolidates runs under other rules: start it again with this configuration")]
    OtherRules,
    /// What an operator asked for cannot be found, or cannot be.
    #[error(transparent)]
    Refused(#[from] crate::Refusal),
}

impl Error {
    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => error.is_transient(),
            Self::OtherRules | Self::Refused(_) => false,
            Self::Erasing => true,
        }
    }

    /// Whether the data itself was refused, so that some record of it has to go.
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_data())
    }
}

/// Wraps an error of sqlx with what was being done.
pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| Error::Database(staging::Error::database(doing)(error))
}
