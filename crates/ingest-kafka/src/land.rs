//! Landing: the asynchronous half, which gives sealed batches to the database one after the other.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use chrono::Utc;
use model::{Reason, Reject};
use serde_json::{Value, json};
use staging::offsets::Progress;
use staging::{Checkpoint, Lander, Landing, Patience};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, Start, Stored};
use crate::partition::{Name, Sealed};
use crate::status::Totals;
use crate::{metrics, report};

/// A landing that takes longer than this is given up and tried again on another connection.
const LAND_TIMEOUT: Duration = Duration::from_mins(1);

/// What the consuming loop is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A batch and its progress are durable.
    Landed { name: Name, generation: u64, next_offset: i64 },
    /// Other progress was stored than the batch continued from; this is what is stored.
    Fenced { name: Name, generation: u64, start: Start },
    /// The database will never take this batch: something in it.
    Refused { name: Name, generation: u64, first_offset: i64, next_offset: i64, reject: Reject, start: Start },
    /// The answer to a lookup.
    Found { lookup: u64, stored: Stored },
}

/// The landing half of one source.
pub(crate) struct Landings<'a> {
    pub(crate) source: &'a str,
    pub(crate) lander: &'a mut Lander,
    pub(crate) ledger: Ledger,
    pub(crate) events: Sender<Event>,
    pub(crate) cancel: CancellationToken,
    pub(crate) totals: &'a Totals,
}

impl Landings<'_> {
    /// Lands until the consuming loop has gone, or `cancel` says stop while the database does not answer.
    pub(crate) async fn run(&mut self, mut sealed: Receiver<Sealed>) -> Result<(), staging::Error> {
        // Once a batch is refused, those that continue from it are void.
        let mut void: HashMap<Name, u64> = HashMap::new();
        while let Some(batch) = sealed.recv().await {
            if void.get(&batch.name).is_some_and(|generation| *generation >= batch.generation) {
                continue;
            }
            let (name, generation) = (batch.name.clone(), batch.generation);
            let event = match self.land(batch).await {
                Err(staging::Error::Cancelled) => return Ok(()),
                outcome => outcome?,
            };
            if !matches!(event, Event::Landed { .. }) {
                void.insert(name, generation);
            }
            // The loop may have gone; what is landed is landed.
            let _ = self.events.send(event);
        }
        Ok(())
    }

    async fn land(&mut self, mut sealed: Sealed) -> Result<Event, staging::Error> {
        let began = Instant::now();
        let Sealed { name, generation, first_offset, advance, .. } = &sealed;
        let (name, generation, first_offset, next_offset) =
            (name.clone(), *generation, *first_offset, advance.next_offset);
        let mut origin = json!({
            "topic": &*name.0, "partition": name.1, "first_offset": first_offset, "last_offset": next_offset - 1,
        });
        if matches!(sealed.advance.progress, Progress::Replay(_)) {
            origin["again"] = true.into();
        }
        if let Some(at) = sealed.emptied_at.filter(|_| sealed.advance.progress == Progress::Source) {
            let topic = &*name.0;
            tracing::warn!(source = self.source, topic, %at, "the table was emptied: see `c360 source retire`");
            // Before the batch: the message is not read again once it is landed.
            self.ledger.report_emptied(&report::emptied(self.source, topic, at), &self.cancel).await?;
        }
        match self.persist(&mut sealed, &origin).await {
            Ok(Landing::Landed { .. }) => {}
            Ok(Landing::Fenced) => {
                let start = self.start(&name).await?;
                // The reply to a COMMIT was lost, or somebody else landed exactly this.
                if start.next_offset != Some(next_offset) || start.epochs.current() != sealed.advance.epoch {
                    metrics::fenced(self.source);
                    tracing::info!(
                        source = self.source,
                        topic = &*name.0,
                        partition = name.1,
                        first_offset,
                        stored = start.next_offset,
                        "fenced: other progress is stored, going on from there"
                    );
                    return Ok(Event::Fenced { name, generation, start });
                }
            }
            Err(error) if error.is_data() => {
                tracing::warn!(
                    source = self.source, topic = &*name.0, partition = name.1, first_offset, next_offset, %error,
                    "the database refused a batch, looking for the message"
                );
                let reject = Reject::new(Reason::BadValue, format!("the database refused it: {error}"));
                let start = self.start(&name).await?;
                return Ok(Event::Refused { name, generation, first_offset, next_offset, reject, start });
            }
            Err(error) => return Err(error),
        }
        self.count(&sealed, began.elapsed());
        Ok(Event::Landed { name, generation, next_offset })
    }

    async fn persist(&mut self, sealed: &mut Sealed, origin: &Value) -> Result<Landing, staging::Error> {
        let checkpoint = Checkpoint::Kafka(sealed.advance.clone());
        let mut patience = Patience::new("landing Kafka messages");
        loop {
            let landing = self.lander.land(&mut sealed.batch, origin, &checkpoint, Utc::now());
            let landing = tokio::time::timeout(LAND_TIMEOUT, landing).await;
            match landing.unwrap_or_else(|_| Err(timed_out())) {
                Ok(landing) => {
                    patience.worked();
                    return Ok(landing);
                }
                Err(error) => patience.wait(&self.cancel, error).await?,
            }
        }
    }

    async fn start(&mut self, name: &Name) -> Result<Start, staging::Error> {
        Ok(self.ledger.read(&self.cancel).await?.start(&name.0, name.1))
    }

    fn count(&self, sealed: &Sealed, took: Duration) {
        let records = u64::try_from(sealed.batch.record_count()).unwrap_or(0);
        let dead_letters = u64::try_from(sealed.batch.dead_letter_count()).unwrap_or(0);
        metrics::landed(self.source, records, dead_letters, took.as_secs_f64());
        for (kind, messages) in &sealed.skipped {
            metrics::skipped(self.source, kind, *messages);
        }
        self.totals.add(records, dead_letters, u64::try_from(sealed.batch.skipped_count()).unwrap_or(0));
    }
}

fn timed_out() -> staging::Error {
    staging::Error::database("landing Kafka messages")(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
}

/// Answers lookups of the consuming loop until it has gone.
pub(crate) async fn answer(
    mut ledger: Ledger,
    mut lookups: UnboundedReceiver<u64>,
    events: Sender<Event>,
    cancel: CancellationToken,
) -> Result<(), staging::Error> {
    while let Some(lookup) = lookups.recv().await {
        match ledger.read(&cancel).await {
            Err(staging::Error::Cancelled) => return Ok(()),
            stored => {
                let _ = events.send(Event::Found { lookup, stored: stored? });
            }
        }
    }
    Ok(())
}
