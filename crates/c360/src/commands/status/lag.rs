//! The lag of Kafka sources that nobody reads at the moment, asked of their brokers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use model::InstallationKey;
use sqlx::postgres::PgConnectOptions;
use status::{Facts, Lags, Setup};

use crate::config::Config;
use crate::sources::{Ingester, ingester};

/// Somebody waits for the page.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks for all sources at once.
pub(super) async fn ask(
    config: &Config,
    setup: &Setup,
    database: &PgConnectOptions,
    facts: &Facts,
    now: DateTime<Utc>,
) -> Lags {
    let silent = config.sources.iter().filter(|(name, _)| !facts.is_heard(name, setup.sources.get(*name), now));
    let asking = silent.filter_map(|(name, source)| {
        // Nothing is decoded here, so that any key does.
        match ingester(name, source, &InstallationKey::new([0; 32])) {
            Ok(Ingester::Kafka(settings)) => Some((name.clone(), ask_one(settings, database.clone()))),
            _ => None,
        }
    });
    let asking = asking.map(|(name, asked)| async move { (name, asked.await) });
    futures::future::join_all(asking).await.into_iter().collect()
}

/// On a thread of its own, which is left behind when it takes too long: the client waits for brokers much longer, and a
/// runtime does not end before its blocking threads do.
async fn ask_one(settings: ingest_kafka::Settings, database: PgConnectOptions) -> Result<i64, String> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let brokers = settings.brokers.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let lag = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
            let lags = runtime.block_on(ingest_kafka::lag(&settings, &database)).map_err(|error| error.to_string())?;
            Ok(lags.iter().map(|partition| partition.lag).sum())
        });
        // Nobody waits for it any more: that is the timeout's business.
        let _ = answer.send(lag);
    });
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(lag)) => lag,
        _ => Err(format!("no broker at {brokers} answered within {} s", PATIENCE.as_secs())),
    }
}
