//! The command line. Its words are frozen, because scripts use them; the pages behind `--help` are in `cli/help.rs`.

pub mod customer;
mod dead_letters;
mod help;
mod keys;
mod rebuild;
mod refresh;
mod source;
pub mod time;

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::telemetry::LogFormat;

pub use customer::{Customer, CustomerCommand};
pub use dead_letters::{DeadLetters, DeadLettersCommand, Discard, InState, List, Retry, Show, Which};
pub use keys::{AddKey, Keys, KeysCommand, ListKeys, RevokeKey};
pub use rebuild::Rebuild;
pub use refresh::Refresh;
pub use source::{Retire, Source, SourceCommand};

/// Customer-360 ingestion: Kafka, CSV and REST into golden customer records in Postgres
#[derive(Debug, Parser)]
#[command(name = "c360", version, long_about = help::C360, after_long_help = help::EXIT_CODES)]
#[command(arg_required_else_help = true, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration file [default: ./c360.toml]
    #[arg(long, global = true, env = "C360_CONFIG", value_name = "FILE", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    /// What log lines on standard error look like
    #[arg(long, global = true, env = "C360_LOG_FORMAT", value_enum, default_value_t, help_heading = "Everywhere")]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: every source, consolidation, expiry and the API
    #[command(long_about = help::RUN, after_long_help = help::RUN_END)]
    Run(Run),
    /// Show the reference scenario on embedded parts
    #[command(long_about = help::DEMO, after_long_help = help::DEMO_END)]
    Demo(Demo),
    /// Import the files of a CSV source now
    #[command(long_about = help::IMPORT, after_long_help = help::IMPORT_END)]
    Import(Import),
    /// Land messages of a Kafka source again
    #[command(long_about = help::REPLAY, after_long_help = help::REPLAY_END)]
    Replay(Replay),
    /// Ask a REST source now
    #[command(long_about = help::refresh::REFRESH, after_long_help = help::refresh::REFRESH_END)]
    Refresh(Refresh),
    /// Show how far every source is and what needs a look
    #[command(long_about = help::STATUS, after_long_help = help::STATUS_END)]
    Status(Status),
    /// List, show, retry or discard what could not be landed
    #[command(long_about = help::dead_letters::DEAD_LETTERS, after_long_help = help::dead_letters::DEAD_LETTERS_END)]
    DeadLetters(DeadLetters),
    /// Look at a customer, and correct who is who
    #[command(long_about = help::customer::CUSTOMER, after_long_help = help::customer::CUSTOMER_END)]
    Customer(Customer),
    /// Take out what a source said before a time
    #[command(long_about = help::source::SOURCE, after_long_help = help::source::SOURCE_END)]
    Source(Source),
    /// Recompute every profile under the current rules
    #[command(long_about = help::rebuild::REBUILD, after_long_help = help::rebuild::REBUILD_END)]
    Rebuild(Rebuild),
    /// Make, list and revoke the keys of the API
    #[command(long_about = help::keys::KEYS, after_long_help = help::keys::KEYS_END)]
    Keys(Keys),
    /// Serve the API and the dashboard without reading any source
    #[command(long_about = help::SERVE, after_long_help = help::SERVE_END)]
    Serve,
    /// Drop the staged records whose time is over
    #[command(long_about = help::EXPIRE, after_long_help = help::EXPIRE_END)]
    Expire,
    /// Bring the database's schemas up to date
    #[command(long_about = help::MIGRATE, after_long_help = help::MIGRATE_END)]
    Migrate(Migrate),
    /// Check or print the configuration
    #[command(long_about = help::CONFIG, after_long_help = help::CONFIG_END)]
    Config(Config),
    /// Print a script that completes c360's commands in a shell
    #[command(long_about = help::COMPLETIONS, after_long_help = help::COMPLETIONS_END)]
    Completions(Completions),
    /// Serve the online store of the reference scenario
    #[command(hide = true, long_about = help::SAMPLE_STORE)]
    SampleStore(SampleStore),
}

