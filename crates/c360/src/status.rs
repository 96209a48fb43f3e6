//! `c360 status`: how far every source is and what needs a look.

use crate::cli;
use crate::config::Config;
use crate::exit::Exit;

/// Prints the status.
pub async fn run(args: cli::Status, config: Config) -> anyhow::Result<Exit> {
    let _ = (args, config);
    anyhow::bail!("being built")
}
