//! Landing: a batch and the progress that it covers, in one transaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::batch::Batch;
use crate::dead_letters::{self, Settlement};
use crate::erased::Erased;
use crate::offsets::{self, Advance};
use crate::partitions::{self, Bounds};
use crate::patience::connect_with;
use crate::polls::{self, Polled};
use crate::{Error, LANDED_CHANNEL, Seal, frozen, in_time, lists, replays};

/// A landing never pauses in its transaction: who does is frozen, and keeps its successor from the stored progress.
const FROZEN: [(&str, &str); 1] = [("idle_in_transaction_session_timeout", "10s")];
/// What Postgres says of a row that no partition takes.
const CHECK_VIOLATION: &str = "23514";

/// Records and dead letters that were skipped because who they are of is erased, by source.
const ERASED_RECORDS: &str = "c360_erased_records_total";

/// The progress that a batch covers, moved by compare-and-swap.
#[derive(Clone, Debug)]
pub enum Checkpoint {
    /// Kafka: an offset moves. The batch is claimable at once.
    Kafka(Advance),
    /// CSV: rows of a file in the ledger. The batch is claimable once the file is published.
    Csv {
        /// The ledger row, which must be `importing`.
        import_id: i64,
        /// Rows of the file covered before this batch.
        rows_before: i64,
        /// Rows that this batch covers.
        rows: i64,
    },
    /// REST: what became of polls, at least of one. The batch is claimable at once.
    Rest(Vec<Polled>),
    /// A retry: dead letters that are parked no more, at least one. The batch is claimable at once.
    DeadLetters(Settlement),
    /// REST: a page of a list. The batch is claimable at once.
    List(Box<lists::Advance>),
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// Batch and progress are durable.
    Landed {
        /// The new batch; `None` if there was progress and nothing else.
        batch_id: Option<i64>,
    },
    /// The stored progress is not what the ingester believed; nothing was written.
    Fenced,
}

/// Lands batches on a connection of its own, opened when needed and again after every failure.
pub struct Lander {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    seal: Seal,
    partition_width: Duration,
    partitions: Vec<Bounds>,
    /// As of the last look.
    pub(crate) erased: Erased,
}

impl Lander {
    /// A lander; connects when it is first used.
    pub fn new(options: PgConnectOptions, seal: Seal, partition_width: Duration) -> Self {
        let erased = Erased::new(&seal);
        Self { options, connection: None, seal, partition_width, partitions: Vec::new(), erased }
    }

