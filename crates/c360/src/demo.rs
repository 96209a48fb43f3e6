//! `c360 demo`: the reference scenario on embedded parts.

use crate::cli;
use crate::exit::Exit;

/// Runs the demo.
pub async fn run(args: cli::Demo) -> anyhow::Result<Exit> {
    let _ = args;
    anyhow::bail!("being built")
}
