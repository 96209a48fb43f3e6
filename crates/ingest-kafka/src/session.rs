//! One life of a consumer: its thread, the landing half, lookups and reports, started together and ended together.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use sqlx::postgres::PgConnectOptions;
use staging::Lander;
use staging::health::Speaker;
use staging::offsets::Progress;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::client::{self, Client};
use crate::consume::{Lines, Plan, consume};
use crate::land::{Landings, answer};
use crate::ledger::Ledger;
use crate::report::report;
use crate::status::Board;
use crate::{Error, Settings};

/// Batches between the halves, beside the one that is landing and the ones that are open.
const ROOM: usize = 1;
/// How long the batch that is landing may finish after the end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the client may take to leave its group; afterwards its thread is left alone.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// What a session works with.
pub(crate) struct Session<'a> {
    pub(crate) settings: &'a Arc<Settings>,
    pub(crate) database: &'a PgConnectOptions,
    pub(crate) lander: &'a mut Lander,
    pub(crate) board: &'a Arc<Board>,
    /// Which progress moves. Only that of the source is a matter of its health.
    pub(crate) progress: Progress,
    pub(crate) speaker: Speaker,
    pub(crate) cancel: &'a CancellationToken,
}

impl Session<'_> {
    /// Runs until cancelled, done or broken. `plan` is made on the consuming thread, because it may ask brokers.
    pub(crate) async fn run(
        self,
        plan: impl FnOnce(&Settings, &Client) -> Result<Plan, Error> + Send + 'static,
    ) -> Result<(), Error> {
        // Dropped with this future, so that an aborted session does not leave a thread behind.
        let cancel = self.cancel.child_token();
        let _ended = cancel.clone().drop_guard();
        let (sealed_sender, sealed) = mpsc::channel(ROOM);
        let (lookup_sender, lookups) = mpsc::unbounded_channel();
        let (event_sender, events) = std::sync::mpsc::channel();
        let lines = Lines { sealed: sealed_sender, lookups: lookup_sender, events, cancel: cancel.clone() };
        let (mut consumed, closed) =
            spawn(self.settings.clone(), self.board.clone(), self.progress.clone(), plan, lines)?;

        let source = self.settings.name.as_str();
        let panicked = || Error::Thread { from: source.to_owned(), problem: "panicked".to_owned() };
        let mut landings = Landings {
            source,
            lander: self.lander,
            ledger: Ledger::new(source, self.database, self.progress.clone()),
            events: event_sender.clone(),
            cancel: cancel.clone(),
            totals: &self.board.totals,
        };
        let outcome = {
            let mut landing = std::pin::pin!(landings.run(sealed));
            let mut answering = std::pin::pin!(answer(
                Ledger::new(source, self.database, self.progress.clone()),
                lookups,
                event_sender,
                cancel.clone()
            ));
            let mut quiet = std::pin::pin!(gone_quiet(&cancel));
            let mut reporting = std::pin::pin!(async {
                if self.progress == Progress::Source {
                    report(source, self.speaker, self.database, self.board).await;
                }
            });
            let (mut landed, mut answered) = (false, false);
            let outcome = loop {
                tokio::select! {
                    consumed = &mut consumed => break consumed.unwrap_or_else(|_| Err(panicked())),
                    outcome = &mut landing, if !landed => match outcome {
                        Ok(()) => landed = true,
                        Err(error) => break Err(error.into()),
                    },
                    outcome = &mut answering, if !answered => match outcome {
                        Ok(()) => answered = true,
                        Err(error) => break Err(error.into()),
                    },
                    () = &mut reporting, if self.progress == Progress::Source => {}
                    // A thread that hangs on a broker.
                    () = &mut quiet => break Ok(()),
                }
            };
            // What was handed over is landed; what hangs is dropped, and fenced or rolled back by the database.
            if outcome.is_ok() && !landed {
                let _ = tokio::time::timeout(FINISH_TIMEOUT, landing).await;
            }
            outcome
        };
        cancel.cancel();
        drop(landings);
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!(source, "the Kafka client does not close: left alone");
        }
        outcome
    }
}

/// Returns some time after the end was asked for.
async fn gone_quiet(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(FINISH_TIMEOUT).await;
}

type Ends = (oneshot::Receiver<Result<(), Error>>, oneshot::Receiver<()>);

/// Starts the consuming thread. The first line says how consuming ended, the second that the client is closed.
fn spawn(
    settings: Arc<Settings>,
    board: Arc<Board>,
    progress: Progress,
    plan: impl FnOnce(&Settings, &Client) -> Result<Plan, Error> + Send + 'static,
    lines: Lines,
) -> Result<Ends, Error> {
    let (consumed_sender, consumed) = oneshot::channel();
    let (closed_sender, closed) = oneshot::channel();
    let from = settings.name.clone();
    let thread = move || {
        let client = match client::connect(&settings) {
            Ok(client) => client,
            Err(error) => {
                let _ = consumed_sender.send(Err(error));
                return;
            }
        };
        let outcome =
            plan(&settings, &client).and_then(|plan| consume(&settings, &client, plan, progress, lines, &board));
        client.context().close();
        let _ = consumed_sender.send(outcome);
        // Leaves the group, which may take long or for ever.
        drop(client);
        let _ = closed_sender.send(());
    };
    let spawned = std::thread::Builder::new().name(format!("kafka {from}")).spawn(thread);
    spawned.map_err(|error| Error::Thread { from, problem: format!("does not start: {error}") })?;
    Ok((consumed, closed))
}
