//! What can go wrong, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a cluster could not be found, made, started or used. Every message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No `initdb` and `postgres` anywhere.
    #[error(
        "no Postgres found: looked for initdb and postgres in {looked_in}. \
         Install it (Debian and Ubuntu: apt-get install postgresql; macOS: brew install postgresql@17) \
         or set C360_PG_BIN to the directory of its programs"
    )]
    NotInstalled {
        /// The places looked into, for the reader.
        looked_in: String,
    },
    /// `C360_PG_BIN` names a directory that lacks one of the programs.
    #[error(
        "C360_PG_BIN is {path}, but there is no {program} in it; it must be the directory that holds initdb and postgres"
    )]
    NotABinDirectory {
        /// The value of the variable.
        path: PathBuf,
        /// The program that is missing.
        program: &'static str,
    },
    /// Only versions of Postgres that are too old are here.
    #[error("{path} is Postgres {major}, and c360 needs 15 or newer; install a newer one or point C360_PG_BIN to it")]
    TooOld {
        /// Where the programs are.
        path: PathBuf,
        /// Their major version.
        major: u32,
    },
    /// The data was made by another major version than any of the programs here.
    #[error(
        "{dir} was made by Postgres {data}, which is not installed here (found: {found}); \
         install postgresql-{data} or set C360_PG_BIN to its programs, or move the data with pg_dumpall"
    )]
    OtherVersion {
        /// The directory of the cluster.
        dir: PathBuf,
        /// The major version that made it.
        data: u32,
        /// The versions found on this machine.
        found: String,
    },
    /// Root without `setpriv`: Postgres refuses to run as root and there is no way to stop being root.
    #[error(
        "running as root, and Postgres refuses to; dropping root needs util-linux's setpriv, which is not installed \
         (Debian and Ubuntu: apt-get install util-linux; Alpine: apk add setpriv). Or run as another user"
    )]
    NoSetpriv,
    /// Root, and no user to become.
    #[error(
        "running as root, and Postgres refuses to; there is neither a user `postgres` nor a user `nobody` to run it as"
    )]
    NoUser,
    /// The user that Postgres runs as cannot get at the data.
    #[error(
        "running as root, so Postgres runs as user {user}, who cannot reach {dir}; \
         choose a data_dir that every user may enter (such as /var/lib/c360), or do not run as root"
    )]
    Unreachable {
        /// The directory that cannot be reached.
        dir: PathBuf,
        /// The user that cannot.
        user: String,
    },
    /// Another process uses this cluster.
    #[error("{dir} is in use by another process{}; stop that one first, or give this one another data_dir", by_pid(*pid))]
    InUse {
        /// The directory of the cluster.
        dir: PathBuf,
        /// The running postmaster, when known.
        pid: Option<u32>,
    },
    /// The data is here and its password is not.
    #[error("{path} is missing: the password of the cluster beside it; put it back from a backup")]
    NoPassword {
        /// Where the password should be.
        path: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb could not make a cluster: {output}")]
    Initdb {
        /// What it said.
        output: String,
    },
    /// The server ended before it was ready.
    #[error("Postgres did not start: {log}")]
    ExitedAtStart {
        /// The end of its log.
        log: String,
    },
    /// The server neither became ready nor ended.
    #[error("Postgres was not ready within {seconds} s; the end of its log: {log}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// The server had not ended when the time for it was over. It is still on its way.
    #[error("Postgres did not stop within {seconds} s; it goes on stopping by itself")]
    StillStopping {
        /// How long was waited.
        seconds: u64,
    },
    /// The file system, or a program that could not be started.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// A verb: what was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The running cluster refused a statement.
    #[error("the embedded Postgres refused to {action}: {source}")]
    Sql {
        /// A verb phrase: what was tried.
        action: String,
        /// Why not.
        source: sqlx::Error,
    },
}

impl Error {
    /// Whether trying again later can help; otherwise somebody has to change something first.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Initdb { .. }
            | Self::ExitedAtStart { .. }
            | Self::NotReady { .. }
            | Self::StillStopping { .. }
            | Self::InUse { .. }
            | Self::Sql { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::NotInstalled { .. }
            | Self::NotABinDirectory { .. }
            | Self::TooOld { .. }
            | Self::OtherVersion { .. }
            | Self::NoSetpriv
            | Self::NoUser
            | Self::Unreachable { .. }
            | Self::NoPassword { .. } => false,
        }
    }
}

fn by_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (postgres has pid {pid})")).unwrap_or_default()
}

/// For `map_err`: an [`Error::Io`] that names what was tried on which path.
pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { action, path, source }
}
