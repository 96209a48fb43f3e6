//! Exit codes. They are stable: cron jobs and scripts branch on them.

use std::fmt;
use std::io::{self, ErrorKind};
use std::process::{ExitCode, Termination};

use crate::config;

/// How a command ended, from best to worst. Where several apply, the larger of [`Exit::Refused`] and
/// [`Exit::OutOfReach`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done. Nothing to do is done, too.
    Done = 0,
    /// Something nobody expected: a bug, or a broken machine. Also what `status --check` says of a system that needs a look.
    Unexpected = 1,
    /// The command line was not understood. (clap exits with it by itself.)
    Usage = 2,
    /// `import` only: done, and some records are dead letters now.
    DoneWithDeadLetters = 4,
    /// The data was refused, whole: too many bad rows, a column missing, a full export that has shrunk too much.
    Refused = 65,
    /// No such file, customer or id.
    NotFound = 66,
    /// A source or the database is out of reach. Worth another try later.
    OutOfReach = 69,
    /// Another process holds the lock that this command needs. Worth another try soon.
    Locked = 75,
    /// The configuration cannot be used. No use to try again before somebody has changed it.
    Configuration = 78,
}

impl Exit {
    /// An error that makes the command exit with this code.
    pub fn because(self, reason: impl Into<anyhow::Error>) -> anyhow::Error {
        Failure { exit: self, reason: reason.into() }.into()
    }

    /// The code for an error: the one that [`Exit::because`] gave it, else what its cause says by itself.
    pub fn of(error: &anyhow::Error) -> Self {
        let by_cause = |cause: &(dyn std::error::Error + 'static)| {
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                return Some(failure.exit);
            }
            let is_configuration = cause.is::<config::Error>().then_some(Self::Configuration);
            is_configuration
                .or_else(|| cause.downcast_ref::<consolidate::Error>().map(Self::from))
                .or_else(|| cause.downcast_ref::<staging::Error>().map(Self::from))
        };
        error.chain().find_map(by_cause).unwrap_or(Self::Unexpected)
    }

    /// How a command ends that prints at last what it has done. Whoever reads, such as `head`, may have seen enough: that is
    /// no error.
    pub fn after<E: Into<anyhow::Error>>(self, printed: Result<(), E>) -> anyhow::Result<Self> {
        let has_seen_enough = |error: &anyhow::Error| {
            error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
        };
        match printed.map_err(Into::into) {
            Err(error) if !has_seen_enough(&error) => Err(error),
            _ => Ok(self),
        }
    }

    /// The code of two things done by one command.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

impl From<&staging::Error> for Exit {
    fn from(error: &staging::Error) -> Self {
        match error {
            staging::Error::WrongKey | staging::Error::TooOld { .. } | staging::Error::Unheard(_) => {
                Self::Configuration
            }
            staging::Error::Importing => Self::Locked,
            error if error.is_transient() => Self::OutOfReach,
            _ => Self::Unexpected,
        }
    }
}

impl From<&consolidate::Error> for Exit {
    fn from(error: &consolidate::Error) -> Self {
        match error {
            consolidate::Error::Database(error) => error.into(),
            consolidate::Error::Refused(refusal) if refusal.is_unknown() => Self::NotFound,
            consolidate::Error::Refused(_) => Self::Refused,
            consolidate::Error::OtherRules => Self::Locked,
            consolidate::Error::Erasing => Self::OutOfReach,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// An error that knows its exit code; otherwise it looks like its reason.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    reason: anyhow::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.reason.source()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};
    use sqlx::migrate::MigrateError;

    use super::*;

    #[test]
    fn an_error_keeps_its_code_through_contexts() {
        let refused = Exit::Refused.because(anyhow!("too many bad rows"));
        let wrapped = Err::<(), _>(refused).context("importing").unwrap_err();
        assert_eq!(Exit::of(&wrapped), Exit::Refused);
        assert_eq!(format!("{wrapped:#}"), "importing: too many bad rows");
        assert_eq!(Exit::of(&anyhow!("who knows")), Exit::Unexpected);
    }

    #[test]
    fn errors_of_the_database_say_by_themselves_what_to_do() {
        let away = || staging::Error::database("reading")(sqlx::Error::PoolTimedOut);
        let bug = || staging::Error::database("reading")(sqlx::Error::RowNotFound);
        let lost_while_migrating = MigrateError::ExecuteMigration(sqlx::Error::WorkerCrashed, 7);
        for (error, exit) in [
            (anyhow::Error::from(away()), Exit::OutOfReach),
            (consolidate::Error::from(away()).into(), Exit::OutOfReach),
            (anyhow::Error::from(away()).context("the database cannot be used"), Exit::OutOfReach),
            (staging::Error::Migrate { schema: "staging", source: lost_while_migrating }.into(), Exit::OutOfReach),
            (staging::Error::WrongKey.into(), Exit::Configuration),
            (staging::Error::Unheard("loyalty".to_owned()).into(), Exit::Configuration),
            (consolidate::Error::from(staging::Error::TooOld { version: 140_000 }).into(), Exit::Configuration),
            (staging::Error::Importing.into(), Exit::Locked),
            (consolidate::Error::OtherRules.into(), Exit::Locked),
            (consolidate::Error::Refused(consolidate::Refusal::Unknown).into(), Exit::NotFound),
            (consolidate::Error::Refused(consolidate::Refusal::Oneself).into(), Exit::Refused),
            (bug().into(), Exit::Unexpected),
            (consolidate::Error::from(bug()).into(), Exit::Unexpected),
        ] {
            assert_eq!(Exit::of(&error), exit, "{error:#}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is() {
        let failed = |kind: ErrorKind| Err(io::Error::from(kind));
        assert_eq!(Exit::Refused.after(failed(ErrorKind::BrokenPipe)).unwrap(), Exit::Refused);
        assert_eq!(Exit::Done.after(failed(ErrorKind::BrokenPipe).context("printing")).unwrap(), Exit::Done);
        assert!(Exit::Done.after(failed(ErrorKind::StorageFull)).is_err());
    }

    #[test]
    fn the_larger_code_counts() {
        assert_eq!(Exit::Refused.and(Exit::OutOfReach), Exit::OutOfReach);
        assert_eq!(Exit::Done.and(Exit::Refused), Exit::Refused);
    }
}
