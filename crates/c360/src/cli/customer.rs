//! The words of `c360 customer`.

use clap::{Args, Subcommand};

use super::help::customer as help;

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
}

/// Whom.
#[derive(Debug, Clone, Args)]
pub struct Whom {
    /// An email, a customer id, or a system and its id (`loyalty 27` or `loyalty:27`)
    #[arg(value_name = "KEY", required = true, num_args = 1..=2)]
    pub key: Vec<String>,
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
