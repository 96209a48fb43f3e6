//! Landing messages again, for `c360 replay`: beside whoever reads the source, or instead of progress that cannot go on.

mod plan;
mod request;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use model::Record;
use sqlx::postgres::PgConnectOptions;
use staging::Lander;
use staging::health::Speaker;
use staging::offsets::{Epochs, PartitionEpochs, Progress, StoredOffset};
use staging::replays::{self, Rewind, Section};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::catch_up::CaughtUp;
use crate::client::{self, Bounds};
use crate::consume::{Plan, Target};
use crate::decode::{Decoder, Outcome, Seen};
use crate::passage;
use crate::session::Session;
use crate::status::Board;
use crate::{Error, Settings};

pub use plan::Part;
pub use request::{Place, Request};

/// How often whoever waits is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Records that a dry run hands over together.
const READ_RECORDS: usize = 2_000;

/// A replay that is thought through and not begun: asking brokers and the database changed nothing.
#[derive(Debug)]
pub struct Replay {
    settings: Arc<Settings>,
    database: PgConnectOptions,
    request: Request,
    epochs: Epochs,
    parts: Vec<Part>,
}

/// What messages would become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records.
    pub records: u64,
    /// Messages that would become dead letters.
    pub dead_letters: u64,
    /// Messages that are nothing to land.
    pub skipped: u64,
}

impl Replay {
    /// Finds out what a request means now. Errors name what can be asked for instead.
    pub async fn plan(settings: Settings, database: &PgConnectOptions, request: Request) -> Result<Self, Error> {
        settings.check()?;
        let mut connection = staging::connect(database).await?;
        let stored = staging::offsets::stored(&mut connection, &settings.name).await?;
        let epochs = staging::offsets::epochs(&mut connection, &settings.name).await?;
        let begun = replays::unfinished(&mut connection, &settings.name, &request.to_string()).await?;
        let settings = Arc::new(settings);
        let (asked, wanted) = (settings.clone(), request.clone());
        let planning = tokio::task::spawn_blocking(move || {
            let client = client::connect(&asked)?;
            plan::plan(&asked, &client, &wanted, &stored, &begun)
        });
        let panicked =
            |error: tokio::task::JoinError| Error::Thread { from: settings.name.clone(), problem: error.to_string() };
        let parts = planning.await.map_err(panicked)??;
        Ok(Self { settings, database: database.clone(), request, epochs, parts })
    }

    /// What is landed again, by topic and partition; empty when there is nothing.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many messages that is, at most: offsets that hold none count too.
    pub fn messages(&self) -> u64 {
        self.parts.iter().map(Part::messages).sum()
    }

    /// Lands. `tell` hears how many messages are done. Cancelled, it returns what it has done; the same request goes on from
    /// there.
    pub async fn run(
        &self,
        mut lander: Lander,
        tell: &mut (dyn FnMut(u64) + Send),
        cancel: &CancellationToken,
    ) -> Result<CaughtUp, Error> {
        let source = &self.settings.name;
        let mut connection = staging::connect(&self.database).await?;
        let (rewound, again): (Vec<&Part>, Vec<&Part>) = self.parts.iter().partition(|part| part.rewinds);
        if self.request.new_epoch || !rewound.is_empty() {
            let rewinds: Vec<Rewind> = rewound.iter().map(|part| part.rewind()).collect();
            if !replays::rewind(&mut connection, source, &rewinds, self.request.new_epoch, Utc::now()).await? {
                return Err(Error::Moved { from: source.clone() });
            }
        }
        let sections: Vec<Section> = again.iter().map(|part| part.section()).collect();
        let request: Arc<str> = self.request.to_string().into();
        replays::begin(&mut connection, source, &request, &sections, Utc::now()).await?;
        drop(connection);

        let board = Arc::new(Board::default());
        for (progress, parts) in [(Progress::Source, rewound), (Progress::Replay(request), again)] {
            let targets: Vec<Target> = parts.iter().map(|part| part.target()).collect();
            if targets.is_empty() || cancel.is_cancelled() {
                continue;
            }
            let session = Session {
                settings: &self.settings,
                database: &self.database,
                lander: &mut lander,
                board: &board,
                progress,
                speaker: Speaker::Command,
                cancel,
            };
            let mut running = Box::pin(session.run(|_, _| Ok(Plan::Alone(targets))));
            let mut ticks = tokio::time::interval(TELL_EVERY);
            loop {
                tokio::select! {
                    ended = &mut running => break ended?,
                    _ = ticks.tick() => {
                        let (records, dead_letters, skipped) = board.totals.read();
                        tell(records + dead_letters + skipped);
                    }
                }
            }
        }
        let mut connection = staging::connect(&self.database).await?;
        replays::forget_done(&mut connection, source).await?;
        Ok(CaughtUp::of(&board))
    }

