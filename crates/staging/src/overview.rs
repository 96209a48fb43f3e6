//! What waits and what is wrong, for `status` and the gauges. Reads only; every time is absolute, so that the caller decides
//! what is late.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

use crate::imports::State;
use crate::{Error, constant_sql, expiry, partitions};

/// What is landed and not consolidated, of one source.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Backlog {
    /// The source.
    pub source: String,
    /// How many batches, those of files that are still being imported included.
    pub batches: i64,
    /// How many records they have.
    pub records: i64,
    /// When the oldest was landed.
    pub oldest: DateTime<Utc>,
    /// When the newest was landed: somebody works.
    pub newest: DateTime<Utc>,
    /// When the oldest was published that consolidation could take: a file that is still being imported is not its fault.
    pub oldest_claimable: Option<DateTime<Utc>>,
    /// When the time of the first of them is over; may be past, and holds its partition back then.
    pub first_expires_at: DateTime<Utc>,
    /// What consolidation said when it last failed on one of them.
    pub last_error: Option<String>,
}

/// Parked dead letters of one source and reason.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DeadLetters {
    /// The source.
    pub source: String,
    /// The word of [`model::Reason`].
    pub reason: String,
    /// How many are parked.
    pub parked: i64,
    /// How many of them came at or after the time that was asked about.
    pub recent: i64,
    /// When the first of these came.
    pub first_recent: Option<DateTime<Utc>>,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct LedgerFile {
    /// The source.
    pub source: String,
    /// Where it was, where that is known.
    pub directory: Option<String>,
    /// Its name, without the directory.
    pub file_name: String,
    /// The time that its content is of.
    pub as_of: DateTime<Utc>,
    /// What became of it.
    #[sqlx(try_from = "String")]
    pub state: State,
    /// Its rows: landed, dead letters and skips.
    pub rows: i64,
    /// Rows that became dead letters.
    pub dead_letters: i64,
    /// Rows that are nothing to land.
    pub skipped: i64,
    /// Why it was refused; holds no value of any row.
    pub reason: Option<String>,
    /// Whether there is something to import if it was refused and an operator accepts it, as far as that is known.
    pub may_be_accepted: bool,
    /// When it was taken up.
    pub started_at: DateTime<Utc>,
    /// When it was finished; `None` while it is being imported.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Polls of one source that are due.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PollsDue {
    /// The source.
    pub source: String,
    /// How many.
    pub due: i64,
    /// Since when the oldest is due.
    pub oldest: DateTime<Utc>,
}

/// What is stored of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Stored {
    /// Leads its Kafka positions; raised by an operator when its log has begun again.
    #[sqlx(try_from = "i32")]
    pub epoch: u32,
    /// Kafka: partitions with progress.
    pub partitions: i64,
    /// Kafka: topics with progress.
    pub topics: i64,
}

/// Where expiry stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// How many partitions of records there are.
    pub partitions: usize,
    /// When the oldest partition was past that has to stay because a batch in it is not consolidated.
    pub held_back_since: Option<DateTime<Utc>>,
    /// When the oldest partition was past that is still there, whatever for.
    pub overdue_since: Option<DateTime<Utc>>,
    /// When the time of the first batch is over that waits to be consolidated; may be past, and holds its partition back then.
    pub first_unconsolidated_expires_at: Option<DateTime<Utc>>,
}

/// The backlog of every source that has one.
pub async fn backlog(executor: impl PgExecutor<'_>) -> Result<Vec<Backlog>, Error> {
    sqlx::query_as(
        "select source, count(*) as batches, coalesce(sum(record_count), 0)::bigint as records,
                min(landed_at) as oldest, max(landed_at) as newest,
                min(published_at) as oldest_claimable, min(expires_at) as first_expires_at,
                (array_agg(last_error order by attempts desc, batch_id) filter (where last_error is not null))[1]
                    as last_error
         from staging.batches
         where consolidated_at is null and abandoned_at is null
         group by source
         order by source",
    )
    .fetch_all(executor)
    .await
    .map_err(Error::database("reading the backlog"))
}

