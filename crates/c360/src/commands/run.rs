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
    let Some(installation) = prepared(config, args.once, &cancel).await? else { return Ok(Exit::Done) };
    if args.once {
        let outcome = catch_up::everything(&installation, &cancel, &mut |_| {}).await?;
        return Ok(outcome.exit());
    }
    daemon::run(installation, !args.no_http, cancel).await
}

/// The installation, its database prepared; `soon` as commands want it. `None` for whoever is stopped meanwhile: that one has
/// done what it was asked.
pub(super) async fn prepared(
    config: Config,
    soon: bool,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<Installation>> {
    let preparing = async {
        let installation = Installation::open(config).await?;
        if soon {
            installation.prepare_soon(cancel).await?;
        } else {
            installation.prepare(cancel).await?;
        }
        Ok(installation)
    };
    cancel.run_until_cancelled(preparing).await.transpose()
}
