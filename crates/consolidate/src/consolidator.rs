//! The consolidator at work: its connections, both steps in turn, and what happens when the database refuses data.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use staging::erased::Verdict;
use staging::frozen::{READS_NO_MORE, SENDS_NO_MORE};
use staging::{ClaimedBatch, Erased, LockHolder, Seal, StagedRecord};
use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;

use crate::error::database;
use crate::exclude::exclude_refused;
use crate::fold::fold;
use crate::matching::{Matching, Standing};
use crate::merge::{Merged, merge};
use crate::overview::CONSOLIDATORS;
use crate::restarts::Clocks;
use crate::retire::sweep;
use crate::{Error, Rules, migrate, rebuild};

/// Connections that write side by side.
const LANES: usize = 3;
/// Records that one claim takes.
const CLAIM_RECORDS: i64 = 8_000;
/// Under a backlog, which is full claims, step 1 goes on this long before step 2 has its turn: each profile is folded less
/// often.
const MERGE_FOR: Duration = Duration::from_mins(1);
/// How often the partition that will be needed next is looked for.
const LOOK_AHEAD_EVERY: Duration = Duration::from_mins(1);

/// What there was to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Batches merged.
    pub batches: usize,
    /// Records read from them.
    pub records: usize,
    /// Records that are dead letters now.
    pub excluded: usize,
    /// Cross-references tombstoned by retirements.
    pub retired: usize,
    /// Profiles written.
    pub profiles: usize,
}

/// The one consolidator of a database, or one that stands by.
///
/// It writes through lanes: connections that work side by side on rows that no other one touches. Each of its connections
/// holds a lock of its own, so that whoever takes over begins when nothing that its predecessor sent can still commit. Of one
/// that is frozen or out of reach Postgres ends them all; when it wakes up, it has no connection to commit on.
pub struct Consolidator {
    reader: LockHolder,
    lanes: Vec<LockHolder>,
    memory: Memory,
    looked_ahead: Option<Instant>,
    /// What time it is.
    clock: fn() -> DateTime<Utc>,
}

/// What the one at work has read and keeps up: when it first has work, for before that another one may change it.
#[derive(Default)]
struct Memory {
    standing: Standing,
    clocks: Option<Clocks>,
    /// Whom nothing is merged of any more.
    erased: Option<Erased>,
}

/// Batches that are merged together, with their records.
#[derive(Default)]
pub(crate) struct Claim {
    pub(crate) batches: Vec<ClaimedBatch>,
    pub(crate) records: Vec<StagedRecord>,
    /// Batch and ordinal of records that are left out because somebody is erased.
    pub(crate) skipped: Vec<(i64, i32)>,
}

impl Consolidator {
    /// Connects, and stands by.
    pub async fn connect(database: &PgConnectOptions) -> Result<Self, staging::Error> {
        let lost = CancellationToken::new();
        // Only the commits of profiles wait for the disk. A crash takes the last of the others back, the newest first, so that the
        // batch or the mark that asked for what is gone stands again.
        let database = &database.clone().options([("synchronous_commit", "off")]);
        let mut lanes = Vec::with_capacity(LANES);
        for _ in 0..LANES {
            lanes.push(LockHolder::connect(database, &lost).await?);
        }
        let reader = LockHolder::connect(database, &lost).await?;
        Ok(Self { reader, lanes, memory: Memory::default(), looked_ahead: None, clock: Utc::now })
    }