/// `c360 run`
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Catch up with every source, consolidate, and exit
    #[arg(long)]
    pub once: bool,
    /// Do not serve the API and the dashboard
    #[arg(long)]
    pub no_http: bool,
}

/// `c360 demo`
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Print the result and exit, instead of serving the dashboard
    #[arg(long)]
    pub once: bool,
    /// With --once: print one JSON document a line
    #[arg(long, requires = "once")]
    pub json: bool,
}

/// `c360 import`
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// The CSV source, as it is called in the configuration
    pub source: String,
    /// Files to import; default: those of the source's directory
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Read and check everything, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Import a file even where the source's limits refuse it
    #[arg(long)]
    pub accept: bool,
    /// Import a file once more that has been imported before, as it is read by now
    #[arg(long)]
    pub again: bool,
}

/// `c360 replay`
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// The Kafka source, as it is called in the configuration
    pub source: String,
    /// Of this topic only
    #[arg(long)]
    pub topic: Option<String>,
    /// Of this partition only
    #[arg(long)]
    pub partition: Option<i32>,
    /// From the first message of this time on [default: from the first there is]
    #[arg(long, value_name = "TIME", value_parser = time::parse, conflicts_with = "from_offset")]
    pub from: Option<DateTime<Utc>>,
    /// From this offset on
    #[arg(long, value_name = "OFFSET")]
    pub from_offset: Option<i64>,
    /// Up to before the first message of this time [default: as far as the source is landed]
    #[arg(long, value_name = "TIME", value_parser = time::parse, conflicts_with = "to_offset")]
    pub to: Option<DateTime<Utc>>,
    /// Up to before this offset
    #[arg(long, value_name = "OFFSET")]
    pub to_offset: Option<i64>,
    /// The source's log has begun again: from here on everything is newer than all before
    #[arg(long)]
    pub new_epoch: bool,
    /// Read and look what would change, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `c360 status`
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 when something needs a look
    #[arg(long)]
    pub check: bool,
}

/// `c360 migrate`
#[derive(Debug, Clone, Copy, Args)]
pub struct Migrate {
    /// Say which migrations would run, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `c360 config`
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration can be used, and if not, why
    #[command(long_about = help::CONFIG_CHECK, after_long_help = help::CONFIG_CHECK_END)]
    Check,
    /// Print the configuration in force, without its secrets
    #[command(long_about = help::CONFIG_PRINT, after_long_help = help::CONFIG_PRINT_END)]
    Print,
}

/// `c360 completions`
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// `c360 sample-store`
#[derive(Debug, Clone, Args)]
pub struct SampleStore {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// The store's customers, orders and products
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_page_with_examples_and_exit_codes() {
        let mut command = Cli::command();
        command.build();
        let mut commands: Vec<&mut clap::Command> = command.get_subcommands_mut().collect();
        while let Some(command) = commands.pop() {
            let page = command.render_long_help().to_string();
            if !command.is_hide_set() {
                for part in ["Examples:", "Exit codes:"] {
                    assert!(page.contains(part), "`{}` lacks {part}\n{page}", command.get_name());
                }
            }
            commands.extend(command.get_subcommands_mut());
        }
    }

    #[test]
    fn options_for_all_commands_stand_anywhere() {
        let cli = Cli::try_parse_from(["c360", "import", "loyalty", "a.csv", "--again", "--config", "x.toml"]).unwrap();
        assert_eq!(cli.global.config, Some("x.toml".into()));
        let Command::Import(import) = cli.command else { panic!("{cli:?}") };
        assert!(import.again && !import.accept && import.files == [PathBuf::from("a.csv")]);
    }

    #[test]
    fn json_documents_of_the_demo_need_an_end() {
        assert!(Cli::try_parse_from(["c360", "demo", "--json"]).is_err());
        assert!(Cli::try_parse_from(["c360", "demo", "--once", "--json"]).is_ok());
    }
}
