//! Sending what waits in `staging.outbox`: leased, tried, noted. As many at a time as the source is asked at once; of one
//! customer one after the other.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sqlx::PgPool;
use staging::outbox::{self, Leased, Outcome};
use staging::{Patience, polls};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::ask::Asker;
use crate::write::Tried;
use crate::{Error, metrics, schedule};

/// How often to look for what is due again, beside being woken for what is new.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What is kept of a lease for noting the outcome.
const TO_NOTE: Duration = Duration::from_secs(5);
/// How long what is under way may take after we were asked to stop.
const TO_FINISH: Duration = Duration::from_secs(3);

/// Sends edits as they come, until `cancel`.
pub(crate) async fn run(
    asker: &Asker,
    database: &PgPool,
    wake: &Notify,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    if asker.writes.is_empty() {
        return Ok(());
    }
    let sender = Sender { asker, database, cancel };
    let mut sending = FuturesUnordered::new();
    while !cancel.is_cancelled() {
        let room = asker.settings.concurrency.saturating_sub(sending.len());
        let leased = match sender.lease(room).await {
            Err(staging::Error::Cancelled) => break,
            leased => leased?,
        };
        sending.extend(leased.into_iter().map(|edit| sender.send(edit)));
        tokio::select! {
            Some(sent) = sending.next() => drop(sent?),
            () = wake.notified() => {}
            () = sleep(LOOK_EVERY) => {}
            () = cancel.cancelled() => {}
        }
    }
    // What does not end in time is tried again when its lease is over: the source then says whether it has arrived.
    let _ = timeout(TO_FINISH, sending.collect::<Vec<_>>()).await;
    Ok(())
}

/// Tries once what is due; returns whether the source answered at all.
pub(crate) async fn send_due(asker: &Asker, database: &PgPool, cancel: &CancellationToken) -> Result<bool, Error> {
    if asker.writes.is_empty() {
        return Ok(false);
    }
    let sender = Sender { asker, database, cancel };
    let mut has_answered = false;
    loop {
        let leased = match sender.lease(asker.settings.concurrency).await {
            Err(staging::Error::Cancelled) => return Ok(has_answered),
            leased => leased?,
        };
        if leased.is_empty() {
            return Ok(has_answered);
        }
        let mut sending: FuturesUnordered<_> = leased.into_iter().map(|edit| sender.send(edit)).collect();
        while let Some(sent) = sending.next().await {
            match sent? {
                Sent::Done => has_answered = true,
                Sent::Failed => {}
                // The breaker is open: asking on makes it no better.
                Sent::NotAsked => return Ok(has_answered),
            }
        }
    }
}

struct Sender<'a> {
    asker: &'a Asker,
    database: &'a PgPool,
    cancel: &'a CancellationToken,
}

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Done,
    Failed,
    NotAsked,
}

impl Sender<'_> {
    /// How long one try may take, whatever it waits for.
    fn within(&self) -> Duration {
        self.asker.settings.timeout * 3
    }

    /// Waits for the database.
    async fn lease(&self, limit: usize) -> Result<Vec<Leased>, staging::Error> {
        let mut patience = Patience::new("leasing edits");
        let source = &self.asker.settings.source;
        loop {
            let now = Utc::now();
            let until = after(now, self.within() + TO_NOTE);
            let leasing = outbox::lease(self.database, source, limit, now, until);
            match staging::in_time("leasing edits", leasing).await {
                Ok(leased) => {
                    patience.worked();
                    return Ok(leased);
                }
                Err(error) => patience.wait(self.cancel, error).await?,
            }
        }
    }

    async fn send(&self, mut edit: Leased) -> Result<Sent, staging::Error> {
        let source = self.asker.settings.source.as_str();
        let tried = match timeout(self.within(), self.try_to_send(&mut edit)).await {
            Ok(tried) => tried?,
            Err(_) => Tried::Again("it took too long".to_owned()),
        };
        match tried {
            Tried::Done(outcome) => {
                match &outcome {
                    Outcome::Settled { .. } => metrics::tried(source, "settled"),
                    Outcome::Refused { reason } => {
                        metrics::tried(source, "refused");
                        tracing::warn!(source, edit = %edit.edit_id, reason, "the source does not take an edit");
                    }
                }
                self.settle(&edit, &outcome).await.map(|()| Sent::Done)
            }
            Tried::Again(reason) => {
                metrics::tried(source, "again");
                tracing::info!(source, edit = %edit.edit_id, reason, "an edit waits to be sent");
                self.give_back(&edit, Some(&reason)).await.map(|()| Sent::Failed)
            }
            Tried::NotAsked => self.give_back(&edit, None).await.map(|()| Sent::NotAsked),
            // What is to be sent in its place waits for the lease.
            Tried::Gone => self.give_back(&edit, None).await.map(|()| Sent::Done),
        }
    }

    /// Asks first what the source says now, and then whether the edit still stands: asking can take its time.
    async fn try_to_send(&self, edit: &mut Leased) -> Result<Tried, staging::Error> {
        let found = match self.asker.says_now(&edit.email).await {
            Ok(found) => found,
            Err(failure) => return Ok(Tried::from(failure)),
        };
        match staging::in_time("looking at an edit", outbox::read_again(self.database, edit)).await {
            Ok(Some(edits)) => edit.edits = edits,
            Ok(None) => return Ok(Tried::Gone),
            Err(error) if error.is_transient() => return Ok(Tried::Again("the database is away".to_owned())),
            Err(error) => return Err(error),
        }
        Ok(self.asker.write(edit, found).await.unwrap_or_else(Tried::from))
    }

    /// Has the source asked about the customer, so that what it says now lands as any answer does, and notes the outcome. A
    /// crash in between has both done again. An edit that was changed while it was under way goes back, for another round.
    async fn settle(&self, edit: &Leased, outcome: &Outcome) -> Result<(), staging::Error> {
        let mut patience = Patience::new("noting what became of an edit");
        let source = &self.asker.settings.source;
        loop {
            let now = Utc::now();
            let settling = async {
                polls::refresh(self.database, source, Some(&edit.match_key), now).await?;
                if !outbox::settle(self.database, edit, outcome, now).await? {
                    // That is a try all the same: what it said may have arrived.
                    let reason = "it was edited while it was under way";
                    outbox::postpone(self.database, edit, Some(reason), now).await?;
                }
                Ok(())
            };
            match staging::in_time("settling an edit", settling).await {
                Ok(()) => return Ok(()),
                Err(error) => patience.wait(self.cancel, error).await?,
            }
        }
    }

    /// If that fails the edit comes back when its lease ends.
    async fn give_back(&self, edit: &Leased, reason: Option<&str>) -> Result<(), staging::Error> {
        let times = if reason.is_some() { edit.attempts.saturating_add(1) } else { 1 };
        let next_at = schedule::after_unsent(Utc::now(), times);
        let giving = outbox::postpone(self.database, edit, reason, next_at);
        match staging::in_time("giving an edit back", giving).await {
            Err(error) if !error.is_transient() => Err(error),
            _ => Ok(()),
        }
    }
}

fn after(now: DateTime<Utc>, time: Duration) -> DateTime<Utc> {
    now + TimeDelta::from_std(time).unwrap_or(TimeDelta::days(1))
}