    /// By what it seals dead letters.
    pub(crate) fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Another lander into the same database, with a connection of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::new(self.options.clone(), self.seal.clone(), self.partition_width)
    }

    /// Lands a batch with its checkpoint, or nothing of both. `origin` says where the batch comes from; see
    /// `staging.batches.origin`. After an error the same batch can be landed again: if the first try had committed after
    /// all, it comes back fenced.
    pub async fn land(
        &mut self,
        batch: &mut Batch,
        origin: &Value,
        checkpoint: &Checkpoint,
        now: DateTime<Utc>,
    ) -> Result<Landing, Error> {
        let compares_nothing = match checkpoint {
            Checkpoint::Rest(polled) => polled.is_empty(),
            Checkpoint::DeadLetters(settlement) => settlement.landed.is_empty() && !batch.is_empty(),
            Checkpoint::Kafka(_) | Checkpoint::Csv { .. } | Checkpoint::List(_) => false,
        };
        if compares_nothing {
            return Err(Error::NothingToCompare);
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect_with(&self.options, &FROZEN).await?,
        };
        let landing = self.land_on(&mut connection, batch, origin, checkpoint, now);
        let landing = match in_time("landing a batch", landing).await {
            Err(error) if error.is_locked() => {
                in_time("landing a batch", frozen::end(&mut connection)).await?;
                return Err(error);
            }
            landing => landing?,
        };
        if batch.erased_count() > 0 && matches!(landing, Landing::Landed { .. }) {
            metrics::counter!(ERASED_RECORDS, "source" => batch.source().to_owned()).increment(batch.erased_count());
        }
        // Kept only after success: a connection that failed, or whose future was dropped half-way, is never used again.
        self.connection = Some(connection);
        Ok(landing)
    }

    async fn land_on(
        &mut self,
        connection: &mut PgConnection,
        batch: &mut Batch,
        origin: &Value,
        checkpoint: &Checkpoint,
        now: DateTime<Utc>,
    ) -> Result<Landing, Error> {
        self.ensure_partition(connection, batch.expires_at(now)).await?;
        match self.transact(connection, batch, origin, checkpoint, now).await {
            // By another's clock the partition that we know was past, and it is dropped.
            Err(error) if error.has_code(CHECK_VIOLATION) => {
                self.partitions.clear();
                self.ensure_partition(connection, batch.expires_at(now)).await?;
                self.transact(connection, batch, origin, checkpoint, now).await
            }
            outcome => outcome,
        }
    }

    async fn ensure_partition(
        &mut self,
        connection: &mut PgConnection,
        expires_at: DateTime<Utc>,
    ) -> Result<(), Error> {
        for at in [expires_at, expires_at + self.partition_width] {
            if !self.partitions.iter().any(|bounds| bounds.contains(&at.timestamp())) {
                let bounds = partitions::ensure(connection, at, self.partition_width).await?;
                self.partitions.retain(|known| known.end > expires_at.timestamp());
                self.partitions.push(bounds);
            }
        }
        Ok(())
    }

    async fn transact(
        &mut self,
        connection: &mut PgConnection,
        batch: &mut Batch,
        origin: &Value,
        checkpoint: &Checkpoint,
        now: DateTime<Utc>,
    ) -> Result<Landing, Error> {
        let database = || Error::database("landing a batch");
        let mut transaction = connection.begin().await.map_err(database())?;
        self.erased.hold(&mut transaction).await?;
        batch.skip_erased(&self.erased);
        if !advance(&mut transaction, batch, checkpoint, &self.erased, now).await? {
            transaction.rollback().await.map_err(database())?;
            return Ok(Landing::Fenced);
        }
        if let Checkpoint::Kafka(advance) = checkpoint
            && advance.may_repeat()
        {
            replays::supersede(&mut transaction, batch.source(), advance, now).await?;
        }
        let batch_id = if batch.is_empty() {
            None
        } else {
            let batch_id = insert_batch(&mut transaction, batch, origin, checkpoint, now).await.map_err(database())?;
            batch.copy(&mut transaction, batch_id, now).await?;
            self.park(&mut transaction, batch, batch_id, now).await?;
            if let Checkpoint::DeadLetters(settlement) = checkpoint {
                dead_letters::note_batch(&mut transaction, settlement, batch_id).await?;
            }
            Some(batch_id)
        };
        if batch_id.is_some() && !matches!(checkpoint, Checkpoint::Csv { .. }) {
            wake(&mut transaction, LANDED_CHANNEL, Some(batch.source())).await?;
        }
        transaction.commit().await.map_err(database())?;
        Ok(Landing::Landed { batch_id })
    }

    /// Writes the dead letters, sealed.
    async fn park(
        &self,
        connection: &mut PgConnection,
        batch: &Batch,
        batch_id: i64,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let letters = batch.dead_letters();
        if letters.is_empty() {
            return Ok(());
        }
        let payloads = letters.iter().map(|letter| self.seal.seal(batch.source(), &letter.payload));
        let contexts = letters.iter().map(|letter| self.seal.seal_context(batch.source(), letter.context.as_ref()));
        sqlx::query(
            "insert into staging.dead_letters
                 (source, origin, reason, detail, payload, truncated, external_id, context, batch_id, landed_at)
             select $1, origin, reason, detail, payload, truncated, external_id, context, $9, $10
             from unnest($2::jsonb[], $3::text[], $4::text[], $5::bytea[], $6::boolean[], $7::text[], $8::bytea[])
                 as letters (origin, reason, detail, payload, truncated, external_id, context)",
        )
        .bind(batch.source())
        .bind(letters.iter().map(|letter| letter.origin.clone()).collect::<Vec<_>>())
        .bind(letters.iter().map(|letter| letter.reject.reason.as_str()).collect::<Vec<_>>())
        .bind(letters.iter().map(|letter| letter.reject.detail.as_str()).collect::<Vec<_>>())
        .bind(payloads.collect::<Result<Vec<_>, _>>()?)
        .bind(letters.iter().map(|letter| letter.truncated).collect::<Vec<_>>())
        .bind(letters.iter().map(|letter| letter.external_id.clone()).collect::<Vec<_>>())
        .bind(contexts.collect::<Result<Vec<_>, _>>()?)
        .bind(batch_id)
        .bind(now)
        .execute(connection)
        .await
        .map_err(Error::database("parking dead letters"))?;
        Ok(())
    }
}

