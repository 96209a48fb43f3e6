//! The words of `c360 rebuild`.

use clap::Args;

/// `c360 rebuild`
#[derive(Debug, Clone, Args)]
pub struct Rebuild {
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
