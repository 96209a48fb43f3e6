//! Catching up once, for `run --once`.

use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use sqlx::postgres::PgConnectOptions;
use staging::Lander;
use staging::offsets::Progress;
use tokio_util::sync::CancellationToken;

use crate::client::{ALONE_PATIENCE, ASK_TIMEOUT, Bounds, Client};
use crate::consume::{Plan, Target};
use crate::session::Session;
use crate::status::{Board, StoppedPartition};
use crate::{Error, Settings};

/// What catching up did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaughtUp {
    /// Records landed by this call.
    pub records: u64,
    /// Messages that became dead letters.
    pub dead_letters: u64,
    /// Messages that were nothing to land.
    pub skipped: u64,
    /// Partitions that could not be read to the end, and wait for an operator.
    pub stopped: Vec<StoppedPartition>,
}

/// Lands everything that is on the source's topics now, without joining the group: it is done when stored progress has
/// reached the ends that the partitions had at the start, whoever landed them. A daemon may run beside it.
///
/// Brokers that do not answer for half a minute are [`Error::Unreachable`]. When cancelled, it returns what it has done.
pub async fn catch_up(
    settings: Settings,
    database: PgConnectOptions,
    mut lander: Lander,
    cancel: CancellationToken,
) -> Result<CaughtUp, Error> {
    settings.check()?;
    let board = Arc::new(Board::default());
    let session = Session {
        settings: &Arc::new(settings),
        database: &database,
        lander: &mut lander,
        board: &board,
        progress: Progress::Source,
        cancel: &cancel,
    };
    Box::pin(session.run(|settings, client| targets(settings, client).map(Plan::Alone))).await?;
    Ok(CaughtUp::of(&board))
}

impl CaughtUp {
    pub(crate) fn of(board: &Board) -> Self {
        let (records, dead_letters, skipped) = board.totals.read();
        Self { records, dead_letters, skipped, stopped: board.read().stopped() }
    }
}

/// All partitions of the source's topics with their bounds. A topic that is named must exist; a pattern may match nothing.
pub(crate) fn targets(settings: &Settings, client: &Client) -> Result<Vec<Target>, Error> {
    let deadline = Instant::now() + ALONE_PATIENCE;
    let unreachable = |error: KafkaError| Error::Unreachable {
        from: settings.name.clone(),
        brokers: settings.brokers.clone(),
        error: Box::new(error),
    };
    let metadata = loop {
        match client.fetch_metadata(None, ASK_TIMEOUT) {
            Ok(metadata) => break metadata,
            Err(error) if Instant::now() > deadline => return Err(unreachable(error)),
            Err(_) => {}
        }
    };
    for topic in settings.topics.iter().filter(|topic| !topic.starts_with('^')) {
        if !metadata.topics().iter().any(|known| known.name() == topic && known.error().is_none()) {
            return Err(Error::UnknownTopic { from: settings.name.clone(), topic: topic.clone() });
        }
    }
    let mut targets = Vec::new();
    for topic in metadata.topics().iter().filter(|topic| settings.reads(topic.name())) {
        for partition in topic.partitions() {
            let (low, high) = loop {
                match client.fetch_watermarks(topic.name(), partition.id(), ASK_TIMEOUT) {
                    Ok(bounds) => break bounds,
                    Err(error) if Instant::now() > deadline || is_final(&error) => return Err(unreachable(error)),
                    Err(_) => std::thread::sleep(std::time::Duration::from_millis(200)),
                }
            };
            targets.push(Target {
                topic: topic.name().to_owned(),
                partition: partition.id(),
                bounds: Bounds { low, high },
            });
        }
    }
    Ok(targets)
}

fn is_final(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::UnknownTopicOrPartition)
    )
}
