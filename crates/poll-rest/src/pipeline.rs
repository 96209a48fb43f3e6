//! The way of a poll: leased, asked, landed. Three stages that run side by side, with short channels between them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use sqlx::PgPool;
use staging::Patience;
use staging::polls::{self, LeaseTimes, Poll, Subject};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::ask::Asker;
use crate::draft::Answer;
use crate::land::Landings;

/// How long a poller has polls for itself, at least; after a crash they wait as long.
pub(crate) const LEASE: Duration = Duration::from_mins(2);
/// A poll that has waited for its turn longer than this is not begun, but leased anew.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// What is kept of a lease for landing.
const TO_LAND: Duration = Duration::from_secs(15);
/// How often to look for what has become due, beside being woken for what is new.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a pipeline runs.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// Until cancelled.
    Cancelled,
    /// Until nothing is left that was due at this time, or came up since.
    Dry { due_at: DateTime<Utc> },
}

/// The part of each lease that products get while there are more customers to ask about than can be.
const PRODUCTS_PART: i64 = 4;

pub(crate) struct Pipeline<'a> {
    pub asker: &'a Asker,
    pub database: &'a PgPool,
    /// Something has become due.
    pub wake: &'a Notify,
    pub cancel: &'a CancellationToken,
    pub until: Until,
    /// The one customer that is wanted, by match key.
    pub only: Option<&'a str>,
}