async fn advance(
    connection: &mut PgConnection,
    batch: &Batch,
    checkpoint: &Checkpoint,
    erased: &Erased,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let advanced = match checkpoint {
        Checkpoint::DeadLetters(settlement) => {
            return dead_letters::settle(connection, batch.source(), settlement, now).await;
        }
        Checkpoint::Kafka(advance) => offsets::advance(connection, batch.source(), advance, now).await,
        Checkpoint::Csv { import_id, rows_before, rows } => {
            let done = sqlx::query(
                "update staging.csv_imports
                 set row_count = row_count + $3, dead_letter_count = dead_letter_count + $4,
                     skipped_count = skipped_count + $5
                 where import_id = $1 and row_count = $2 and state = 'importing'",
            )
            .bind(import_id)
            .bind(rows_before)
            .bind(rows)
            .bind(batch.dead_letter_count())
            .bind(batch.skipped_count())
            .execute(connection)
            .await;
            done.map(|done| done.rows_affected() == 1)
        }
        Checkpoint::Rest(polled) if polled.iter().any(|polled| has_erased_id(batch, polled, erased)) => {
            let mut polled = polled.clone();
            for polled in &mut polled {
                if has_erased_id(batch, polled, erased) {
                    polled.external_id = None;
                }
            }
            polls::note(connection, batch.source(), &polled, now).await
        }
        Checkpoint::Rest(polled) => polls::note(connection, batch.source(), polled, now).await,
        Checkpoint::List(advance) if batch.erased_count() > 0 => {
            let mut advance = advance.clone();
            advance.listed.retain(|listed| !batch.has_skipped(listed.entity.as_str(), &listed.key));
            lists::note(connection, batch.source(), &advance, now).await
        }
        Checkpoint::List(advance) => lists::note(connection, batch.source(), advance, now).await,
    };
    advanced.map_err(Error::database("landing a batch"))
}

/// Whether an answer gave an id that is erased.
fn has_erased_id(batch: &Batch, polled: &Polled, erased: &Erased) -> bool {
    polled.external_id.as_ref().is_some_and(|id| erased.has_id(batch.source(), id))
}

async fn insert_batch(
    connection: &mut PgConnection,
    batch: &Batch,
    origin: &Value,
    checkpoint: &Checkpoint,
    now: DateTime<Utc>,
) -> Result<i64, sqlx::Error> {
    let import_id = match checkpoint {
        Checkpoint::Csv { import_id, .. } => Some(*import_id),
        _ => None,
    };
    sqlx::query_scalar(
        "insert into staging.batches
             (source, origin, record_count, dead_letter_count, skipped_count, landed_at, published_at, expires_at, import_id,
              left_out)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         returning batch_id",
    )
    .bind(batch.source())
    .bind(origin)
    .bind(batch.record_count())
    .bind(batch.dead_letter_count())
    .bind(batch.skipped_count())
    .bind(now)
    .bind(import_id.is_none().then_some(now))
    .bind(batch.expires_at(now))
    .bind(import_id)
    .bind(import_id.map_or(&[][..], |_| batch.left_out()))
    .fetch_one(connection)
    .await
}

/// Wakes whoever listens on a channel, when the caller's transaction commits. `source` is whose news it is, if it is one's.
pub async fn wake(connection: &mut PgConnection, channel: &str, source: Option<&str>) -> Result<(), Error> {
    sqlx::query("select pg_notify($1, $2)")
        .bind(channel)
        .bind(source.unwrap_or_default())
        .execute(connection)
        .await
        .map_err(Error::database("waking others"))?;
    Ok(())
}
