//! Catching up once, for `run --once`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use sqlx::postgres::PgConnectOptions;
use staging::Lander;
use staging::health::Speaker;
use staging::offsets::Progress;
use tokio_util::sync::CancellationToken;

use crate::client::{self, ALONE_PATIENCE, ASK_TIMEOUT, Bounds, Client};
use crate::consume::{Plan, Target};
use crate::session::Session;
use crate::status::{Board, StoppedPartition};
use crate::{Error, Settings};

/// How long the first question to brokers may take; the next ones, longer and longer.
const FIRST_ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// Between questions.
const PAUSE: Duration = Duration::from_millis(200);

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
        speaker: Speaker::Command,
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
    let metadata = ask(settings, client, deadline, |timeout| client.fetch_metadata(None, timeout))?;
    for topic in settings.all_topics().into_iter().filter(|topic| !topic.starts_with('^')) {
        if !metadata.topics().iter().any(|known| known.name() == topic && known.error().is_none()) {
            return Err(Error::UnknownTopic { from: settings.name.clone(), topic: topic.to_owned() });
        }
    }
    let mut targets = Vec::new();
    for topic in metadata.topics().iter().filter(|topic| settings.reads(topic.name())) {
        for partition in topic.partitions() {
            let (topic, number) = (topic.name(), partition.id());
            let (low, high) =
                ask(settings, client, deadline, |timeout| client.fetch_watermarks(topic, number, timeout))?;
            targets.push(Target { topic: topic.to_owned(), partition: number, bounds: Bounds { low, high } });
        }
    }
    Ok(targets)
}

/// Asks brokers until they answer or the time is over. What waiting does not cure ends it at once.
pub(crate) fn ask<T>(
    settings: &Settings,
    client: &Client,
    deadline: Instant,
    question: impl Fn(Duration) -> KafkaResult<T>,
) -> Result<T, Error> {
    // Short at first: while it waits for an answer, nobody hears why there is none.
    let mut timeout = FIRST_ASK_TIMEOUT;
    loop {
        let error = match question(timeout) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let mut is_any_up = true;
        while Instant::now() < deadline
            && let Some(heard) = client.poll(PAUSE)
        {
            is_any_up &= !matches!(heard, Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown)));
            if !is_any_up && client.context().trouble().is_some_and(|trouble| trouble.is_lasting) {
                return Err(client::unreachable(settings, client, &error));
            }
        }
        if Instant::now() > deadline || is_final(&error) {
            return Err(client::unreachable(settings, client, &error));
        }
        timeout = (timeout * 2).min(ASK_TIMEOUT);
    }
}

/// A broker that does not know a partition yet will: it was listed a moment ago.
fn is_final(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}
