//! `c360 expire`

use std::io::Write;

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::upkeep;

/// Drops what is over, once, and says what became of it.
pub(super) async fn run(config: Config) -> anyhow::Result<Exit> {
    let installation = Installation::open(config).await?;
    installation.prepare_soon(&CancellationToken::new()).await?;
    let kept = upkeep::keep(&installation.database, installation.config.retention, Utc::now()).await?;
    let mut stdout = std::io::stdout().lock();
    writeln!(
        stdout,
        "dropped {} partitions; {} held back by batches that are not consolidated; {} in use by readers",
        kept.records.dropped, kept.records.held_back, kept.records.locked
    )?;
    writeln!(
        stdout,
        "dropped {} months of the history of profiles, {} in use by readers; forgot {} settled dead letters, {} edits that \
         sources have taken and {} entries of the audit log",
        kept.changes.dropped, kept.changes.locked, kept.dead_letters, kept.edits, kept.audit
    )?;
    Ok(Exit::Done)
}
