//! The words of `c360 keys`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serve::RowFilter;
use serve::keys::Role;

use super::{help, time};

/// `c360 keys`
#[derive(Debug, Clone, Args)]
pub struct Keys {
    /// What to do with them.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What to do with API keys.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, once
    #[command(long_about = help::keys::ADD, after_long_help = help::keys::ADD_END)]
    Add(AddKey),
    /// List the keys, without what is secret of them
    #[command(long_about = help::keys::LIST, after_long_help = help::keys::LIST_END)]
    List(ListKeys),
    /// Make a key invalid
    #[command(long_about = help::keys::REVOKE, after_long_help = help::keys::REVOKE_END)]
    Revoke(RevokeKey),
}

/// `c360 keys add`
#[derive(Debug, Clone, Args)]
pub struct AddKey {
    /// Who or what is to have it
    pub name: String,
    /// What it may do: viewer, agent or operator
    #[arg(long)]
    pub role: Role,
    /// Whom it may see, for example "state in ('NH', 'VT')" or "list team-7" [default: everybody]
    #[arg(long, value_name = "FILTER")]
    pub only: Option<RowFilter>,
    /// From when it is not valid any more [default: never]
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub expires: Option<DateTime<Utc>>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `c360 keys list`
#[derive(Debug, Clone, Copy, Args)]
pub struct ListKeys {
    /// Print one JSON document a line
    #[arg(long)]
    pub json: bool,
}

/// `c360 keys revoke`
#[derive(Debug, Clone, Args)]
pub struct RevokeKey {
    /// Its name, or its beginning as `c360 keys list` shows it
    pub key: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
