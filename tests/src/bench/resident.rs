//! Memory over time.

use std::fmt::{self, Display, Formatter};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

const EVERY: Duration = Duration::from_millis(100);

/// Looks at the resident memory of a process ten times a second, on a thread of its own.
pub struct Watch {
    end: Sender<()>,
    watching: JoinHandle<Result<Vec<u64>>>,
}

impl Watch {
    /// Begins to look at this process.
    pub fn begin(process: u32) -> Self {
        let (end, ended) = channel();
        let watching = thread::spawn(move || {
            let mut bytes = Vec::new();
            loop {
                // First, for a program that was started a moment ago is not itself yet.
                let has_ended = ended.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
                bytes.push(resident(process)?);
                if has_ended {
                    return Ok(bytes);
                }
            }
        });
        Self { end, watching }
    }

    /// Ends, and says what it saw. An error when the process ended before.
    pub fn end(self) -> Result<Resident> {
        drop(self.end);
        let bytes = self.watching.join().map_err(|_| anyhow!("watching memory has panicked"))??;
        Ok(Resident { bytes })
    }
}

/// Resident memory over some time, in MB of a million bytes when displayed.
#[derive(Debug)]
pub struct Resident {
    bytes: Vec<u64>,
}

impl Resident {
    /// The most there was, in bytes.
    pub fn most(&self) -> u64 {
        self.bytes.iter().copied().max().unwrap_or_default()
    }
}

impl Display for Resident {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes / 1_000_000;
        let at = |quarter| mb(self.bytes[(self.bytes.len() - 1) * quarter / 4]);
        write!(
            f,
            "resident {} MB first, {} at a quarter of the time, {} at half, {} at three quarters, {} at most",
            at(0),
            at(1),
            at(2),
            at(3),
            mb(self.most())
        )
    }
}

fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the process has ended")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
