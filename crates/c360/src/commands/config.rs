//! `c360 config check` and `c360 config print`.

use std::io::Write;

use crate::cli::{ConfigCommand, Global};
use crate::config::{Config, Environment};
use crate::exit::Exit;

pub(super) fn run(command: ConfigCommand, global: &Global) -> anyhow::Result<Exit> {
    let config = Config::load(global.config.as_deref(), &Environment::of_process())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut out = std::io::stdout().lock();
    match command {
        ConfigCommand::Check => {
            let file = config.file.as_ref().map_or("the environment".to_owned(), |file| file.display().to_string());
            let sources = config.sources.iter().map(|(name, source)| format!("{name} ({})", source.kind.name()));
            let sources = sources.collect::<Vec<_>>().join(", ");
            writeln!(out, "{file} can be used; sources: {}", if sources.is_empty() { "none" } else { &sources })?;
        }
        ConfigCommand::Print => write!(out, "{}", config.to_redacted_toml())?,
    }
    Ok(Exit::Done)
}
