//! The commands: from the command line to an exit code.

mod completions;
mod config;

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::telemetry;

/// Runs one command to its end.
///
/// # Errors
/// What the operator must know. [`Exit::of`] has the code for it.
#[expect(clippy::unused_async, reason = "the commands to come wait for databases and sources")]
pub async fn run(cli: Cli) -> anyhow::Result<Exit> {
    telemetry::log(cli.global.log_format)?;
    match cli.command {
        Command::Config(args) => config::run(args.command, &cli.global),
        Command::Completions(args) => completions::run(args.shell),
        command => not_wired_yet(&command),
    }
}

/// The one place that stands in for the commands that are still to come.
fn not_wired_yet(command: &Command) -> anyhow::Result<Exit> {
    let debug = format!("{command:?}");
    let name = debug.split(['(', ' ']).next().unwrap_or_default();
    Err(anyhow::anyhow!("`{name}` is not wired yet"))
}