/// Parked dead letters by source and reason.
pub async fn dead_letters(
    executor: impl PgExecutor<'_>,
    recent_since: DateTime<Utc>,
) -> Result<Vec<DeadLetters>, Error> {
    sqlx::query_as(
        "select source, reason, count(*) as parked, count(*) filter (where landed_at >= $1) as recent,
                min(landed_at) filter (where landed_at >= $1) as first_recent
         from staging.dead_letters
         where state = 'parked'
         group by source, reason
         order by source, reason",
    )
    .bind(recent_since)
    .fetch_all(executor)
    .await
    .map_err(Error::database("counting dead letters"))
}

/// [`dead_letters`] for those who ask every few seconds: answered by the index alone, however many are parked.
pub async fn parked(executor: impl PgExecutor<'_>) -> Result<BTreeMap<(String, String), i64>, Error> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "select source, reason, count(*) from staging.dead_letters where state = 'parked' group by source, reason",
    )
    .fetch_all(executor)
    .await
    .map_err(Error::database("counting dead letters"))?;
    Ok(rows.into_iter().map(|(source, reason, parked)| ((source, reason), parked)).collect())
}

/// The file that each CSV source took up last.
pub async fn last_files(executor: impl PgExecutor<'_>) -> Result<Vec<LedgerFile>, Error> {
    latest_files(executor, 1).await
}

/// The five files that each CSV source took up last, the latest first.
pub async fn recent_files(executor: impl PgExecutor<'_>) -> Result<Vec<LedgerFile>, Error> {
    latest_files(executor, 5).await
}

async fn latest_files(executor: impl PgExecutor<'_>, of_each: u8) -> Result<Vec<LedgerFile>, Error> {
    let latest = format!(
        "select unnest(array(
             select i.import_id from staging.csv_imports i
             where i.source = s.source
             order by i.import_id desc limit {of_each}))
         from (select distinct source from staging.csv_imports) as s"
    );
    files(executor, &latest).await
}

/// Files that were refused, each content of each night once, the latest first: until a file of the same night or of a newer
/// one is imported.
pub async fn refused_files(executor: impl PgExecutor<'_>) -> Result<Vec<LedgerFile>, Error> {
    let refused = "select distinct on (source, as_of, sha256) import_id from staging.csv_imports refused
                   where state = 'refused' and not exists (
                       select from staging.csv_imports imported
                       where imported.source = refused.source and imported.state = 'imported'
                         and imported.as_of >= refused.as_of and imported.import_id > refused.import_id
                   )
                   order by source, as_of, sha256, import_id desc";
    files(executor, refused).await
}

/// The newest time that each CSV source has given files of. A copy counts: its night has come, and said nothing new.
pub async fn newest_nights(executor: impl PgExecutor<'_>) -> Result<BTreeMap<String, DateTime<Utc>>, Error> {
    let nights: Vec<(String, Option<DateTime<Utc>>)> = sqlx::query_as(
        "select s.source, (
             select max(i.as_of) from staging.csv_imports i
             where i.source = s.source and i.state in ('imported', 'copy'))
         from (select distinct source from staging.csv_imports) as s",
    )
    .fetch_all(executor)
    .await
    .map_err(Error::database("reading the ledger of imports"))?;
    Ok(nights.into_iter().filter_map(|(source, newest)| Some((source, newest?))).collect())
}

/// Those whose ids `which` selects, the latest first.
async fn files(executor: impl PgExecutor<'_>, which: &str) -> Result<Vec<LedgerFile>, Error> {
    let sql = format!(
        "select source, directory, file_name, as_of, state, row_count as rows, dead_letter_count as dead_letters,
                skipped_count as skipped, reason, coalesce(may_be_accepted, true) as may_be_accepted,
                started_at, finished_at
         from staging.csv_imports
         where import_id in ({which})
         order by source, import_id desc"
    );
    sqlx::query_as(constant_sql(sql))
        .fetch_all(executor)
        .await
        .map_err(Error::database("reading the ledger of imports"))
}

