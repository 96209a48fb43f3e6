//! A source whose log begins again (a restore, a fail-over to a server with other file numbers, `RESET MASTER`): its new
//! records look old by position and would change nothing, silently, until an operator raises the source's epoch.
//!
//! An old position alone says nothing: every replay, every duplicate and every late delivery has one. A record counts as
//! one of a log that has begun again if its time contradicts its position three times:
//!
//! * **It is later than everything that the source has ever said before** ([`Clocks`]). Whatever was consolidated once can
//!   therefore never count: not a replay, in any order, not a file that is imported again, not a snapshot that is replayed
//!   (whose rows have times hours after the events that follow them), not what a killed worker publishes twice.
//! * **It is later than what its cross-reference knows by more than [`MARGIN`].** That is for records that come for the
//!   first time and out of order. Times of one row can run against its log: sources count whole seconds, clocks are set,
//!   and a statement keeps the time of its beginning while it waits for a row lock, in MySQL 50 s by default.
//! * **Its place in the log, file and position, is earlier.** A row of an incremental snapshot has the place of the last
//!   event that was read, with row 0: it can only be as late as the last event of its row, or later.
//!
//! Positions of files and answers are made from their times, so only those of Kafka can be contradicted.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use model::{Entity, Position, Xref};
use sqlx::PgConnection;
use staging::StagedRecord;

use crate::error::database;
use crate::{Error, metrics};

/// See the module. The stored times of [`Clocks`] are at most this much behind, too.
const MARGIN: TimeDelta = TimeDelta::minutes(1);

/// Customer records older than what their cross-references know, as they were met.
#[derive(Default)]
pub(crate) struct Older<'r> {
    counts: BTreeMap<&'r str, u64>,
    /// Those that are newer by their time.
    contradicting: Vec<&'r StagedRecord>,
}

/// The latest time that each source has ever given a customer record.
pub(crate) struct Clocks {
    latest: BTreeMap<String, DateTime<Utc>>,
    /// What is stored of it. It may lag a little: most claims write nothing.
    stored: BTreeMap<String, DateTime<Utc>>,
    /// Source and epoch of what was logged.
    told: BTreeSet<(String, u32)>,
}

/// Records of one partition and epoch that look like those of a log that has begun again.
struct Restart {
    records: i64,
    first_offset: i64,
    first_observed_at: DateTime<Utc>,
}

/// Source, epoch, topic, partition.
type Place = (String, u32, String, i32);

impl<'r> Older<'r> {
    /// Notes a record that is older than what its cross-reference knows.
    pub(crate) fn note(&mut self, record: &'r StagedRecord, known: &Xref) {
        *self.counts.entry(&record.source).or_default() += 1;
        if record.observed_at > known.observed_at + MARGIN && is_earlier_in_one_log(&record.position, &known.position) {
            self.contradicting.push(record);
        }
    }

    /// Takes what another lane has met.
    pub(crate) fn add(&mut self, other: Self) {
        for (source, count) in other.counts {
            *self.counts.entry(source).or_default() += count;
        }
        self.contradicting.extend(other.contradicting);
    }

    /// Counts, once what was met is merged for good.
    pub(crate) fn count(&self) {
        for (source, count) in &self.counts {
            ::metrics::counter!(metrics::RECORDS_OLDER, "source" => (*source).to_owned()).increment(*count);
        }
        for record in &self.contradicting {
            ::metrics::counter!(metrics::RECORDS_OLDER_YET_NEW, "source" => record.source.clone()).increment(1);
        }
    }
}

/// Whether a position is at an earlier place of the log, by file and position, in the same epoch.
fn is_earlier_in_one_log(position: &Position, known: &Position) -> bool {
    let (Some((epoch, log, _)), Some((known_epoch, known, _))) = (position.as_kafka(), known.as_kafka()) else {
        return false;
    };
    epoch == known_epoch && (log.file, log.pos) < (known.file, known.pos)
}

impl Clocks {
    /// Reads what is stored.
    pub(crate) async fn read(connection: &mut PgConnection) -> Result<Self, Error> {
        let sql = "select source, newest_observed_at from customer360.source_times";
        let times: Vec<(String, DateTime<Utc>)> =
            sqlx::query_as(sql).fetch_all(connection).await.map_err(database("reading the sources' times"))?;
        let stored: BTreeMap<String, DateTime<Utc>> = times.into_iter().collect();
        Ok(Self { latest: stored.clone(), stored, told: BTreeSet::new() })
    }

    /// Leaves of what a claim met only what is later than everything before that claim.
    pub(crate) fn judge(&self, older: &mut Older<'_>) {
        older
            .contradicting
            .retain(|record| self.latest.get(&record.source).is_none_or(|latest| *latest < record.observed_at));
    }

    /// Writes what has to outlive this process, in the transaction that finishes the claim: restarts that were met, and how
    /// far the sources' times are, where that has moved.
    pub(crate) async fn write(
        &mut self,
        connection: &mut PgConnection,
        older: &Older<'_>,
        records: &[StagedRecord],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if !older.contradicting.is_empty() {
            let restarts = restarts(connection, &older.contradicting).await?;
            write_restarts(connection, &restarts, now).await?;
            self.tell(&restarts);
        }
        let lags = |source: &str, latest: DateTime<Utc>| self.stored.get(source).is_none_or(|at| *at + MARGIN < latest);
        let moved: Vec<(&str, DateTime<Utc>)> =
            latest(records).into_iter().filter(|(source, latest)| lags(source, *latest)).collect();
        if moved.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into customer360.source_times as known (source, newest_observed_at)
             select * from unnest($1::text[], $2::timestamptz[]) as t (source, newest_observed_at)
             on conflict on constraint source_times_pkey do update set newest_observed_at = excluded.newest_observed_at
             where known.newest_observed_at < excluded.newest_observed_at",
        )
        .bind(moved.iter().map(|(source, _)| *source).collect::<Vec<_>>())
        .bind(moved.iter().map(|(_, latest)| *latest).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(database("noting the sources' times"))?;
        Ok(())
    }

