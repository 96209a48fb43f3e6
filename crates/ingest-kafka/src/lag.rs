//! How far behind stored progress is, asked of the brokers.

use sqlx::postgres::PgConnectOptions;
use staging::offsets::Progress;

use crate::catch_up::targets;
use crate::client;
use crate::ledger::Ledger;
use crate::{Error, Settings};

/// One partition of a source.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PartitionLag {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset of the first message that is not landed; `None` when nothing is stored.
    pub next_offset: Option<i64>,
    /// Offset of the first message there is.
    pub low: i64,
    /// Offset behind the last message.
    pub high: i64,
    /// Messages that are not landed.
    pub lag: i64,
}

/// The lag of every partition. Fails when no broker answers within half a minute.
pub async fn lag(settings: &Settings, database: &PgConnectOptions) -> Result<Vec<PartitionLag>, Error> {
    settings.check()?;
    let asked = settings.clone();
    let asking = tokio::task::spawn_blocking(move || targets(&asked, &client::connect(&asked)?));
    let targets =
        asking.await.map_err(|error| Error::Thread { from: settings.name.clone(), problem: error.to_string() })??;
    let stored = Ledger::new(&settings.name, database, Progress::Source).try_read().await?;
    let lag = |target: crate::consume::Target| {
        let next_offset = stored.start(&target.topic, target.partition).next_offset;
        let (low, high) = (target.bounds.low, target.bounds.high);
        let lag = (high - next_offset.unwrap_or(low).max(low)).max(0);
        PartitionLag { topic: target.topic, partition: target.partition, next_offset, low, high, lag }
    };
    Ok(targets.into_iter().map(lag).collect())
}
