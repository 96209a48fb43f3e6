//! Claiming: what the consolidator reads and says about batches.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use model::{Entity, ExternalId, Mapped, Operation, Position, Reason, Record, Reject};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, Row};

use crate::erased::{Erased, Said, Verdict};
use crate::{DeadLetter, Error, Seal};

/// A batch that is ready to be merged.
#[derive(Clone, Debug)]
pub struct ClaimedBatch {
    /// The batch.
    pub batch_id: i64,
    /// Its source.
    pub source: String,
    /// How many records it has.
    pub record_count: i32,
    /// When it was landed.
    pub landed_at: DateTime<Utc>,
    /// How many times merging it has failed.
    pub attempts: i32,
    /// Whether somebody asked for its records again: they count as they are read by now.
    pub is_again: bool,
    /// The file that it is part of.
    pub import: Option<ClaimedImport>,
}

/// The file that a batch is part of.
#[derive(Clone, Debug)]
pub struct ClaimedImport {
    /// The ledger row.
    pub import_id: i64,
    /// Whether a member missing from the file has left.
    pub full_export: bool,
    /// Whether this is the file's last batch: only now can anybody be missing.
    pub completes: bool,
    /// As-of time of the file.
    pub as_of: DateTime<Utc>,
    /// Modification time of the file.
    pub mtime: DateTime<Utc>,
}

/// A staged record, as the consolidator reads it.
#[derive(Clone, Debug)]
pub struct StagedRecord {
    /// Its batch.
    pub batch_id: i64,
    /// Its place in the batch.
    pub ordinal: i32,
    /// Its source, which is the system that speaks.
    pub source: String,
    /// What it is about.
    pub entity: Entity,
    /// What it does.
    pub operation: Operation,
    /// The system's id.
    pub external_id: ExternalId,
    /// `None` keeps, `Some("")` clears.
    pub email: Option<String>,
    /// `None` keeps, `Some("")` clears.
    pub credential: Option<String>,
    /// Where it stands in the system's own order.
    pub position: Position,
    /// When the system says that it changed.
    pub observed_at: DateTime<Utc>,
    /// See [`model::Mapped::attributes`].
    pub attributes: String,
    /// The id that the row of a primary-key change has from now on.
    pub moved_to: Option<ExternalId>,
    /// The raw record; read for orders and interactions only.
    pub payload: Option<String>,
}

impl StagedRecord {
    /// What is to become of it, by who is erased.
    pub fn judge(&self, erased: &Erased) -> Verdict {
        erased.judge(&Said {
            source: &self.source,
            entity: self.entity,
            external_id: self.external_id.as_str(),
            moved_to: self.moved_to.as_ref(),
            email: self.email.as_deref(),
            attributes: &self.attributes,
            payload: self.payload.as_deref(),
        })
    }

    /// The record as it was landed.
    fn to_record(&self, payload: Option<String>) -> Record {
        Record {
            operation: self.operation,
            mapped: Mapped {
                entity: self.entity,
                external_id: self.external_id.clone(),
                email: self.email.clone(),
                credential: self.credential.clone(),
                attributes: self.attributes.clone(),
            },
            position: self.position.clone(),
            observed_at: self.observed_at,
            moved_to: self.moved_to.clone(),
            payload,
        }
    }
}

/// The oldest published batches that are not consolidated, in the order of their ids, together about `max_records`, at least
/// one if there is one; `without` those that are being merged.
pub async fn claim(
    executor: impl PgExecutor<'_>,
    max_records: i64,
    without: &[i64],
) -> Result<Vec<ClaimedBatch>, Error> {
    let rows = sqlx::query(
        "with waiting as (
             -- published, oldest first, with the count of records before each
             select batch_id, source, record_count, landed_at, attempts, completes_import, import_id, origin,
                    sum(record_count) over (order by batch_id) - record_count as records_before
             from (
                 select batch_id, source, record_count, landed_at, attempts, completes_import, import_id, origin
                 from staging.batches
                 where consolidated_at is null and abandoned_at is null and published_at is not null
                   and batch_id <> all ($2)
                 order by batch_id
                 limit 1000
             ) b
         )
         select w.batch_id, w.source, w.record_count, w.landed_at, w.attempts, w.completes_import,
                w.origin ? 'again' as is_again, i.import_id, i.full_export, i.as_of, i.mtime
         from waiting w
         left join staging.csv_imports i on i.import_id = w.import_id
         where w.records_before < $1
         order by w.batch_id",
    )
    .bind(max_records)
    .bind(without)
    .fetch_all(executor)
    .await
    .map_err(Error::database("claiming batches"))?;
    let batch = |row: &PgRow| ClaimedBatch {
        batch_id: row.get("batch_id"),
        source: row.get("source"),
        record_count: row.get("record_count"),
        landed_at: row.get("landed_at"),
        attempts: row.get("attempts"),
        is_again: row.get("is_again"),
        import: row.get::<Option<i64>, _>("import_id").map(|import_id| ClaimedImport {
            import_id,
            completes: row.get("completes_import"),
            full_export: row.get("full_export"),
            as_of: row.get("as_of"),
            mtime: row.get("mtime"),
        }),
    };
    Ok(rows.iter().map(batch).collect())
}

