//! `staging.csv_imports`: the ledger of files, by content. A file is published as a whole or not at all.
//!
//! The life of a file: [`lock`] the source, [`abandon_leftovers`] of whoever died, look at [`finished_with`] and
//! [`newest`] to see what the file is, then [`note`] a copy or a superseded export, or [`begin`], land batches under
//! [`crate::Checkpoint::Csv`], and [`publish`] or [`refuse`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, PgExecutor};

use crate::{Error, LANDED_CHANNEL, constant_sql, dead_letters, wake};

/// What became of a file; the words of `csv_imports.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Landing; nothing of it can be claimed.
    Importing,
    /// Published as a whole.
    Imported,
    /// The same content as the newest import that it could replace.
    Copy,
    /// A full export older than one that is imported.
    Superseded,
    /// Nothing of it is published; `reason` says why.
    Refused,
}

/// A file as it comes into the ledger.
#[derive(Clone, Debug)]
pub struct File {
    /// The source.
    pub source: String,
    /// Where it is, as this process sees it.
    pub directory: String,
    /// Its name, without the directory.
    pub file_name: String,
    /// The time that its content is of.
    pub as_of: DateTime<Utc>,
    /// Its modification time.
    pub mtime: DateTime<Utc>,
    /// Whether the name holds the as-of date.
    pub dated: bool,
    /// Whether whoever it lacks has left.
    pub full_export: bool,
    /// SHA-256 of its bytes as they are, in hex.
    pub sha256: String,
}

/// A row of the ledger.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Import {
    /// The row's id.
    pub import_id: i64,
    /// The file's name.
    pub file_name: String,
    /// See [`File::as_of`].
    pub as_of: DateTime<Utc>,
    /// See [`File::mtime`].
    pub mtime: DateTime<Utc>,
    /// Whether the file was a full export when it was imported.
    pub full_export: bool,
    /// See [`File::sha256`].
    pub sha256: String,
    /// What became of it.
    #[sqlx(try_from = "String")]
    pub state: State,
    /// Its rows: landed, dead letters and skips.
    pub row_count: i64,
    /// Rows that became dead letters.
    pub dead_letter_count: i64,
    /// Rows that are nothing to land.
    pub skipped_count: i64,
}

impl State {
    /// The word in `csv_imports.state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Importing => "importing",
            Self::Imported => "imported",
            Self::Copy => "copy",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
        }
    }
}

impl From<String> for State {
    fn from(word: String) -> Self {
        [Self::Imported, Self::Copy, Self::Superseded, Self::Refused]
            .into_iter()
            .find(|state| state.as_str() == word)
            .unwrap_or(Self::Importing)
    }
}

/// Makes this session the one importer of a source; false while another one is. Held until [`unlock`] or the end of the
/// session, whatever ends it.
pub async fn lock(executor: impl PgExecutor<'_>, source: &str) -> Result<bool, Error> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtext('c360.csv_imports'), hashtext($1))")
        .bind(source)
        .fetch_one(executor)
        .await
        .map_err(Error::database("locking the imports of a source"))
}

/// Gives [`lock`] back.
pub async fn unlock(executor: impl PgExecutor<'_>, source: &str) -> Result<(), Error> {
    sqlx::query("select pg_advisory_unlock(hashtext('c360.csv_imports'), hashtext($1))")
        .bind(source)
        .execute(executor)
        .await
        .map_err(Error::database("unlocking the imports of a source"))?;
    Ok(())
}

/// Takes back what interrupted imports of a source have landed; belongs behind [`lock`]. Their batches are abandoned, their
/// dead letters go (the file brings them again), and their ledger rows too, so that an importer that only was asleep finds
/// itself fenced. Returns how many imports that were.
pub async fn abandon_leftovers(connection: &mut PgConnection, source: &str, now: DateTime<Utc>) -> Result<u64, Error> {
    let database = || Error::database("abandoning an interrupted import");
    let mut transaction = connection.begin().await.map_err(database())?;
    // First and by itself: it waits for a landing that is under way, and only later statements see what that has landed.
    let leftovers: Vec<i64> = sqlx::query_scalar(
        "delete from staging.csv_imports where source = $1 and state = 'importing' returning import_id",
    )
    .bind(source)
    .fetch_all(&mut *transaction)
    .await
    .map_err(database())?;
    if !leftovers.is_empty() {
        sqlx::query(
            "with abandoned as (
                 -- never claimed from now on; it expires
                 update staging.batches set abandoned_at = $2 where import_id = any ($1) and abandoned_at is null
                 returning batch_id
             )
             delete from staging.dead_letters d using abandoned a where d.batch_id = a.batch_id",
        )
        .bind(&leftovers)
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(database())?;
    }
    transaction.commit().await.map_err(database())?;
    Ok(leftovers.len() as u64)
}

