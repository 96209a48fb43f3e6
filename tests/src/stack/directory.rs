//! Temporary directories, and the removal of those that killed tests have left.

use std::{fs, path::Path, sync::Once};

use anyhow::Result;
use tempfile::TempDir;

const PREFIX: &str = "c360-tests-";

/// A directory of its own for one part, removed with the handle.
///
/// Its name holds the process id, and the first call removes the directories of processes that are no more: one that
/// was killed could not remove its own.
pub(super) fn new(part: &str) -> Result<TempDir> {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| sweep(&std::env::temp_dir()));
    let prefix = format!("{PREFIX}{}-{part}-", std::process::id());
    Ok(tempfile::Builder::new().prefix(&prefix).tempdir()?)
}

/// Best effort: a directory that cannot be removed belongs to another user, or another sweep is at it.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if owner(&entry.file_name().to_string_lossy()).is_some_and(|pid| !is_alive(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_the_directories_of_dead_processes_only() {
        let parent = tempfile::tempdir().unwrap();
        let alive = format!("{PREFIX}{}-broker-x", std::process::id());
        // Above the kernel's limit for process ids.
        let dead = format!("{PREFIX}4194305-broker-x");
        for name in [&alive, &dead, "c360-tests-", "other-4194305-x"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }

        sweep(parent.path());

        assert!(parent.path().join(alive).exists());
        assert!(!parent.path().join(dead).exists());
        assert!(parent.path().join("c360-tests-").exists());
        assert!(parent.path().join("other-4194305-x").exists());
    }
}
