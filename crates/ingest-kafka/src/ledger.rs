//! Reading stored progress, on a connection of its own.

use model::LastSeen;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use staging::Patience;
use staging::offsets::{Epochs, LastMessage, PartitionEpochs, Progress, StoredOffset};
use tokio_util::sync::CancellationToken;

/// Where a partition is to be read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// Offset of the first message that is not landed; `None` when nothing is stored.
    pub(crate) next_offset: Option<i64>,
    /// The last log position before it.
    pub(crate) last_seen: Option<LastSeen>,
    /// The last message before it.
    pub(crate) last_message: Option<LastMessage>,
    /// Of which epoch its messages are.
    pub(crate) epochs: PartitionEpochs,
    /// Whether another replay has taken the place of this one.
    pub(crate) is_taken: bool,
}

impl Start {
    /// The message by which the partition is known again, if there is one.
    pub(crate) fn landmark(&self) -> Option<LastMessage> {
        self.last_message.filter(|last| Some(last.offset) < self.next_offset)
    }
}

/// All that is stored of a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    offsets: Vec<StoredOffset>,
    epochs: Epochs,
    /// Partitions that other replays land.
    taken: Vec<(String, i32)>,
}

impl Stored {
    pub(crate) fn start(&self, topic: &str, partition: i32) -> Start {
        let found = self.offsets.iter().find(|offset| offset.topic == topic && offset.partition == partition);
        Start {
            next_offset: found.map(|offset| offset.next_offset),
            last_seen: found.and_then(|offset| offset.last_seen),
            last_message: found.and_then(|offset| offset.last_message),
            epochs: self.epochs.of(topic, partition),
            is_taken: self.taken.iter().any(|(of_topic, number)| of_topic == topic && *number == partition),
        }
    }
}

/// Reads what is stored.
#[derive(Debug)]
pub(crate) struct Ledger {
    source: String,
    options: PgConnectOptions,
    progress: Progress,
    connection: Option<PgConnection>,
}

impl Ledger {
    pub(crate) fn new(source: &str, options: &PgConnectOptions, progress: Progress) -> Self {
        Self { source: source.to_owned(), options: options.clone(), progress, connection: None }
    }

    /// Reads until it works or `cancel` says stop.
    pub(crate) async fn read(&mut self, cancel: &CancellationToken) -> Result<Stored, staging::Error> {
        let mut patience = Patience::new("reading stored offsets");
        loop {
            match staging::in_time("reading stored offsets", self.try_read()).await {
                Ok(stored) => {
                    patience.worked();
                    return Ok(stored);
                }
                Err(error) => patience.wait(cancel, error).await?,
            }
        }
    }

    /// Raises the alarm that the table behind a topic was emptied; tries until it works or `cancel` says stop.
    pub(crate) async fn report_emptied(
        &mut self,
        word: &Value,
        cancel: &CancellationToken,
    ) -> Result<(), staging::Error> {
        let mut patience = Patience::new("reporting an emptied table");
        loop {
            match staging::in_time("reporting an emptied table", self.try_report_emptied(word)).await {
                Ok(()) => {
                    patience.worked();
                    return Ok(());
                }
                Err(error) => patience.wait(cancel, error).await?,
            }
        }
    }

    async fn try_report_emptied(&mut self, word: &Value) -> Result<(), staging::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => staging::connect(&self.options).await?,
        };
        staging::health::report_emptied(&mut connection, &self.source, word).await?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Reads once.
    pub(crate) async fn try_read(&mut self) -> Result<Stored, staging::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => staging::connect(&self.options).await?,
        };
        let (offsets, taken) = match &self.progress {
            Progress::Source => (staging::offsets::stored(&mut connection, &self.source).await?, Vec::new()),
            Progress::Replay(request) => {
                let replayed = staging::replays::stored(&mut connection, &self.source, request).await?;
                (replayed.own, replayed.others)
            }
        };
        let epochs = staging::offsets::epochs(&mut connection, &self.source).await?;
        // Kept only after success.
        self.connection = Some(connection);
        Ok(Stored { offsets, epochs, taken })
    }
}