    /// Takes the times of a claim that is merged for good.
    pub(crate) fn advance(&mut self, records: &[StagedRecord]) {
        for (source, latest) in latest(records) {
            if self.stored.get(source).is_none_or(|at| *at + MARGIN < latest) {
                self.stored.insert(source.to_owned(), latest);
            }
            let known = self.latest.entry(source.to_owned()).or_insert(latest);
            *known = latest.max(*known);
        }
    }

    fn tell(&mut self, restarts: &BTreeMap<Place, Restart>) {
        for ((source, epoch, topic, partition), restart) in restarts {
            if self.told.insert((source.clone(), *epoch)) {
                tracing::error!(
                    source,
                    topic,
                    partition,
                    offset = restart.first_offset,
                    "records look old by position and new by time: has the source's log begun again? See `c360 status`"
                );
            }
        }
    }
}

/// The latest time of each source's customer records. Neighbours are of one batch, so of one source.
fn latest(records: &[StagedRecord]) -> BTreeMap<&str, DateTime<Utc>> {
    let mut latest: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
    for of_source in records.chunk_by(|a, b| a.source == b.source) {
        let customers = of_source.iter().filter(|record| record.entity == Entity::Customer);
        if let Some(time) = customers.map(|record| record.observed_at).max() {
            let known = latest.entry(&of_source[0].source).or_insert(time);
            *known = time.max(*known);
        }
    }
    latest
}

/// By partition and epoch, as far as the batches' origins say from which partition they are.
async fn restarts(
    connection: &mut PgConnection,
    contradicting: &[&StagedRecord],
) -> Result<BTreeMap<Place, Restart>, Error> {
    let batch_ids: BTreeSet<i64> = contradicting.iter().map(|record| record.batch_id).collect();
    let origins = staging::origins(connection, &batch_ids.into_iter().collect::<Vec<_>>()).await?;
    let mut restarts: BTreeMap<Place, Restart> = BTreeMap::new();
    for record in contradicting {
        let Some((epoch, _, offset)) = record.position.as_kafka() else { continue };
        let Some(origin) = origins.get(&record.batch_id) else { continue };
        let (Some(topic), Some(partition)) = (origin["topic"].as_str(), origin["partition"].as_i64()) else { continue };
        let Ok(partition) = i32::try_from(partition) else { continue };
        let first = Restart { records: 0, first_offset: offset, first_observed_at: record.observed_at };
        let known = restarts.entry((record.source.clone(), epoch, topic.to_owned(), partition)).or_insert(first);
        known.records += 1;
        if offset < known.first_offset {
            (known.first_offset, known.first_observed_at) = (offset, record.observed_at);
        }
    }
    Ok(restarts)
}

async fn write_restarts(
    connection: &mut PgConnection,
    restarts: &BTreeMap<Place, Restart>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if restarts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into customer360.log_restarts as known
             (source, epoch, topic, partition, records, first_offset, first_observed_at, noticed_at, last_noticed_at)
         select r.*, $8, $8
         from unnest($1::text[], $2::integer[], $3::text[], $4::integer[], $5::bigint[], $6::bigint[], $7::timestamptz[])
             as r (source, epoch, topic, partition, records, first_offset, first_observed_at)
         on conflict on constraint log_restarts_pkey do update set
             records = known.records + excluded.records, last_noticed_at = excluded.last_noticed_at",
    )
    .bind(restarts.keys().map(|(source, ..)| source.as_str()).collect::<Vec<_>>())
    .bind(restarts.keys().map(|(_, epoch, ..)| i32::try_from(*epoch).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .bind(restarts.keys().map(|(_, _, topic, _)| topic.as_str()).collect::<Vec<_>>())
    .bind(restarts.keys().map(|(.., partition)| *partition).collect::<Vec<_>>())
    .bind(restarts.values().map(|restart| restart.records).collect::<Vec<_>>())
    .bind(restarts.values().map(|restart| restart.first_offset).collect::<Vec<_>>())
    .bind(restarts.values().map(|restart| restart.first_observed_at).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await
    .map_err(database("noting a log that has begun again"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::LogPosition;

    use super::*;

    #[test]
    fn an_earlier_place_is_of_file_and_position_in_one_epoch() {
        let at = |epoch, file, pos, row| {
            Position::kafka(epoch, LogPosition { file, pos, streamed: true, row }, i64::from(row))
        };
        let known = at(1, 5, 100, 2);
        assert!(is_earlier_in_one_log(&at(1, 5, 99, 9), &known));
        assert!(is_earlier_in_one_log(&at(1, 1, 900, 9), &known));
        for other in [at(1, 5, 100, 0), at(1, 5, 101, 0), at(1, 6, 4, 0), at(0, 1, 4, 0)] {
            assert!(!is_earlier_in_one_log(&other, &known), "{other:?}");
        }
        let day = DateTime::from_timestamp(0, 0).unwrap();
        assert!(!is_earlier_in_one_log(&Position::rest(day), &known));
        assert!(!is_earlier_in_one_log(&at(0, 1, 1, 0), &Position::csv(day, day, 7)));
    }
}
