//! `c360 expire`

use chrono::Utc;

use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;

/// Drops the staged records whose time is over, once, and says what became of them.
pub(super) async fn run(config: Config) -> anyhow::Result<Exit> {
    let installation = Installation::open(config).await?;
    installation.prepare_soon().await?;
    let mut connection = staging::connect(&installation.database).await?;
    let expired = staging::expire(&mut connection, Utc::now()).await?;
    println!(
        "dropped {} partitions; {} held back by batches that are not consolidated; {} in use by readers",
        expired.dropped, expired.held_back, expired.locked
    );
    Ok(Exit::Done)
}
