//! `c360 migrate`

use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;

/// Brings the schemas up to date, which `run` does by itself too.
pub(super) async fn run(config: Config) -> anyhow::Result<Exit> {
    let installation = Installation::open(config).await?;
    installation.prepare_soon().await?;
    println!("schemas staging and customer360 are up to date");
    Ok(Exit::Done)
}