/// Due polls of each of these sources that has some: nobody asks one that is not configured any more.
pub async fn polls_due(
    executor: impl PgExecutor<'_>,
    sources: &[&str],
    now: DateTime<Utc>,
) -> Result<Vec<PollsDue>, Error> {
    sqlx::query_as(
        "select source, count(*) as due, min(next_at) as oldest from staging.polls
         where source = any ($1) and next_at <= $2 group by source order by source",
    )
    .bind(sources)
    .bind(now)
    .fetch_all(executor)
    .await
    .map_err(Error::database("counting due polls"))
}

/// When each Kafka source last landed anything.
pub async fn kafka_progress(executor: impl PgExecutor<'_>) -> Result<BTreeMap<String, DateTime<Utc>>, Error> {
    let sql = "select source, max(updated_at) from staging.kafka_offsets group by source";
    let landed: Vec<(String, DateTime<Utc>)> =
        sqlx::query_as(sql).fetch_all(executor).await.map_err(Error::database("reading stored offsets"))?;
    Ok(landed.into_iter().collect())
}

/// What is stored of each source whose ingester has said or landed anything.
pub async fn stored(executor: impl PgExecutor<'_>) -> Result<BTreeMap<String, Stored>, Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        source: String,
        #[sqlx(flatten)]
        stored: Stored,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "with kafka as materialized (
             select source, count(*) as partitions, count(distinct topic) as topics from staging.kafka_offsets group by source
         )
         select coalesce(s.source, k.source) as source, coalesce(s.epoch, 0) as epoch,
                coalesce(k.partitions, 0) as partitions, coalesce(k.topics, 0) as topics
         from staging.sources s
         full join kafka k on k.source = s.source",
    )
    .fetch_all(executor)
    .await
    .map_err(Error::database("reading the sources"))?;
    Ok(rows.into_iter().map(|row| (row.source, row.stored)).collect())
}

/// Where expiry stands, by the rule that [`crate::expire`] goes by.
pub async fn expiry(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Expiry, Error> {
    let existing = partitions::existing(connection).await?;
    let first_unconsolidated_expires_at = sqlx::query_scalar(
        "select min(expires_at) from staging.batches where consolidated_at is null and abandoned_at is null",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(Error::database("looking for what expires next"))?;
    let mut expiry = Expiry { partitions: existing.len(), first_unconsolidated_expires_at, ..Expiry::default() };
    for bounds in existing.iter().filter(|bounds| bounds.end <= now.timestamp()) {
        let since = DateTime::from_timestamp(bounds.end, 0);
        expiry.overdue_since = expiry.overdue_since.or(since);
        if expiry::is_needed(connection, bounds).await? {
            expiry.held_back_since = since;
            break;
        }
    }
    Ok(expiry)
}

/// What each table of a schema takes on the database's disk, with its partitions, indexes and long values, by the table's
/// name without the schema.
pub async fn bytes_by_table(executor: impl PgExecutor<'_>, schema: &str) -> Result<BTreeMap<String, i64>, Error> {
    let bytes: Vec<(String, i64)> = sqlx::query_as(
        "select coalesce(parent.relname, c.relname)::text, coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
         from pg_class c
         join pg_namespace n on n.oid = c.relnamespace
         left join pg_inherits i on i.inhrelid = c.oid
         left join pg_class parent on parent.oid = i.inhparent
         where n.nspname = $1 and c.relkind in ('r', 'p')
         group by 1",
    )
    .bind(schema)
    .fetch_all(executor)
    .await
    .map_err(Error::database("measuring tables"))?;
    Ok(bytes.into_iter().collect())
}