/// The newest batch that there is; 0 without any.
pub async fn newest(executor: impl PgExecutor<'_>) -> Result<i64, Error> {
    sqlx::query_scalar("select coalesce(max(batch_id), 0) from staging.batches")
        .fetch_one(executor)
        .await
        .map_err(Error::database("looking for the newest batch"))
}

/// Whether a claimable batch is left among those up to this one.
pub async fn is_left(executor: impl PgExecutor<'_>, up_to: i64) -> Result<bool, Error> {
    sqlx::query_scalar(
        "select exists (
             select from staging.batches
             where consolidated_at is null and abandoned_at is null and published_at is not null and batch_id <= $1
         )",
    )
    .bind(up_to)
    .fetch_one(executor)
    .await
    .map_err(Error::database("looking for batches that are left"))
}

/// The records of batches, in the order landed, without those that were excluded.
pub async fn read(executor: impl PgExecutor<'_>, batch_ids: &[i64]) -> Result<Vec<StagedRecord>, Error> {
    let mut records = sqlx::query(
        "select r.batch_id, r.ordinal, r.source, r.entity, r.operation, r.external_id, r.id_is_number, r.email,
                r.credential, r.position, r.observed_at, r.attributes::text, r.moved_to::text,
                case when r.entity in ('order', 'interaction') then r.payload end
         from staging.records r
         join staging.batches b on b.batch_id = r.batch_id
         where r.batch_id = any ($1) and b.batch_id = any ($1) and r.expires_at >= (
                 select min(expires_at) from staging.batches where batch_id = any ($1))
           and not (r.ordinal = any (b.excluded))",
    )
    .bind(batch_ids)
    .try_map(|row| staged_record(&row))
    .fetch_all(executor)
    .await
    .map_err(Error::database("reading staged records"))?;
    let place: std::collections::HashMap<i64, usize> = batch_ids.iter().copied().zip(0..).collect();
    records.sort_by_key(|record| (place.get(&record.batch_id).copied(), record.ordinal));
    Ok(records)
}

fn staged_record(row: &PgRow) -> Result<StagedRecord, sqlx::Error> {
    let moved_to: Option<&str> = row.get(12);
    Ok(StagedRecord {
        batch_id: row.get(0),
        ordinal: row.get(1),
        source: row.get(2),
        entity: Entity::parse(row.get(3)).ok_or_else(unknown_word)?,
        operation: Operation::parse(row.get(4)).ok_or_else(unknown_word)?,
        external_id: ExternalId::from_parts(row.get(5), row.get(6)),
        email: row.get(7),
        credential: row.get(8),
        position: Position::from(row.get::<Vec<u8>, _>(9)),
        observed_at: row.get(10),
        attributes: row.get(11),
        moved_to: moved_to.and_then(ExternalId::from_json),
        payload: row.get(13),
    })
}

/// Waits in staging until a program comes that knows the word.
fn unknown_word() -> sqlx::Error {
    sqlx::Error::Decode(
        "a newer c360 landed an entity or operation that this one does not know; update this one".into(),
    )
}

/// Where batches come from; see `staging.batches.origin`.
pub async fn origins(executor: impl PgExecutor<'_>, batch_ids: &[i64]) -> Result<BTreeMap<i64, Value>, Error> {
    let origins: Vec<(i64, Value)> =
        sqlx::query_as("select batch_id, origin from staging.batches where batch_id = any ($1)")
            .bind(batch_ids)
            .fetch_all(executor)
            .await
            .map_err(Error::database("reading where batches come from"))?;
    Ok(origins.into_iter().collect())
}

