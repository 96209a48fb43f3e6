//! Landing answers in groups, each poll under its lease.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use model::{Reason, Reject};
use serde_json::{Value, json};
use sqlx::PgPool;
use staging::polls::{self, State, Subject};
use staging::{Batch, Checkpoint, DeadLetter, LIMIT_BYTES, LIMIT_ROWS, Lander, Landing, Patience};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::draft::Answer;
use crate::run::Summary;
use crate::{Error, Settings, metrics, schedule};

/// At most so many polls are landed together...
const MAX_POLLS: usize = 500;
/// ... and the first of them waits no longer than this.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Lands the answers of one source.
pub(crate) struct Landings<'a> {
    pub settings: &'a Settings,
    /// For the origin of batches.
    pub label: &'a str,
    pub lander: &'a mut Lander,
    pub database: &'a PgPool,
    /// Stops even a landing that waits for the database.
    pub cancel: &'a CancellationToken,
    pub summary: Summary,
}

impl Landings<'_> {
    /// Lands what comes until the channel closes. `landed` is called after every landing that made something due.
    pub(crate) async fn land_all(&mut self, answers: &mut Receiver<Answer>, landed: impl Fn()) -> Result<(), Error> {
        while let Some(first) = answers.recv().await {
            let group = gather(first, answers).await;
            let makes_due = group.iter().any(|answer| !answer.polled.products.is_empty());
            for group in split(group) {
                self.land(group).await?;
            }
            if makes_due {
                landed();
            }
        }
        Ok(())
    }

    async fn land(&mut self, group: Vec<Answer>) -> Result<(), Error> {
        match self.try_land(group).await {
            Ok(()) => Ok(()),
            Err((Error::Staging(error), group)) if error.is_data() => {
                // Postgres refuses something that looked fine: each by itself, so that only the one is a dead letter.
                tracing::error!(source = self.settings.source, %error, "an answer cannot be stored");
                for answer in group {
                    if let Err((_, group)) = self.try_land(vec![answer]).await {
                        let group = group.into_iter().map(|answer| given_up(answer, self.label, Utc::now())).collect();
                        self.try_land(group).await.map_err(|(error, _)| error)?;
                    }
                }
                Ok(())
            }
            Err((error, _)) => Err(error),
        }
    }

    /// Lands a group, without those whose lease is no longer ours.
    async fn try_land(&mut self, mut group: Vec<Answer>) -> Result<(), (Error, Vec<Answer>)> {
        while !group.is_empty() {
            let mut batch = Batch::new(&self.settings.source, self.settings.ttl);
            for answer in &group {
                answer.records.iter().for_each(|record| batch.push(record));
                answer.dead_letters.iter().for_each(|letter| batch.push_dead_letter(letter.clone()));
            }
            let polled: Vec<_> = group.iter().map(|answer| answer.polled.clone()).collect();
            let checkpoint = Checkpoint::Rest(polled);
            let origin = json!({ "request": self.label });
            match self.land_batch(&mut batch, &origin, &checkpoint).await {
                Ok(Landing::Landed { .. }) => {
                    self.count(&group, &batch);
                    return Ok(());
                }
                Ok(Landing::Fenced) => group = self.still_ours(group).await?,
                Err(error) => return Err((error.into(), group)),
            }
        }
        Ok(())
    }

    /// Those of a fenced group that can be landed. The others were leased to somebody else meanwhile, made due again,
    /// withdrawn, or landed by a COMMIT whose reply was lost.
    async fn still_ours(&self, mut group: Vec<Answer>) -> Result<Vec<Answer>, (Error, Vec<Answer>)> {
        match self.held(&group).await {
            Ok(held) => {
                let before = group.len();
                group.retain(|answer| held.contains(&(answer.polled.subject, answer.polled.key.clone())));
                let lost = before - group.len();
                tracing::info!(source = self.settings.source, lost, "answers are not landed: their lease is over");
                Ok(group)
            }
            Err(error) => Err((error.into(), group)),
        }
    }

    async fn land_batch(
        &mut self,
        batch: &mut Batch,
        origin: &Value,
        checkpoint: &Checkpoint,
    ) -> Result<Landing, staging::Error> {
        let mut patience = Patience::new("landing answers");
        loop {
            match self.lander.land(batch, origin, checkpoint, Utc::now()).await {
                Ok(landing) => {
                    patience.worked();
                    return Ok(landing);
                }
                Err(error) => patience.wait(self.cancel, error).await?,
            }
        }
    }

    async fn held(&self, group: &[Answer]) -> Result<HashSet<(Subject, String)>, staging::Error> {
        let polled: Vec<_> = group.iter().map(|answer| answer.polled.clone()).collect();
        let mut patience = Patience::new("reading leases");
        loop {
            let reading = async {
                let mut connection =
                    self.database.acquire().await.map_err(staging::Error::database("reading leases"))?;
                polls::held(&mut connection, &self.settings.source, &polled).await
            };
            match staging::in_time("reading leases", reading).await {
                Ok(held) => {
                    patience.worked();
                    return Ok(held);
                }
                Err(error) => patience.wait(self.cancel, error).await?,
            }
        }
    }

    fn count(&mut self, group: &[Answer], batch: &Batch) {
        metrics::landed(batch);
        let mut by_state: BTreeMap<&str, u64> = BTreeMap::new();
        for Answer { polled, .. } in group {
            *by_state.entry(polled.state.as_str()).or_default() += 1;
            let summary = &mut self.summary;
            match (polled.subject, polled.state) {
                (_, State::Due | State::Failing) => summary.failing += 1,
                (Subject::Product, _) => {}
                (Subject::Customer, State::Known) => summary.known += 1,
                (Subject::Customer, State::Unknown) => summary.unknown += 1,
            }
            match polled.subject {
                Subject::Customer => summary.asked += 1,
                Subject::Product => summary.products += 1,
            }
            summary.reached |= polled.state != State::Failing;
        }
        self.summary.records += u64::try_from(batch.record_count()).unwrap_or_default();
        self.summary.dead_letters += u64::try_from(batch.dead_letter_count()).unwrap_or_default();
        for (state, count) in by_state {
            metrics::polled(&self.settings.source, state, count);
        }
    }
}