    /// Reads and decodes everything, lands nothing, and hands the records over as they would be landed.
    pub async fn read(&self, records: Sender<Vec<Record>>, cancel: &CancellationToken) -> Result<Counts, Error> {
        let epochs = |part: &Part| {
            let epochs = self.epochs.of(&part.topic, part.partition);
            if self.request.new_epoch { epochs.with_next(part.first_offset) } else { epochs }
        };
        let parts: Vec<(Part, PartitionEpochs)> = self.parts.iter().map(|part| (part.clone(), epochs(part))).collect();
        let (settings, cancel) = (self.settings.clone(), cancel.clone());
        let reading = tokio::task::spawn_blocking(move || read(&settings, &parts, &records, &cancel));
        reading.await.map_err(|error| Error::Thread { from: self.settings.name.clone(), problem: error.to_string() })?
    }
}

impl Part {
    fn rewind(&self) -> Rewind {
        let start = StoredOffset {
            topic: self.topic.clone(),
            partition: self.partition,
            next_offset: self.next_offset,
            last_seen: self.last_seen,
            last_message: None,
        };
        Rewind { stored: self.stored, start, first_offset: self.first_offset, is_made_again: self.is_made_again }
    }

    fn section(&self) -> Section {
        Section {
            topic: self.topic.clone(),
            partition: self.partition,
            first_offset: self.first_offset,
            end_offset: self.end_offset,
            next_offset: self.next_offset,
            last_seen: self.last_seen,
        }
    }

    fn target(&self) -> Target {
        let bounds = Bounds { low: self.next_offset, high: self.end_offset };
        Target { topic: self.topic.clone(), partition: self.partition, bounds }
    }
}

fn read(
    settings: &Settings,
    parts: &[(Part, PartitionEpochs)],
    sender: &Sender<Vec<Record>>,
    cancel: &CancellationToken,
) -> Result<Counts, Error> {
    let client = client::connect(settings)?;
    let mut counts = Counts::default();
    let (mut one, mut held) = (Vec::new(), Vec::new());
    for (part, epochs) in parts {
        let decoder = Decoder::new(settings, &part.topic);
        let mut seen = Seen::after(part.last_seen);
        let offsets = part.next_offset..part.end_offset;
        let mut broken = Ok(());
        passage::read(settings, &client, &part.topic, part.partition, offsets, |message| {
            match decoder.decode_at_last(message, &mut seen, epochs.at(message.offset), Utc::now(), &mut one) {
                Ok(Outcome::Records) => counts.records += one.len() as u64,
                Ok(Outcome::Rejected(_)) => counts.dead_letters += 1,
                Ok(Outcome::Skipped(_) | Outcome::Pending(_)) => counts.skipped += 1,
                Err(error) => {
                    broken = Err(error);
                    return false;
                }
            }
            held.append(&mut one);
            let goes_on = held.len() < READ_RECORDS || sender.blocking_send(std::mem::take(&mut held)).is_ok();
            goes_on && !cancel.is_cancelled()
        })?;
        broken?;
    }
    // Whoever does not listen any more does not want the rest.
    let _ = sender.blocking_send(held);
    Ok(counts)
}
