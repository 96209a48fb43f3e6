//! The words of `c360 refresh`.

use clap::Args;

/// `c360 refresh`
#[derive(Debug, Clone, Args)]
pub struct Refresh {
    /// The REST source, as it is called in the configuration
    pub source: String,
    /// Ask about the customer of this email only
    #[arg(long)]
    pub email: Option<String>,
    /// Say what would be asked for, and ask nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
