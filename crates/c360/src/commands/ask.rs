//! Asking whoever sits there.

use std::io::{self, Write};

/// Whether the answer is yes; anything else, and none at all, is no.
pub(super) fn says_yes(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
