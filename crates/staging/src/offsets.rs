//! `staging.kafka_offsets`: how far each partition has been landed.

use chrono::{DateTime, Utc};
use model::LogPosition;
use sqlx::{PgConnection, PgExecutor, Row};

use crate::Error;

/// The stored progress of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOffset {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset of the first message that is not landed.
    pub next_offset: i64,
    /// The last log position seen before it.
    pub log_position: Option<LogPosition>,
}

/// A step of progress, landed by compare-and-swap.
#[derive(Clone, Debug)]
pub struct Advance {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// What the ingester believes is stored; `None` when it has seen nothing stored for this partition.
    pub expected: Option<i64>,
    /// Offset of the first message that the batch does not cover.
    pub next_offset: i64,
    /// The last log position seen up to there.
    pub log_position: Option<LogPosition>,
}

/// All stored offsets of a source.
pub async fn stored(executor: impl PgExecutor<'_>, source: &str) -> Result<Vec<StoredOffset>, Error> {
    let rows =
        sqlx::query("select topic, partition, next_offset, log_position from staging.kafka_offsets where source = $1")
            .bind(source)
            .fetch_all(executor)
            .await
            .map_err(Error::database("reading stored offsets"))?;
    let offset = |row: &sqlx::postgres::PgRow| StoredOffset {
        topic: row.get(0),
        partition: row.get(1),
        next_offset: row.get(2),
        log_position: row.get::<Option<&[u8]>, _>(3).and_then(LogPosition::from_bytes),
    };
    Ok(rows.iter().map(offset).collect())
}

/// The source's epoch, which leads its positions; 0 until an operator raises it.
pub async fn epoch(executor: impl PgExecutor<'_>, source: &str) -> Result<u32, Error> {
    let epoch: Option<i32> = sqlx::query_scalar("select epoch from staging.sources where source = $1")
        .bind(source)
        .fetch_optional(executor)
        .await
        .map_err(Error::database("reading the source's epoch"))?;
    Ok(epoch.unwrap_or(0).unsigned_abs())
}

/// Moves the stored offset if it is what the ingester believes; false means fenced.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    source: &str,
    advance: &Advance,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let sql = match advance.expected {
        Some(_) => {
            "update staging.kafka_offsets set next_offset = $4, log_position = $5, updated_at = $6
             where source = $1 and topic = $2 and partition = $3 and next_offset = $7"
        }
        None => {
            "insert into staging.kafka_offsets (source, topic, partition, next_offset, log_position, updated_at)
             select $1, $2, $3, $4, $5, $6 where $7::bigint is null
             on conflict on constraint kafka_offsets_pkey do nothing"
        }
    };
    let done = sqlx::query(sql)
        .bind(source)
        .bind(&advance.topic)
        .bind(advance.partition)
        .bind(advance.next_offset)
        .bind(advance.log_position.map(LogPosition::to_bytes))
        .bind(now)
        .bind(advance.expected)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}
