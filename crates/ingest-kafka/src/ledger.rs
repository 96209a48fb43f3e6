//! Reading stored progress, on a connection of its own.

use model::LogPosition;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use staging::Patience;
use staging::offsets::StoredOffset;
use tokio_util::sync::CancellationToken;

/// Where a partition is to be read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// Offset of the first message that is not landed; `None` when nothing is stored.
    pub(crate) next_offset: Option<i64>,
    /// The last log position before it.
    pub(crate) log_position: Option<LogPosition>,
    /// The source's epoch.
    pub(crate) epoch: u32,
}

/// All that is stored of a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    offsets: Vec<StoredOffset>,
    epoch: u32,
}

impl Stored {
    pub(crate) fn start(&self, topic: &str, partition: i32) -> Start {
        let found = self.offsets.iter().find(|offset| offset.topic == topic && offset.partition == partition);
        Start {
            next_offset: found.map(|offset| offset.next_offset),
            log_position: found.and_then(|offset| offset.log_position),
            epoch: self.epoch,
        }
    }
}

/// Reads what is stored.
#[derive(Debug)]
pub(crate) struct Ledger {
    source: String,
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Ledger {
    pub(crate) fn new(source: &str, options: &PgConnectOptions) -> Self {
        Self { source: source.to_owned(), options: options.clone(), connection: None }
    }

    /// Reads until it works or `cancel` says stop.
    pub(crate) async fn read(&mut self, cancel: &CancellationToken) -> Result<Stored, staging::Error> {
        let mut patience = Patience::new("reading stored offsets");
        loop {
            match self.try_read().await {
                Ok(stored) => {
                    patience.worked();
                    return Ok(stored);
                }
                Err(error) => patience.wait(cancel, error).await?,
            }
        }
    }

    /// Reads once.
    pub(crate) async fn try_read(&mut self) -> Result<Stored, staging::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => staging::connect(&self.options).await?,
        };
        let offsets = staging::offsets::stored(&mut connection, &self.source).await?;
        let epoch = staging::offsets::epoch(&mut connection, &self.source).await?;
        // Kept only after success.
        self.connection = Some(connection);
        Ok(Stored { offsets, epoch })
    }
}
