//! What is told while the demo runs: plain lines on standard error, and on a terminal a spinner for what takes its time.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);

/// A line that stays. That nobody reads it is no reason to stop.
pub(super) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Shows on a terminal what is being done, until the answer is dropped.
pub(super) fn doing(what: &str) -> Doing {
    Doing(std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        let spinner = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        spinner.set_message(what.to_owned());
        spinner.enable_steady_tick(TICK);
        spinner
    }))
}

/// Something that is being done; the spinner goes when it is dropped. Tell nothing meanwhile.
pub(super) struct Doing(Option<ProgressBar>);

impl Drop for Doing {
    fn drop(&mut self) {
        if let Some(spinner) = &self.0 {
            spinner.finish_and_clear();
        }
    }
}
