//! What an import writes: parts of a file, and the end of it. Each of it holds through an outage of the database.

use staging::imports::{self, Refusal, State};
use staging::{Checkpoint, Landing, Patience};

use super::{Importer, now};
use crate::parse::Part;
use crate::{Error, metrics};

/// A file while it is imported.
#[derive(Default)]
pub(super) struct Landed {
    pub(super) import_id: Option<i64>,
    pub(super) rows: i64,
    /// As the ledger counts them: those of whoever is erased are skipped.
    pub(super) dead_letters: u64,
    pub(super) skipped: u64,
    pub(super) size: u64,
}

impl Importer {
    pub(super) async fn abandon_leftovers(&mut self) -> Result<u64, Error> {
        let holder = self.session.take().await?;
        let abandoning =
            async { imports::abandon_leftovers(&mut *holder.connection().await, &self.settings.source, now()).await };
        let leftovers = holder.unless_lost(abandoning).await?;
        self.session.keep(holder);
        Ok(leftovers)
    }

    /// Lands a part; false if somebody else has taken over.
    pub(super) async fn land(&mut self, landed: &mut Landed, mut part: Part) -> Result<bool, Error> {
        if let Some(import_id) = landed.import_id {
            let checkpoint = Checkpoint::Csv { import_id, rows_before: landed.rows, rows: part.rows };
            let now = now();
            let mut patience = Patience::new("landing rows of a file");
            let landing = loop {
                match self.lander.land(&mut part.batch, &part.origin, &checkpoint, now).await {
                    Ok(landing) => break landing,
                    Err(error) => patience.wait(&self.cancel, error).await?,
                }
            };
            patience.worked();
            // The reply to a COMMIT may have been lost: then the ledger is where we wanted it.
            let wanted = Some((State::Importing, landed.rows + part.rows));
            if landing == Landing::Fenced && self.progress(import_id).await? != wanted {
                return Ok(false);
            }
            metrics::landed(&part.batch);
            landed.dead_letters += u64::from(part.batch.dead_letter_count().unsigned_abs());
            landed.skipped += u64::from(part.batch.skipped_count().unsigned_abs());
        }
        landed.rows += part.rows;
        Ok(true)
    }

    /// Publishes or refuses; false if somebody else has taken over. Holds whether or not the lock is still ours: who takes
    /// over deletes the ledger row first.
    pub(super) async fn settle(&mut self, import_id: i64, rows: i64, refusal: Option<&Refusal>) -> Result<bool, Error> {
        let wanted = if refusal.is_some() { State::Refused } else { State::Imported };
        let mut patience = Patience::new("publishing a file");
        let is_done = loop {
            match self.try_to_settle(import_id, rows, refusal).await {
                Ok(is_done) => break is_done,
                Err(error) => patience.wait(&self.cancel, error).await?,
            }
        };
        patience.worked();
        // As in landing: it may have been done before.
        Ok(is_done || self.progress(import_id).await?.is_some_and(|(state, _)| state == wanted))
    }

    async fn try_to_settle(
        &mut self,
        import_id: i64,
        rows: i64,
        refusal: Option<&Refusal>,
    ) -> Result<bool, staging::Error> {
        let holder = self.session.take().await?;
        let settling = async {
            let mut connection = holder.connection().await;
            match refusal {
                Some(refusal) => imports::refuse(&mut connection, import_id, refusal, now()).await,
                None => imports::publish(&mut connection, import_id, rows, self.settings.ttl, now()).await,
            }
        };
        let is_done = holder.unless_lost(settling).await?;
        self.session.keep(holder);
        Ok(is_done)
    }

    async fn progress(&mut self, import_id: i64) -> Result<Option<(State, i64)>, Error> {
        let mut patience = Patience::new("reading the ledger of imports");
        loop {
            match self.try_to_read_progress(import_id).await {
                Ok(progress) => {
                    patience.worked();
                    return Ok(progress);
                }
                Err(error) => patience.wait(&self.cancel, error).await?,
            }
        }
    }

    async fn try_to_read_progress(&mut self, import_id: i64) -> Result<Option<(State, i64)>, staging::Error> {
        let holder = self.session.take().await?;
        let reading = async { imports::progress(&mut *holder.connection().await, import_id).await };
        let progress = holder.unless_lost(reading).await?;
        self.session.keep(holder);
        Ok(progress)
    }
}
