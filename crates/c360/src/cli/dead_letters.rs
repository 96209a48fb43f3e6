//! The words of `c360 dead-letters`.

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::help::dead_letters as help;
use super::time;

/// `c360 dead-letters`
#[derive(Debug, Clone, Args)]
pub struct DeadLetters {
    /// What to do with them.
    #[command(subcommand)]
    pub command: DeadLettersCommand,
}

/// What to do with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum DeadLettersCommand {
    /// Show what is parked, where it came from and why
    #[command(long_about = help::LIST, after_long_help = help::LIST_END)]
    List(List),
    /// Open dead letters and show what they hold
    #[command(long_about = help::SHOW, after_long_help = help::SHOW_END)]
    Show(Show),
    /// Land what can be read by now
    #[command(long_about = help::RETRY, after_long_help = help::RETRY_END)]
    Retry(Retry),
    /// Give dead letters up and wipe what they hold
    #[command(long_about = help::DISCARD, after_long_help = help::DISCARD_END)]
    Discard(Discard),
}

/// Which dead letters.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// These, by their numbers
    #[arg(value_name = "ID")]
    pub ids: Vec<i64>,
    /// Of this source
    #[arg(long)]
    pub source: Option<String>,
    /// For this reason, as `not_json`
    #[arg(long)]
    pub reason: Option<String>,
    /// Parked at this time or later
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub since: Option<DateTime<Utc>>,
    /// Parked before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub until: Option<DateTime<Utc>>,
}

/// In which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each is its word")]
pub enum InState {
    Parked,
    Retried,
    Discarded,
    All,
}

/// `c360 dead-letters list`
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// In this state [default: parked; of letters named by their numbers: all]
    #[arg(long, value_enum)]
    pub state: Option<InState>,
    /// Show at most so many [default: 50; with --json: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Print one JSON document a line
    #[arg(long)]
    pub json: bool,
}

/// `c360 dead-letters show`
#[derive(Debug, Clone, Args)]
pub struct Show {
    /// Their numbers
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<i64>,
    /// Show values, too; only the credential stays hidden
    #[arg(long)]
    pub values: bool,
    /// Print the bytes as they came and nothing else; the only way to see bytes that do not parse
    #[arg(long, conflicts_with_all = ["values", "json"])]
    pub raw: bool,
    /// Print one JSON document a line
    #[arg(long)]
    pub json: bool,
}

/// `c360 dead-letters retry`
#[derive(Debug, Clone, Args)]
pub struct Retry {
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// Say what would land and what is still bad, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `c360 dead-letters discard`
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(group(
    ArgGroup::new("which").args(["ids", "source", "reason", "since", "until", "all"]).required(true).multiple(true)
))]
pub struct Discard {
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// All of them
    #[arg(long, conflicts_with_all = ["ids", "source", "reason", "since", "until"])]
    pub all: bool,
    /// Say how many it would be, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub yes: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
