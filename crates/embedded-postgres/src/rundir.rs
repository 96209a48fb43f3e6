//! The run directory: private, short enough for a socket path, gone when the cluster is.

use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, io};

const PREFIX: &str = "c360-pg-";
const LOCK: &str = "lock";
/// A socket path has 103 bytes on macOS and 107 on Linux; `/c360-pg-123456/.s.PGSQL.65535` follows.
const LONGEST_BASE: usize = 103 - 30;

/// A run directory that this process has made and locked. It is removed with this value, unless [`RunDir::hand_over`]
/// makes that somebody else's work.
#[derive(Debug)]
pub(crate) struct RunDir {
    directory: TempDir,
    lock: File,
}

impl RunDir {
    /// Makes one, mode 0700, and removes those that a killed machine or container has left behind.
    pub(crate) fn make() -> Result<Self, Error> {
        let base = base();
        sweep(&base);
        let private = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(private)
            .tempdir_in(&base)
            .map_err(io("make a directory in", &base))?;
        // Locked first and named second, so that nobody's sweep finds an unlocked one.
        let (unnamed, named) = (directory.path().join("lock.new"), directory.path().join(LOCK));
        let lock = File::create(&unnamed).map_err(io("make", &unnamed))?;
        lock.lock().map_err(io("lock", &unnamed))?;
        fs::rename(&unnamed, &named).map_err(io("make", &named))?;
        Ok(Self { directory, lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// From now on the keeper removes the directory. Hold the lock as long as the cluster lives.
    pub(crate) fn hand_over(self) -> (PathBuf, File) {
        (self.directory.keep(), self.lock)
    }
}

/// The directory for temporary files, or `/tmp` where that (on macOS, in sandboxes) is too long for a socket.
fn base() -> PathBuf {
    let base = std::env::temp_dir();
    if base.is_absolute() && base.as_os_str().as_bytes().len() <= LONGEST_BASE { base } else { "/tmp".into() }
}

/// Removes run directories whose owner is dead. The keeper does that too; this is for when the keeper was killed as well.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if ours && lock.try_lock().is_ok() && fs::remove_dir_all(entry.path()).is_ok() {
            tracing::debug!(directory = %entry.path().display(), "removed what a killed cluster has left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_what_nobody_owns_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let directory = base.path().join(name);
            fs::create_dir(&directory).unwrap();
            (directory.clone(), File::create(directory.join(LOCK)).unwrap())
        };
        let (dead, _) = make("c360-pg-dead");
        let (other, _) = make("other");
        let (alive, held) = make("c360-pg-alive");
        held.lock().unwrap();
        sweep(base.path());
        assert!(!dead.exists() && alive.exists() && other.exists());
    }

    #[test]
    fn is_private_and_goes_away() {
        let run = RunDir::make().unwrap();
        let path = run.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(run);
        assert!(!path.exists());
    }
}