/// What comes within a short time of the first, up to what one transaction should hold.
async fn gather(first: Answer, answers: &mut Receiver<Answer>) -> Vec<Answer> {
    let deadline = Instant::now() + MAX_WAIT;
    let (mut bytes, mut rows) = (first.bytes(), first.rows());
    let mut group = vec![first];
    while group.len() < MAX_POLLS && bytes < LIMIT_BYTES && rows < LIMIT_ROWS {
        let Ok(Some(answer)) = timeout_at(deadline, answers.recv()).await else { break };
        bytes += answer.bytes();
        rows += answer.rows();
        group.push(answer);
    }
    group
}

/// Two answers to one poll cannot be noted by one statement: the later one goes into a transaction of its own.
fn split(group: Vec<Answer>) -> Vec<Vec<Answer>> {
    let mut groups: Vec<Vec<Answer>> = vec![Vec::new()];
    let mut seen = HashSet::new();
    for answer in group {
        if !seen.insert((answer.polled.subject, answer.polled.key.clone())) {
            groups.push(Vec::new());
            seen.clear();
            seen.insert((answer.polled.subject, answer.polled.key.clone()));
        }
        if let Some(last) = groups.last_mut() {
            last.push(answer);
        }
    }
    groups
}

/// The answer as a dead letter, its poll failing.
fn given_up(mut answer: Answer, label: &str, now: DateTime<Utc>) -> Answer {
    let reject = Reject::new(Reason::BadValue, "the database refuses to store it");
    let letter = |record: model::Record| DeadLetter::of_record(json!({ "request": label }), reject.clone(), &record);
    answer.dead_letters.extend(std::mem::take(&mut answer.records).into_iter().map(letter));
    let polled = &mut answer.polled;
    polled.products.clear();
    polled.state = State::Failing;
    polled.failures += 1;
    polled.next_at = schedule::after_failure(now, i32::MAX);
    answer
}

impl Answer {
    fn rows(&self) -> usize {
        self.records.len() + self.dead_letters.len()
    }

    fn bytes(&self) -> usize {
        let records = self.records.iter().map(|record| record.payload.as_deref().map_or(0, str::len));
        records.sum::<usize>() + self.dead_letters.iter().map(|letter| letter.payload.len()).sum::<usize>()
    }
}
