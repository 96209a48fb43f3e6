//! The c360 command.

use c360::cli::Cli;
use c360::commands;
use c360::exit::Exit;
use clap::Parser;

fn main() -> Exit {
    let cli = Cli::parse();
    let ended = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(commands::run(cli)));
    ended.unwrap_or_else(|error| {
        eprintln!("c360: {error:#}");
        Exit::of(&error)
    })
}
