//! The words of `c360 customer`.

mod erase;

use clap::{Args, Subcommand, ValueEnum};

use super::help::customer as help;

pub use erase::{Erase, Export, Readmit};

/// `c360 customer`
#[derive(Debug, Clone, Args)]
pub struct Customer {
    /// What to do with one.
    #[command(subcommand)]
    pub command: CustomerCommand,
}

/// What to do with a customer.
#[derive(Debug, Clone, Subcommand)]
pub enum CustomerCommand {
    /// Show a customer: profile, cross-references, orders
    #[command(long_about = help::SHOW, after_long_help = help::SHOW_END)]
    Show(Show),
    /// Explain a profile: who supplied each value, and why not the others
    #[command(long_about = help::EXPLAIN, after_long_help = help::EXPLAIN_END)]
    Explain(Explain),
    /// Make two customers one
    #[command(long_about = help::MERGE, after_long_help = help::MERGE_END)]
    Merge(Merge),
    /// Give one cross-reference a customer of its own
    #[command(long_about = help::SPLIT, after_long_help = help::SPLIT_END)]
    Split(Split),
    /// Let an email match nobody
    #[command(long_about = help::BLOCK, after_long_help = help::BLOCK_END)]
    Block(Value),
    /// Let a blocked email match again
    #[command(long_about = help::UNBLOCK, after_long_help = help::UNBLOCK_END)]
    Unblock(Value),
    /// Let in whom a crowded match key keeps out
    #[command(long_about = help::ALLOW, after_long_help = help::ALLOW_END)]
    Allow(Allow),
    /// Undo a decision
    #[command(long_about = help::UNDO, after_long_help = help::UNDO_END)]
    Undo(Undo),
    /// List whom a guard keeps out
    #[command(long_about = help::UNMATCHED, after_long_help = help::UNMATCHED_END)]
    Unmatched(Unmatched),
    /// Erase one person out of everything, for good
    #[command(long_about = help::erase::ERASE, after_long_help = help::erase::ERASE_END)]
    Erase(Erase),
    /// Let a person in again who was erased
    #[command(long_about = help::erase::READMIT, after_long_help = help::erase::READMIT_END)]
    Readmit(Readmit),
    /// Print everything about one person as one JSON document
    #[command(long_about = help::erase::EXPORT, after_long_help = help::erase::EXPORT_END)]
    Export(Export),
}

/// Whom.
#[derive(Debug, Clone, Args)]
pub struct Whom {
    /// An email, a customer id, or a system and its id (`loyalty 27` or `loyalty:27`)
    #[arg(value_name = "KEY", required = true, num_args = 1..=2)]
    pub key: Vec<String>,
}

/// What every decision takes.
#[derive(Debug, Clone, Args)]
pub struct Deciding {
    /// Show what would come of it, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Who decides [default: the user of the operating system]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `c360 customer show`
#[derive(Debug, Clone, Args)]
pub struct Show {
    /// Whom.
    #[command(flatten)]
    pub whom: Whom,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `c360 customer explain`
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// Whom.
    #[command(flatten)]
    pub whom: Whom,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `c360 customer merge`
#[derive(Debug, Clone, Args)]
pub struct Merge {
    /// Whose records go to the other
    #[arg(value_name = "KEY")]
    pub from: String,
    /// Whose customer both are from now on
    #[arg(value_name = "INTO")]
    pub into: String,
    /// How.
    #[command(flatten)]
    pub deciding: Deciding,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub yes: bool,
}

/// `c360 customer split`
#[derive(Debug, Clone, Args)]
pub struct Split {
    /// A system and its id: `loyalty 27` or `loyalty:27`
    #[arg(value_name = "SYSTEM ID", required = true, num_args = 1..=2)]
    pub xref: Vec<String>,
    /// How.
    #[command(flatten)]
    pub deciding: Deciding,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub yes: bool,
}

/// `c360 customer block` and `unblock`
#[derive(Debug, Clone, Args)]
pub struct Value {
    /// The email, in any spelling
    #[arg(value_name = "VALUE")]
    pub value: String,
    /// How.
    #[command(flatten)]
    pub deciding: Deciding,
}

/// `c360 customer allow`
#[derive(Debug, Clone, Args)]
pub struct Allow {
    /// Whom.
    #[command(flatten)]
    pub whom: Whom,
    /// How.
    #[command(flatten)]
    pub deciding: Deciding,
}

/// `c360 customer undo`
#[derive(Debug, Clone, Args)]
pub struct Undo {
    /// A decision's number; a KEY, for the last decision on it; or a system and its id, for a split
    #[arg(value_name = "WHAT", required = true, num_args = 1..=2)]
    pub what: Vec<String>,
    /// How.
    #[command(flatten)]
    pub deciding: Deciding,
}

/// Why somebody belongs to no customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is its word")]
pub enum Reason {
    NoEmail,
    InvalidEmail,
    Blocked,
    Crowded,
}

/// `c360 customer unmatched`
#[derive(Debug, Clone, Args)]
pub struct Unmatched {
    /// Only for this reason
    #[arg(value_enum)]
    pub reason: Option<Reason>,
    /// Only of this system
    #[arg(long)]
    pub system: Option<String>,
    /// List at most so many [default: 50; with --json: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Print one JSON document a line
    #[arg(long)]
    pub json: bool,
}