/// Marks batches as consolidated; belongs into the transaction that wrote their effect.
pub async fn finish(executor: impl PgExecutor<'_>, batch_ids: &[i64], now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query("update staging.batches set consolidated_at = $2, last_error = null where batch_id = any ($1)")
        .bind(batch_ids)
        .bind(now)
        .execute(executor)
        .await
        .map_err(Error::database("finishing batches"))?;
    Ok(())
}

/// Notes that merging batches failed, for `status`.
pub async fn fail(executor: impl PgExecutor<'_>, batch_ids: &[i64], error: &str) -> Result<(), Error> {
    sqlx::query("update staging.batches set attempts = attempts + 1, last_error = $2 where batch_id = any ($1)")
        .bind(batch_ids)
        .bind(error)
        .execute(executor)
        .await
        .map_err(Error::database("noting a failed batch"))?;
    Ok(())
}

/// Turns a record that cannot be consolidated into a dead letter and leaves it out of its batch, in the caller's
/// transaction. `detail` holds no value.
pub async fn exclude(
    connection: &mut PgConnection,
    seal: &Seal,
    record: &StagedRecord,
    detail: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let database = || Error::database("excluding a record");
    let payload: Option<Option<String>> =
        sqlx::query_scalar("select payload from staging.records where batch_id = $1 and ordinal = $2")
            .bind(record.batch_id)
            .bind(record.ordinal)
            .fetch_optional(&mut *connection)
            .await
            .map_err(database())?;
    let reject = Reject::new(Reason::CannotConsolidate, detail);
    let letter = DeadLetter::of_record(Value::Null, reject, &record.to_record(payload.flatten()));
    sqlx::query(
        "with retried as materialized (
             -- the letter that the record was in before, if it was landed by a retry: it knows where it came from
             select origin from staging.dead_letters
             where landed_batch_id = $1 and landed_ordinal <= $2
             order by landed_ordinal desc
             limit 1
         )
         insert into staging.dead_letters
             (source, origin, reason, detail, payload, external_id, context, batch_id, landed_at)
         select b.source,
                coalesce(r.origin, case when $9::bigint is null then b.origin else
                    -- the message itself, so that a replay finds the letter
                    b.origin - '{first_offset,last_offset}'::text[] || jsonb_build_object('offset', $9)
                end || jsonb_build_object('ordinal', $2::integer)),
                $3, $4, $5, $6, $7, b.batch_id, $8
         from staging.batches b
         left join retried r on true
         where b.batch_id = $1",
    )
    .bind(record.batch_id)
    .bind(record.ordinal)
    .bind(letter.reject.reason.as_str())
    .bind(&letter.reject.detail)
    .bind(seal.seal(&record.source, &letter.payload)?)
    .bind(&letter.external_id)
    .bind(seal.seal_context(&record.source, letter.context.as_ref())?)
    .bind(now)
    .bind(record.position.as_kafka().map(|(_, _, offset)| offset))
    .execute(&mut *connection)
    .await
    .map_err(database())?;
    sqlx::query(
        "update staging.batches
         set excluded = array_append(excluded, $2), record_count = record_count - 1,
             dead_letter_count = dead_letter_count + 1
         where batch_id = $1",
    )
    .bind(record.batch_id)
    .bind(record.ordinal)
    .execute(connection)
    .await
    .map_err(database())?;
    Ok(())
}

/// Notes the ids that a full export has, rows, dead letters and what was left out of it alike, in the temporary table `export_members (external_id)`
/// of the caller's transaction. Whoever is not among them has left.
pub async fn note_members(connection: &mut PgConnection, import_id: i64) -> Result<(), Error> {
    let database = || Error::database("noting the members of a full export");
    sqlx::query("create temporary table export_members (external_id text not null) on commit drop")
        .execute(&mut *connection)
        .await
        .map_err(database())?;
    sqlx::query(
        "with parts as materialized (
             select batch_id, left_out from staging.batches where import_id = $1 and abandoned_at is null
         )
         insert into export_members (external_id)
         select r.external_id from staging.records r join parts p on p.batch_id = r.batch_id
         union
         select d.external_id from staging.dead_letters d join parts p on p.batch_id = d.batch_id
         where d.external_id is not null
         union
         select unnest(left_out) from parts",
    )
    .bind(import_id)
    .execute(&mut *connection)
    .await
    .map_err(database())?;
    sqlx::query("analyze export_members").execute(connection).await.map_err(database())?;
    Ok(())
}
