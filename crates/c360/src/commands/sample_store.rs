//! `c360 sample-store`

use anyhow::Context;

use crate::cli;
use crate::exit::Exit;
use crate::sample_store::{Store, serve};
use crate::stop;

/// Serves the online store of the reference scenario.
pub(super) async fn run(args: cli::SampleStore) -> anyhow::Result<Exit> {
    let store = Store::load(&args.data).map_err(|error| Exit::NotFound.because(error))?;
    let listener = tokio::net::TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
    tracing::info!("serving the sample store on http://{}", listener.local_addr()?);
    let cancel = stop::on_signal()?;
    serve(listener, store, async move { cancel.cancelled().await }).await?;
    Ok(Exit::Done)
}
