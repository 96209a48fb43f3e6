//! Processes that end with their handle, or with this process, whichever is first.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        mpsc::{Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

const POLL_INTERVAL: Duration = Duration::from_millis(50);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const LOG_LINES_IN_ERRORS: usize = 40;

/// A command whose process the kernel kills when this process dies, run as `user` if one is given.
///
/// To be started with [`Daemon::spawn`]: the kernel watches the *thread* that spawned the process.
pub(super) fn tied_command(program: impl AsRef<OsStr>, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user {
        command.args([format!("--reuid={user}"), format!("--regid={user}")]).arg("--init-groups");
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, with its output appended to `log`.
    pub(super) fn spawn(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawn_from_long_lived_thread(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks `is_ready` until it says yes. An error when the process ends before that, or the time does.
    pub(super) async fn ready(&mut self, timeout: Duration, mut is_ready: impl AsyncFnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended while starting ({status}); its log:\n{}", self.name, self.log_tail());
            }
            if is_ready().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{} is not ready after {timeout:?}; its log:\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Ends the process as an operator would, with TERM, and returns when it has ended.
    pub(super) async fn stop(mut self) -> Result<()> {
        let pid = self.pid();
        // The child is not yet waited for, so the number still is its own.
        tokio::process::Command::new("sh").arg("-c").arg(format!("kill -TERM {pid}")).status().await?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                bail!("{} did not stop in {STOP_TIMEOUT:?}; its log:\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    pub(super) fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status()?;
        ensure!(sent.success(), "{} has ended; its log:\n{}", self.name, self.log_tail());
        Ok(())
    }

    /// The last lines of the log, for error messages.
    pub(super) fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a file; says so when there is none.
pub(crate) fn tail(log: &Path) -> String {
    let text = match fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("({}: {error})", log.display()),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_IN_ERRORS)..].join("\n")
}

type Request = (Command, SyncSender<io::Result<Child>>);

/// The kernel sends the parent-death signal when the thread that forked ends, not when its process does. The threads of
/// a test and of its runtime end long before, so one thread that never ends does all the forking.
static SPAWNER: LazyLock<Sender<Request>> = LazyLock::new(|| {
    let (requests, inbox) = channel::<Request>();
    thread::spawn(move || {
        for (mut command, reply) in inbox {
            // A requester that has gone away takes its child with it: nobody else could.
            if let Err(unsent) = reply.send(command.spawn())
                && let Ok(mut child) = unsent.0
            {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    });
    requests
});

fn spawn_from_long_lived_thread(command: Command) -> io::Result<Child> {
    let (reply, answer) = sync_channel(1);
    SPAWNER.send((command, reply)).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pid: u32) -> PathBuf {
        PathBuf::from(format!("/proc/{pid}/comm"))
    }

    /// Returns once `setpriv` has asked for the signal and made way for the program.
    fn start_sleeper(log: &Path) -> Daemon {
        let mut command = tied_command("sleep", None);
        command.arg("60");
        let daemon = Daemon::spawn("sleep", command, log).unwrap();
        while fs::read_to_string(name(daemon.pid())).unwrap() != "sleep\n" {
            thread::yield_now();
        }
        daemon
    }

    #[test]
    fn outlives_the_thread_that_asked_for_it_but_not_its_handle() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut daemon = thread::spawn(move || start_sleeper(&log)).join().unwrap();
        // That nothing happens can only be waited for. The signal would come at once.
        thread::sleep(Duration::from_millis(100));
        assert!(daemon.child.try_wait().unwrap().is_none());

        let name = name(daemon.pid());
        drop(daemon);
        assert!(!name.exists());
    }

    #[tokio::test]
    async fn says_why_it_ended_while_starting() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = tied_command("sh", None);
        command.args(["-c", "echo no such luck; exit 3"]);
        let mut daemon = Daemon::spawn("sh", command, &directory.path().join("log")).unwrap();
        let error = daemon.ready(Duration::from_secs(30), async || false).await.unwrap_err();
        assert!(error.to_string().contains("no such luck"), "{error}");
    }
}
