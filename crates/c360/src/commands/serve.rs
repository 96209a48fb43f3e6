//! `c360 serve`

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use crate::{daemon, stop, telemetry};

/// Serves the API beside daemons that run elsewhere.
pub(super) async fn run(config: Config) -> anyhow::Result<Exit> {
    let cancel = stop::on_signal()?;
    let metrics = telemetry::count()?;
    let installation = Installation::open(config).await?;
    installation.prepare_soon().await?;
    let listener = daemon::listen(&installation.config).await?;
    let upkeep = tokio::spawn(telemetry::upkeep(metrics.clone()));
    let served =
        serve::serve(listener, installation.serving(&cancel)?, metrics, CancellationToken::clone(&cancel)).await;
    upkeep.abort();
    served?;
    Ok(Exit::Done)
}
