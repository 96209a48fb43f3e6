//! The words of `c360 source`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::help::source as help;
use super::time;

/// `c360 source`
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// What to do with it.
    #[command(subcommand)]
    pub command: SourceCommand,
}

/// What to do with a source.
#[derive(Debug, Clone, Subcommand)]
pub enum SourceCommand {
    /// Take out what a source said before a time
    #[command(long_about = help::RETIRE, after_long_help = help::RETIRE_END)]
    Retire(Retire),
}

/// `c360 source retire`
#[derive(Debug, Clone, Args)]
pub struct Retire {
    /// The source; it need not be configured any more
    pub name: String,
    /// What it said before this time, by its own clock [default: now]
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub before: Option<DateTime<Utc>>,
    /// Say what would be taken out, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub yes: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