const COLUMNS: &str =
    "import_id, file_name, as_of, mtime, full_export, sha256, state, row_count, dead_letter_count, skipped_count";

/// The newest imported file of a source: of one as-of time, or of all.
pub async fn newest(
    executor: impl PgExecutor<'_>,
    source: &str,
    as_of: Option<DateTime<Utc>>,
) -> Result<Option<Import>, Error> {
    let sql = format!(
        "select {COLUMNS} from staging.csv_imports
         where source = $1 and state = 'imported' and ($2::timestamptz is null or as_of = $2)
         order by as_of desc, mtime desc, import_id desc
         limit 1"
    );
    sqlx::query_as(constant_sql(sql))
        .bind(source)
        .bind(as_of)
        .fetch_optional(executor)
        .await
        .map_err(Error::database("reading the ledger of imports"))
}

/// How many rows the largest imported file of a source had; 0 without any.
pub async fn most_rows(executor: impl PgExecutor<'_>, source: &str) -> Result<u64, Error> {
    let most: Option<i64> = sqlx::query_scalar(
        "select max(row_count - skipped_count) from staging.csv_imports where source = $1 and state = 'imported'",
    )
    .bind(source)
    .fetch_one(executor)
    .await
    .map_err(Error::database("reading the ledger of imports"))?;
    Ok(most.unwrap_or_default().unsigned_abs())
}

/// Whether an import is still the newest one of its source, or there is still none, for the caller's transaction: nobody
/// publishes another one before its end.
///
/// # Errors
/// [`Error::Importing`] while somebody imports files of the source.
pub(crate) async fn is_still_newest(
    connection: &mut PgConnection,
    source: &str,
    import_id: Option<i64>,
) -> Result<bool, Error> {
    // The lock of `lock`, until the end of the transaction.
    let is_ours: bool =
        sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtext('c360.csv_imports'), hashtext($1))")
            .bind(source)
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::database("locking the imports of a source"))?;
    if !is_ours {
        return Err(Error::Importing);
    }
    Ok(newest(connection, source, None).await?.map(|newest| newest.import_id) == import_id)
}

/// What became of earlier files with this content, the latest first.
pub async fn finished_with(executor: impl PgExecutor<'_>, source: &str, sha256: &str) -> Result<Vec<Import>, Error> {
    let sql = format!(
        "select {COLUMNS} from staging.csv_imports
         where source = $1 and sha256 = $2 and state <> 'importing'
         order by import_id desc"
    );
    sqlx::query_as(constant_sql(sql))
        .bind(source)
        .bind(sha256)
        .fetch_all(executor)
        .await
        .map_err(Error::database("reading the ledger of imports"))
}

/// Opens a ledger row in state `importing` and returns its id.
pub async fn begin(executor: impl PgExecutor<'_>, file: &File, now: DateTime<Utc>) -> Result<i64, Error> {
    enter(executor, file, State::Importing, 0, now).await
}

/// Notes a file of which nothing is landed, a copy or a superseded export; all its rows are counted skips.
pub async fn note(
    executor: impl PgExecutor<'_>,
    file: &File,
    state: State,
    rows: i64,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    enter(executor, file, state, rows, now).await
}

async fn enter(
    executor: impl PgExecutor<'_>,
    file: &File,
    state: State,
    skipped: i64,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    sqlx::query_scalar(
        "insert into staging.csv_imports
             (source, file_name, as_of, mtime, dated, full_export, sha256, state, row_count, skipped_count,
              started_at, finished_at, directory)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, case when $8 <> 'importing' then $10 end, $11)
         returning import_id",
    )
    .bind(&file.source)
    .bind(&file.file_name)
    .bind(file.as_of)
    .bind(file.mtime)
    .bind(file.dated)
    .bind(file.full_export)
    .bind(&file.sha256)
    .bind(state.as_str())
    .bind(skipped)
    .bind(now)
    .bind(&file.directory)
    .fetch_one(executor)
    .await
    .map_err(Error::database("noting a file in the ledger of imports"))
}

