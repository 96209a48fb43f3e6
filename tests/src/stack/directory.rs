//! Temporary directories, and the removal of those that killed tests have left.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::{Once, OnceLock},
};

use anyhow::Result;
use tempfile::TempDir;

const PREFIX: &str = "c360-tests-";

/// A directory of its own for one part, removed with the handle.
///
/// Its name holds the process id. What this process leaves behind, because it was killed or because statics are not
/// dropped, is removed when it has ended; what others have left, with the first call.
pub(super) fn new(part: &str) -> Result<TempDir> {
    static FIRST: Once = Once::new();
    let own = format!("{PREFIX}{}-", std::process::id());
    FIRST.call_once(|| {
        let parent = std::env::temp_dir();
        sweep(&parent);
        sweep_at_the_end(&parent.join(&own));
    });
    Ok(tempfile::Builder::new().prefix(&format!("{own}{part}-")).tempdir()?)
}

/// Starts a shell that waits until its input is closed, which is when this process ends, and removes what begins like this.
/// Best effort, as [`sweep`].
fn sweep_at_the_end(own: &Path) {
    static HELD: OnceLock<Option<ChildStdin>> = OnceLock::new();
    HELD.get_or_init(|| {
        // Servers die with this process, and may write a last time meanwhile.
        let script = r#"cat; for again in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$0"* && exit; sleep 0.2; done"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(own).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Whoever types Ctrl-C means the test.
        shell.process_group(0).spawn().ok()?.stdin.take()
    });
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
