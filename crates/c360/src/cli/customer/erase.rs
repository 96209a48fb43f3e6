//! The words of `c360 customer erase`, `readmit` and `export`.

use clap::Args;

use super::Whom;

/// `c360 customer erase`
#[derive(Debug, Clone, Args)]
pub struct Erase {
    /// Whom.
    #[command(flatten)]
    pub whom: Whom,
    /// Say what would be erased, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub yes: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `c360 customer readmit`
#[derive(Debug, Clone, Args)]
pub struct Readmit {
    /// Whom.
    #[command(flatten)]
    pub whom: Whom,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `c360 customer export`
#[derive(Debug, Clone, Args)]
pub struct Export {
    /// Whom.
    #[command(flatten)]
    pub whom: Whom,
    /// It is JSON in any case: on one line, instead of for people
    #[arg(long)]
    pub json: bool,
}
