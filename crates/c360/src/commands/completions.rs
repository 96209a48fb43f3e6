//! `c360 completions`.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Exit;

pub(super) fn run(shell: Shell) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics on a pipe that somebody has closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "c360", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}
