//! `c360 serve`

use crate::config::Config;
use crate::exit::Exit;
use crate::{daemon, stop, telemetry};

use super::run::prepared;

/// Serves the API beside daemons that run elsewhere.
pub(super) async fn run(config: Config) -> anyhow::Result<Exit> {
    let cancel = stop::on_signal()?;
    let metrics = telemetry::count()?;
    let Some(mut installation) = prepared(config, true, &cancel).await? else { return Ok(Exit::Done) };
    let listener = daemon::listen(&installation.config).await?;
    let upkeep = tokio::spawn(telemetry::upkeep(metrics.clone()));
    let settings = installation.serving(&cancel)?;
    let ended = tokio::select! {
        served = serve::serve(listener, settings, metrics, cancel) => served.map_err(Into::into),
        why = installation.database_ended() => Err(why),
    };
    upkeep.abort();
    ended.map(|()| Exit::Done)
}
