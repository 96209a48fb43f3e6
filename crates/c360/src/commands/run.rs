//! `c360 run`

use tokio_util::sync::CancellationToken;

use crate::cli;
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::{catch_up, daemon, stop};

/// Runs the daemon, or catches up once.
pub(super) async fn run(args: cli::Run, config: Config) -> anyhow::Result<Exit> {
    if config.sources.is_empty() {
        return Err(Exit::Configuration.because(anyhow::anyhow!(
            "no sources are configured: there is nothing to run. Name them in c360.toml under [sources.NAME]"
        )));
    }
    let cancel = stop::on_signal()?;
    let installation = Installation::open(config).await?;
    if args.once {
        installation.prepare_soon(&cancel).await.or_else(|error| unless_stopped(&cancel, error))?;
        let outcome = catch_up::everything(&installation, &cancel, &mut |_| {}).await?;
        return Ok(outcome.exit());
    }
    installation.prepare(&cancel).await.or_else(|error| unless_stopped(&cancel, error))?;
    daemon::run(installation, !args.no_http, cancel).await
}

/// Whoever is stopped while it waits for its database has done what it was asked.
pub(super) fn unless_stopped(cancel: &CancellationToken, error: anyhow::Error) -> anyhow::Result<()> {
    if cancel.is_cancelled() { Ok(()) } else { Err(error) }
}
