//! The commands: from the command line to an exit code.

mod ask;
mod completions;
mod config;
mod customer;
mod dead_letters;
mod expire;
mod foreseen;
mod import;
mod keys;
mod migrate;
mod progress;
mod rebuild;
mod refresh;
mod replay;
mod run;
mod sample_store;
mod serve;
mod source;
mod status;
mod table;

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::{Cli, Command, Global};
use crate::config::{Config, Environment};
use crate::exit::Exit;
use crate::telemetry;

/// Runs one command to its end.
///
/// # Errors
/// What the operator must know. [`Exit::of`] has the code for it.
pub async fn run(cli: Cli) -> anyhow::Result<Exit> {
    telemetry::log(cli.global.log_format, matches!(cli.command, Command::Demo(_)))?;
    let ended = match cli.command {
        Command::Run(args) => run::run(args, configured(&cli.global)?).await,
        Command::Demo(args) => crate::demo::run(args).await,
        Command::Import(args) => import::run(args, configured(&cli.global)?).await,
        Command::Replay(args) => replay::run(args, configured(&cli.global)?).await,
        Command::Refresh(args) => refresh::run(args, configured(&cli.global)?).await,
        Command::Status(args) => status::run(args, configured(&cli.global)?).await,
        Command::DeadLetters(args) => dead_letters::run(args.command, configured(&cli.global)?).await,
        Command::Customer(args) => customer::run(args.command, configured(&cli.global)?).await,
        Command::Source(args) => source::run(args.command, configured(&cli.global)?).await,
        Command::Rebuild(args) => rebuild::run(args, configured(&cli.global)?).await,
        Command::Keys(args) => keys::run(args.command, configured(&cli.global)?).await,
        Command::Serve => serve::run(configured(&cli.global)?).await,
        Command::Expire => expire::run(configured(&cli.global)?).await,
        Command::Migrate(args) => migrate::run(args, configured(&cli.global)?).await,
        Command::Config(args) => config::run(args.command, &cli.global),
        Command::Completions(args) => completions::run(args.shell),
        Command::SampleStore(args) => sample_store::run(args).await,
    };
    // Most commands are done once they have printed; those that end otherwise have said so themselves.
    ended.or_else(|error| Exit::Done.after(Err(error)))
}

/// Prints what a command has to say: a document as one line of JSON, or else a page for people.
fn print(json: bool, document: &impl Serialize, page: impl FnOnce() -> String) -> io::Result<()> {
    let text = if json { serde_json::to_string(document)? + "\n" } else { page() };
    io::stdout().lock().write_all(text.as_bytes())
}

/// The configuration that the command line and the environment name.
fn configured(global: &Global) -> anyhow::Result<Config> {
    Ok(Config::load(global.config.as_deref(), &Environment::of_process())?)
}