    /// Goes by another clock.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> DateTime<Utc>) -> Self {
        Self { clock, ..self }
    }

    /// Becomes the one at work, unless another process is. The locks belong to the connections, so they are free when this
    /// process dies.
    pub async fn try_begin(&mut self) -> Result<bool, Error> {
        let asking = async {
            for (number, holder) in (0_i32..).zip(self.holders()) {
                let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock(hashtext('c360.consolidator'), $1)")
                    .bind(number)
                    .fetch_one(&mut *holder.connection().await)
                    .await
                    .map_err(database("asking for the consolidator's lock"))?;
                if !locked {
                    self.stand_by().await?;
                    return Ok(false);
                }
            }
            Ok(true)
        };
        self.unless_lost(asking).await
    }

    async fn stand_by(&self) -> Result<(), Error> {
        for holder in self.holders() {
            sqlx::query("select pg_advisory_unlock_all()")
                .execute(&mut *holder.connection().await)
                .await
                .map_err(database("giving the consolidator's lock back"))?;
        }
        self.end_frozen().await
    }

    /// Ends sessions of the one at work if it froze in the middle of a transfer.
    async fn end_frozen(&self) -> Result<(), Error> {
        let sql =
            format!("select pg_terminate_backend(a.pid) from {CONSOLIDATORS} and ({SENDS_NO_MORE} or {READS_NO_MORE})");
        let ended = sqlx::query(staging::constant_sql(sql))
            .execute(&mut *self.reader.connection().await)
            .await
            .map_err(database("looking after the consolidator at work"))?;
        if ended.rows_affected() > 0 {
            tracing::warn!("whoever consolidates froze in the middle of a transfer: its sessions are ended");
        }
        Ok(())
    }

    fn holders(&self) -> impl Iterator<Item = &LockHolder> {
        self.lanes.iter().chain([&self.reader])
    }

    /// A connection for statements beside the two steps.
    pub(crate) async fn connection(&self) -> MutexGuard<'_, PgConnection> {
        self.reader.connection().await
    }

    /// Waits for work on these connections, but not longer than there are all of them.
    pub(crate) async fn unless_lost<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        // It is lost with any of them.
        self.reader.unless_lost(work).await
    }

    /// Runs both steps until nothing is left. Only for the one at work.
    pub async fn drain(&mut self, rules: &Rules, seal: &Seal, cancel: &CancellationToken) -> Result<Drained, Error> {
        let mut drained = Drained::default();
        while !cancel.is_cancelled() && self.turn(rules, seal, cancel, &mut drained).await? {}
        Ok(drained)
    }

    /// Runs both steps once; false when there was nothing to do.
    pub(crate) async fn turn(
        &mut self,
        rules: &Rules,
        seal: &Seal,
        cancel: &CancellationToken,
        drained: &mut Drained,
    ) -> Result<bool, Error> {
        if self.looked_ahead.is_none_or(|at| at.elapsed() > LOOK_AHEAD_EVERY) {
            self.unless_lost(self.look_ahead()).await?;
            self.looked_ahead = Some(Instant::now());
        }
        let mut memory = std::mem::take(&mut self.memory);
        let turned = self.unless_lost(self.both_steps(rules, seal, &mut memory, cancel, drained)).await;
        self.memory = memory;
        turned
    }

    /// Makes next month's partition of `changes` in time.
    async fn look_ahead(&self) -> Result<(), Error> {
        if !migrate::prepare_change_partition(&mut *self.reader.connection().await, (self.clock)()).await? {
            tracing::warn!("next month's partition of customer360.changes is not made: somebody has locked the table");
        }
        Ok(())
    }

    async fn both_steps(
        &self,
        rules: &Rules,
        seal: &Seal,
        memory: &mut Memory,
        cancel: &CancellationToken,
        drained: &mut Drained,
    ) -> Result<bool, Error> {
        let before = *drained;
        let swept = sweep(&mut *self.lanes[0].connection().await, rules, self.clock, cancel).await?;
        drained.retired += swept.tombstoned;
        let rebuilding = rebuild::sweep(&mut *self.lanes[0].connection().await, rules, self.clock, cancel).await?;
        self.merge_claims(rules, seal, memory, cancel, drained).await?;
        let folded = fold(&self.reader, &self.lanes, rules, &mut memory.standing, self.clock, cancel).await?;
        drained.profiles += folded.profiles;
        Ok(*drained != before || folded.keys > 0 || swept.is_unfinished || rebuilding)
    }

    /// Step 2 alone, for the oldest marks. Only for the one at work.
    pub(crate) async fn fold_marked(&self, rules: &Rules, cancel: &CancellationToken) -> Result<(), Error> {
        let standing = &mut Standing::default();
        self.unless_lost(fold(&self.reader, &self.lanes, rules, standing, self.clock, cancel)).await?;
        Ok(())
    }

    /// Step 1 for one claim or, under a backlog, for a while: then the next claim is read while one is merged.
    async fn merge_claims(
        &self,
        rules: &Rules,
        seal: &Seal,
        memory: &mut Memory,
        cancel: &CancellationToken,
        drained: &mut Drained,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let Memory { standing, clocks, erased } = memory;
        let clocks = match clocks {
            Some(clocks) => clocks,
            none => none.insert(Clocks::read(&mut *self.reader.connection().await).await?),
        };
        let erased = erased.get_or_insert_with(|| Erased::new(seal));
        let mut claim = Claim::next(&mut *self.reader.connection().await, &[]).await?;
        while !claim.batches.is_empty() {
            erased.read(&mut *self.lanes[0].connection().await).await?;
            claim.skip_erased(erased);
            let read_ahead = async {
                if !claim.is_full() || started.elapsed() > MERGE_FOR || cancel.is_cancelled() {
                    return Ok(Claim::default());
                }
                Claim::next(&mut *self.reader.connection().await, &claim.batch_ids()).await
            };
            let now = (self.clock)();
            let matching = Matching::keep_up(&mut *self.lanes[0].connection().await, rules, standing).await?;
            let merging = merge_or_exclude(&self.lanes, &matching, seal, clocks, erased, &claim, now);
            let (merged, next) = tokio::join!(merging, read_ahead);
            let merged = match merged {
                // Again, without what was read of them.
                Err(Error::Erasing) => continue,
                merged => merged?,
            };
            drained.batches += merged.batches;
            drained.records += merged.records;
            drained.excluded += merged.excluded;
            claim = next?;
        }
        Ok(())
    }
}

