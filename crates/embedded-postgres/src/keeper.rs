//! The keeper: a few lines of shell between this process and Postgres, so that Postgres and its directory go away
//! however this process ends.
//!
//! The keeper's standard input is a pipe of which only this process has the other end. When it closes, by a stop, an
//! exit or a `kill -9`, the keeper stops Postgres, waits for it and removes the run directory. Should someone kill the
//! keeper itself, Postgres gets SIGINT from the kernel (`setpriv --pdeathsig`, where there is one). The parent whose death
//! matters to the kernel is thus the keeper, which has one thread; were it this process, the death of the *thread* that
//! spawned Postgres would already end it.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, io};
use crate::identity::without_pg_variables;

/// SIGINT is Postgres's fast shutdown: no waiting for clients, and a checkpoint, so that nothing needs recovery. It is sent
/// again and again because one that comes before Postgres has its signal handlers is lost.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
run=$1
shift
exec 3<&0 </dev/null
"$@" 3<&- &
postgres=$!
{ read -r nothing <&3; while kill -INT $postgres; do sleep 1; done; } 2>/dev/null &
watcher=$!
exec 3<&-
wait $postgres
status=$?
kill -KILL $watcher
rm -rf -- "$run"
exit $status
"#;

/// How often to look whether the keeper has ended; it ends within milliseconds or after a checkpoint.
const POLL: Duration = Duration::from_millis(5);

/// A running keeper and, below it, a server.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Child,
    /// Closing it stops the server.
    lifeline: Option<ChildStdin>,
}

impl Keeper {
    /// Runs `server` (program and arguments) until this value, or this process, ends; then removes `run`.
    ///
    /// It has a process group of its own: Ctrl-C in a terminal goes to this process alone, which may have to finish
    /// something in the database before it lets go.
    pub(crate) fn spawn(run: &Path, server: &[OsString], log: &File) -> Result<Self, Error> {
        let output = || log.try_clone().map(Stdio::from).map_err(io("share", "the log of Postgres"));
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "c360-postgres-keeper"]).arg(run).args(server);
        command.stdin(Stdio::piped()).stdout(output()?).stderr(output()?).process_group(0).current_dir("/");
        without_pg_variables(&mut command);
        let mut child = command.spawn().map_err(io("run", "sh"))?;
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline })
    }

    /// Whether the server has ended (`Some`), and how.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(io("wait for", "the keeper of Postgres"))
    }

    /// Stops the server and waits for its end, `within` at most.
    pub(crate) fn stop(&mut self, within: Duration) -> Result<(), Error> {
        self.lifeline = None;
        let since = Instant::now();
        while self.ended()?.is_none() {
            if since.elapsed() > within {
                return Err(Error::StillStopping { seconds: within.as_secs() });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}