impl Pipeline<'_> {
    /// Polls, and returns how many polls were asked. What was leased and not asked is given back.
    pub(crate) async fn run(&self, landings: &mut Landings<'_>) -> Result<u64, Error> {
        let concurrency = self.asker.settings.concurrency;
        // While these are asked, the next ones are leased.
        let (polls_in, polls_out) = channel(self.page());
        let (answers_in, mut answers_out) = channel(concurrency);
        let unasked = Mutex::new(Vec::new());
        // Cancelled when there is no more use in leasing.
        let stop = self.cancel.child_token();
        let lease = self.lease_all(polls_in, &stop, &unasked);
        let ask = self.ask_all(polls_out, answers_in, &stop, &unasked);
        let land = landings.land_all(&mut answers_out, || self.wake.notify_one());
        let outcome = futures::try_join!(lease, async { Ok(ask.await) }, land);
        self.release(unasked.into_inner()).await;
        outcome.map(|((), asked, ())| asked)
    }

    async fn lease_all(
        &self,
        polls: Sender<Poll>,
        stop: &CancellationToken,
        unasked: &Mutex<Vec<Poll>>,
    ) -> Result<(), Error> {
        loop {
            let leased = match self.lease(stop).await {
                Err(staging::Error::Cancelled) => return Ok(()),
                leased => leased?,
            };
            let is_dry = leased.is_empty();
            let mut leased = leased.into_iter();
            while let Some(poll) = leased.next() {
                let sent = tokio::select! {
                    permit = polls.reserve() => permit.map(|permit| permit.send(poll.clone())).is_ok(),
                    () = stop.cancelled() => false,
                };
                if !sent {
                    unasked.lock().await.extend(std::iter::once(poll).chain(leased));
                    return Ok(());
                }
            }
            if is_dry {
                if matches!(self.until, Until::Dry { .. }) {
                    return Ok(());
                }
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
    }

    /// How many polls are leased at once: few, so that a new one does not wait long behind them. Leasing is much faster than
    /// asking.
    fn page(&self) -> usize {
        let settings = &self.asker.settings;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and a float saturates")]
        let within_a_second = settings.requests_per_second.ceil().max(1.0) as usize;
        (settings.concurrency * 2).min(within_a_second)
    }

    /// The next page: customers, and products when there are not enough of those. Waits for the database.
    async fn lease(&self, stop: &CancellationToken) -> Result<Vec<Poll>, staging::Error> {
        let mut patience = Patience::new("leasing polls");
        loop {
            match self.try_lease().await {
                Ok(leased) => {
                    patience.worked();
                    return Ok(leased);
                }
                Err(error) => patience.wait(stop, error).await?,
            }
        }
    }

    async fn try_lease(&self) -> Result<Vec<Poll>, staging::Error> {
        let limit = i64::try_from(self.page()).unwrap_or(i64::MAX);
        let mut polls = Vec::new();
        if self.asker.asks_products() {
            polls.extend(self.lease_of(Subject::Product, (limit / PRODUCTS_PART).max(1)).await?);
        }
        if self.asker.asks_customers() {
            let products = polls.len();
            polls.splice(0..0, self.lease_of(Subject::Customer, room(limit, products)).await?);
        }
        let room = room(limit, polls.len());
        if room > 0 && self.asker.asks_products() {
            polls.extend(self.lease_of(Subject::Product, room).await?);
        }
        Ok(polls)
    }

    async fn lease_of(&self, subject: Subject, limit: i64) -> Result<Vec<Poll>, staging::Error> {
        let now = Utc::now();
        let due_before = match (self.until, self.only, subject) {
            // Of one customer, also the products that are new.
            (_, Some(_), Subject::Product) => DateTime::UNIX_EPOCH,
            (Until::Cancelled, ..) => now,
            (Until::Dry { due_at }, ..) => due_at,
        };
        let only = self.only.filter(|_| subject == Subject::Customer);
        let source = &self.asker.settings.source;
        let times = LeaseTimes { now, due_before, leased_until: now + self.lease_time() };
        let leasing = polls::lease(self.database, subject, source, limit, times, only);
        staging::in_time("leasing polls", leasing).await
    }

    fn lease_time(&self) -> Duration {
        LEASE.max(LONGEST_WAIT + TO_LAND + self.asker.settings.timeout * 2)
    }

    async fn ask_all(
        &self,
        mut polls: Receiver<Poll>,
        answers: Sender<Answer>,
        stop: &CancellationToken,
        unasked: &Mutex<Vec<Poll>>,
    ) -> u64 {
        let mut asked = futures::stream::poll_fn(|context| polls.poll_recv(context))
            .map(|poll| self.ask(poll, &answers, stop, unasked))
            .buffer_unordered(self.asker.settings.concurrency);
        let mut count = 0;
        while let Some(was_asked) = asked.next().await {
            count += u64::from(was_asked);
        }
        count
    }

    async fn ask(
        &self,
        poll: Poll,
        answers: &Sender<Answer>,
        stop: &CancellationToken,
        unasked: &Mutex<Vec<Poll>>,
    ) -> bool {
        let left = (poll.leased_until - Utc::now()).to_std().unwrap_or_default();
        if left + LONGEST_WAIT < self.lease_time() {
            self.release(vec![poll]).await;
            return false;
        }
        let keep = poll.clone();
        let answer = tokio::select! {
            // What takes longer than the lease would not be landed, and asked again and again.
            answer = timeout(left.saturating_sub(TO_LAND), self.asker.ask(poll)) => {
                match answer {
                    Ok(answer) => answer,
                    Err(_) => self.asker.give_up(&keep).ok_or(keep),
                }
            }
            () = self.cancel.cancelled() => Err(keep),
        };
        match answer {
            Ok(answer) => answers.send(answer).await.is_ok(),
            Err(poll) => {
                match self.until {
                    Until::Cancelled => self.release(vec![poll]).await,
                    // Given back at the end only, or it would be leased again at once.
                    Until::Dry { .. } => {
                        unasked.lock().await.push(poll);
                        stop.cancel();
                    }
                }
                false
            }
        }
    }

    /// Gives polls back. If that fails they come back when their lease ends.
    async fn release(&self, polls: Vec<Poll>) {
        if polls.is_empty() {
            return;
        }
        let release = async {
            let mut connection = self.database.acquire().await.map_err(staging::Error::database("releasing polls"))?;
            polls::release(&mut connection, &self.asker.settings.source, &polls).await
        };
        if !matches!(timeout(Duration::from_secs(3), release).await, Ok(Ok(()))) {
            tracing::info!(source = self.asker.settings.source, "leased polls wait for the end of their lease");
        }
    }
}

fn room(limit: i64, taken: usize) -> i64 {
    limit - i64::try_from(taken).unwrap_or(limit)
}