impl Claim {
    /// Reads the oldest batches that wait, without these, which are being merged.
    async fn next(connection: &mut PgConnection, without: &[i64]) -> Result<Self, Error> {
        let mut batches = staging::claim(&mut *connection, CLAIM_RECORDS, without).await?;
        // It ends with the batch that completes a full export: who is missing from it is looked up in the table, which must
        // hold everything that came before.
        let completes = |batch: &ClaimedBatch| batch.import.as_ref().is_some_and(|import| import.completes);
        if let Some(last) = batches.iter().position(completes) {
            batches.truncate(last + 1);
        }
        Self::of(connection, batches).await
    }

    /// Reads the records of batches.
    pub(crate) async fn of(connection: &mut PgConnection, batches: Vec<ClaimedBatch>) -> Result<Self, Error> {
        let mut claim = Self { batches, ..Self::default() };
        if !claim.batches.is_empty() {
            claim.records = staging::read(connection, &claim.batch_ids()).await?;
        }
        Ok(claim)
    }

    /// Leaves out what is about the erased.
    fn skip_erased(&mut self, erased: &Erased) {
        if erased.is_empty() {
            return;
        }
        let skipped = &mut self.skipped;
        self.records.retain_mut(|record| match record.judge(erased) {
            Verdict::Keep => true,
            Verdict::Skip => {
                skipped.push((record.batch_id, record.ordinal));
                false
            }
            Verdict::Rewrite(rewritten) => {
                (record.email, record.attributes, record.payload) =
                    (rewritten.email, rewritten.attributes, rewritten.payload);
                true
            }
        });
    }

    /// Whether more waits, most likely.
    fn is_full(&self) -> bool {
        let records: i64 = self.batches.iter().map(|batch| i64::from(batch.record_count)).sum();
        records >= CLAIM_RECORDS
    }

    pub(crate) fn batch_ids(&self) -> Vec<i64> {
        self.batches.iter().map(|batch| batch.batch_id).collect()
    }
}

/// Merges batches together; if the database refuses data, one by one, and of a batch that it refuses all but the culprits.
async fn merge_or_exclude(
    lanes: &[LockHolder],
    matching: &Matching<'_>,
    seal: &Seal,
    clocks: &mut Clocks,
    erased: &Erased,
    claim: &Claim,
    now: DateTime<Utc>,
) -> Result<Merged, Error> {
    let error = match merge(lanes, matching, seal, clocks, erased, claim, now).await {
        Err(error) if error.is_data() => error,
        outcome => return outcome,
    };
    let mut total = Merged::default();
    for batch in &claim.batches {
        staging::fail(&mut *lanes[0].connection().await, &[batch.batch_id], &error.to_string()).await?;
        let mut alone = Claim::of(&mut *lanes[0].connection().await, vec![batch.clone()]).await?;
        alone.skip_erased(erased);
        let merged = match merge(lanes, matching, seal, clocks, erased, &alone, now).await {
            Err(error) if error.is_data() => {
                total.excluded +=
                    exclude_refused(&mut *lanes[0].connection().await, matching.rules, seal, erased, &alone, now)
                        .await?;
                let mut rest = Claim::of(&mut *lanes[0].connection().await, alone.batches).await?;
                rest.skip_erased(erased);
                merge(lanes, matching, seal, clocks, erased, &rest, now).await?
            }
            outcome => outcome?,
        };
        total.batches += merged.batches;
        total.records += merged.records;
        total.excluded += merged.excluded;
    }
    Ok(total)
}
