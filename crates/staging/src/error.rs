//! What can go wrong with the database, and which of it passes by itself.

use std::borrow::Cow;

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;

/// An error of schema `staging`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or could not be reached.
    #[error("{doing}: {error}")]
    Database {
        /// What was being done, in words.
        doing: &'static str,
        /// What came back, without values of rows.
        error: DatabaseError,
    },
    /// A schema could not be brought up to date.
    #[error("migrating schema {schema}: {source}")]
    Migrate {
        /// Its name.
        schema: &'static str,
        /// Why not.
        source: MigrateError,
    },
    /// The server is older than what the schemas are written for.
    #[error("Postgres 15 or newer is needed, and the server of this database is {}.{}", version / 10_000, version % 10_000)]
    TooOld {
        /// As `server_version_num` has it.
        version: u32,
    },
    /// The database belongs to an installation with another key.
    #[error(
        "this database was made with another installation key. Copy the key file of that installation to the path of \
         security.key_file (default: data_dir/installation.key), or use another database"
    )]
    WrongKey,
    /// A source comes by Kafka that was read otherwise before.
    #[error(
        "source {0} was read from files or by REST before: to all that is known of it, records of Kafka would look old, and \
         would change nothing. Give the one of Kafka a name of its own, and retire {0} when that is complete: c360 source \
         retire {0}"
    )]
    Unheard(String),
    /// A dead letter does not open under this key.
    #[error("the dead letter does not open: it was sealed under another key or is damaged")]
    Sealed,
    /// Somebody imports files of the source at the moment.
    #[error("another process is importing files of this source; try again when it is done")]
    Importing,
    /// A batch was given with a checkpoint that compares nothing, so that whoever lands it again would double it.
    #[error("a batch of answers without the poll that it answers cannot be landed")]
    NothingToCompare,
    /// The program is stopping.
    #[error("stopping")]
    Cancelled,
}

/// An error of sqlx that shows no value of any row: Postgres puts whole rows into the detail of its messages.
pub struct DatabaseError(sqlx::Error);

impl DatabaseError {
    /// The SQLSTATE, if Postgres gave one.
    pub fn code(&self) -> Option<Cow<'_, str>> {
        self.0.as_database_error()?.code()
    }
}

/// As little as [`Display`](std::fmt::Display) shows: whoever unwraps or logs with `?` must not get at the row either.
impl std::fmt::Debug for DatabaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatabaseError({self})")
    }
}

impl std::fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_database_error() {
            // 22 and 23 quote the offending value in their message.
            Some(error) if matches!(error.code().as_deref().and_then(|code| code.get(..2)), Some("22" | "23")) => {
                write!(f, "SQLSTATE {} {}", error.code().unwrap_or_default(), error.constraint().unwrap_or_default())
            }
            Some(error) => write!(f, "{} (SQLSTATE {})", error.message(), error.code().unwrap_or_default()),
            None => self.0.fmt(f),
        }
    }
}

impl std::error::Error for DatabaseError {}

impl Error {
    /// Wraps an error of sqlx with what was being done.
    pub fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| Self::Database { doing, error: DatabaseError(error) }
    }

    /// Nothing came back in time.
    pub(crate) fn timed_out(doing: &'static str) -> Self {
        Self::database(doing)(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
    }

    /// Whether the server itself said so, and is there therefore.
    pub(crate) fn is_from_server(&self) -> bool {
        matches!(self, Self::Database { error, .. } if error.code().is_some())
    }

    /// Whether Postgres gave this SQLSTATE.
    pub(crate) fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Database { error, .. } if error.code().as_deref() == Some(code))
    }

    /// Whether somebody kept something locked for longer than we wait.
    pub fn is_locked(&self) -> bool {
        self.has_code("55P03")
    }

    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database { error, .. } => is_transient(&error.0),
            Self::Migrate {
                source: MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _), ..
            } => is_transient(error),
            _ => false,
        }
    }

    /// Whether the data itself was refused, so that some record of it has to go.
    pub fn is_data(&self) -> bool {
        let Self::Database { error, .. } = self else { return false };
        // A value that the driver cannot encode is no better than one that Postgres refuses.
        matches!(error.0, sqlx::Error::Encode(_))
            || error.code().is_some_and(|code| ["22", "23", "54"].contains(&code.get(..2).unwrap_or_default()))
    }
}

/// Whether an error of the database passes by itself: connections, restarts, full disks, lost races. Anything else is a
/// defect or a refusal of data, and would come back for ever.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            let class = code.get(..2).unwrap_or_default();
            // Connection, rollback, resources, operator, system; lock timeouts; a read-only standby after a fail-over;
            // authentication (a password that is being rotated) and a database that is not made yet or admits nobody now.
            // A transaction that was open for too long, because this process was frozen, is ended by Postgres.
            ["08", "28", "3D", "40", "53", "57", "58"].contains(&class)
                || ["55000", "55P03", "25006", "25P03", "25P04"].contains(&&*code)
                || is_stale_plan(&**error)
        }
        _ => false,
    }
}

/// "cached plan must not change result type": a statement prepared before somebody migrated the schema, which the next
/// connection prepares anew. Its code is that of everything Postgres cannot do, its message is in the server's language;
/// the routine that raises it is its own.
fn is_stale_plan(error: &dyn sqlx::error::DatabaseError) -> bool {
    let error = error.try_downcast_ref::<PgDatabaseError>();
    error.is_some_and(|error| error.code() == "0A000" && error.routine() == Some("RevalidateCachedQuery"))
}