/// How far an import is, and in which state; `None` if somebody took it for a leftover.
pub async fn progress(executor: impl PgExecutor<'_>, import_id: i64) -> Result<Option<(State, i64)>, Error> {
    let progress: Option<(String, i64)> =
        sqlx::query_as("select state, row_count from staging.csv_imports where import_id = $1")
            .bind(import_id)
            .fetch_optional(executor)
            .await
            .map_err(Error::database("reading the ledger of imports"))?;
    Ok(progress.map(|(state, rows)| (state.into(), rows)))
}

/// Publishes an import of `rows` rows as a whole: its batches can be claimed from now on, the last of them completes a full
/// export, and dead letters that the same file has left before are settled. False, and nothing done, if the ledger does not agree; after a reply that was lost [`progress`] tells more.
pub async fn publish(
    connection: &mut PgConnection,
    import_id: i64,
    rows: i64,
    ttl: Duration,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let database = || Error::database("publishing an import");
    let mut transaction = connection.begin().await.map_err(database())?;
    let file: Option<(String, bool, String, DateTime<Utc>)> = sqlx::query_as(
        "update staging.csv_imports set state = 'imported', finished_at = $3
         where import_id = $1 and row_count = $2 and state = 'importing'
         returning source, full_export, file_name, as_of",
    )
    .bind(import_id)
    .bind(rows)
    .bind(now)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(database())?;
    let Some((source, full_export, file_name, as_of)) = file else {
        transaction.rollback().await.map_err(database())?;
        return Ok(false);
    };
    if full_export {
        let origin = json!({"file": file_name, "as_of": as_of});
        complete(&mut transaction, import_id, &source, &origin, now + ttl, now).await.map_err(database())?;
    }
    sqlx::query("update staging.batches set published_at = $2 where import_id = $1 and abandoned_at is null")
        .bind(import_id)
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(database())?;
    dead_letters::settle_file(&mut transaction, import_id, now).await.map_err(database())?;
    wake(&mut transaction, LANDED_CHANNEL, Some(&source)).await?;
    transaction.commit().await.map_err(database())?;
    Ok(true)
}

/// Marks the batch that is claimed last as the one that completes a full export; an export without any row gets an empty
/// batch, because everybody has left then.
async fn complete(
    connection: &mut PgConnection,
    import_id: i64,
    source: &str,
    origin: &Value,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let marked = sqlx::query(
        "update staging.batches set completes_import = true
         where batch_id = (
             select batch_id from staging.batches where import_id = $1 and abandoned_at is null
             order by batch_id desc limit 1
         )",
    )
    .bind(import_id)
    .execute(&mut *connection)
    .await?;
    if marked.rows_affected() == 0 {
        sqlx::query(
            "insert into staging.batches (source, origin, record_count, landed_at, expires_at, import_id, completes_import)
             values ($1, $2, 0, $3, $4, $5, true)",
        )
        .bind(source)
        .bind(origin)
        .bind(now)
        .bind(expires_at)
        .bind(import_id)
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In words; holds no value of any row.
    pub reason: String,
    /// Whether there is something to import if an operator accepts it.
    pub may_be_accepted: bool,
}

/// Refuses an import: what it landed is abandoned, its dead letters are discarded (they stay to be looked at). False if the
/// import is not ours any more.
pub async fn refuse(
    connection: &mut PgConnection,
    import_id: i64,
    refusal: &Refusal,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "with refused as (
             update staging.csv_imports set state = 'refused', reason = $2, finished_at = $3, may_be_accepted = $4
             where import_id = $1 and state = 'importing'
             returning import_id
         ),
         abandoned as (
             update staging.batches b set abandoned_at = $3
             from refused r where b.import_id = r.import_id
             returning b.batch_id
         ),
         letters as (
             update staging.dead_letters d set state = 'discarded'
             from abandoned a where d.batch_id = a.batch_id
         )
         select import_id from refused",
    )
    .bind(import_id)
    .bind(&refusal.reason)
    .bind(now)
    .bind(refusal.may_be_accepted)
    .execute(connection)
    .await
    .map_err(Error::database("refusing an import"))?;
    Ok(done.rows_affected() == 1)
}
