//! `staging.replays`: sections of Kafka partitions that an operator has asked to be landed again.
//!
//! A section has progress of its own ([`Progress::Replay`](crate::offsets::Progress)), so a replay neither disturbs whoever
//! reads the source nor starts again from the beginning when it was stopped. Landing a message again supersedes its dead
//! letter: were it still bad, it has a new one. [`rewind`] is for progress that cannot go on by itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use model::LastSeen;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, PgExecutor, Row};

use crate::Error;
use crate::offsets::{self, Advance, StoredOffset};

/// Messages of one partition, to be landed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset of the first message.
    pub first_offset: i64,
    /// Offset behind the last one.
    pub end_offset: i64,
    /// Offset of the first message that is not landed again yet.
    pub next_offset: i64,
    /// What is remembered of the log before it; the column `log_position`.
    pub last_seen: Option<LastSeen>,
}

/// Other progress for a partition.
#[derive(Clone, Debug)]
pub struct Rewind {
    /// What is stored; `None` when nothing is.
    pub stored: Option<i64>,
    /// What is to be stored.
    pub start: StoredOffset,
    /// Offset of the first message of the epoch that is present afterwards.
    pub first_offset: i64,
    /// Whether the topic was deleted and made again since the stored progress.
    pub is_made_again: bool,
}

/// How far a replay is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Its sections.
    pub own: Vec<StoredOffset>,
    /// Partitions (by topic and number) of its source that another replay lands again, or has landed.
    pub others: Vec<(String, i32)>,
}

/// Begins a replay. Its partitions forget whatever else they were to land again; what the same request had begun and not
/// finished goes on where it stopped, if that is within its sections still.
pub async fn begin(
    executor: impl PgExecutor<'_>,
    source: &str,
    request: &str,
    sections: &[Section],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let topics: Vec<&str> = sections.iter().map(|section| section.topic.as_str()).collect();
    let partitions: Vec<i32> = sections.iter().map(|section| section.partition).collect();
    sqlx::query(
        "insert into staging.replays as r
             (source, topic, partition, request, first_offset, end_offset, next_offset, log_position, updated_at)
         select $1, topic, partition, $2, first_offset, end_offset, first_offset, log_position, $8
         from unnest($3::text[], $4::integer[], $5::bigint[], $6::bigint[], $7::bytea[])
             as sections (topic, partition, first_offset, end_offset, log_position)
         on conflict on constraint replays_pkey do update set
             request = excluded.request, first_offset = excluded.first_offset, end_offset = excluded.end_offset,
             next_offset = excluded.next_offset, log_position = excluded.log_position, updated_at = excluded.updated_at,
             -- Whoever has to hear of it is gone when this one is done.
             took_over = r.next_offset < r.end_offset and (r.took_over or r.request <> excluded.request)
         where r.request <> excluded.request or r.next_offset >= r.end_offset
            or r.next_offset < excluded.first_offset or r.end_offset > excluded.end_offset",
    )
    .bind(source)
    .bind(request)
    .bind(&topics)
    .bind(&partitions)
    .bind(sections.iter().map(|section| section.first_offset).collect::<Vec<_>>())
    .bind(sections.iter().map(|section| section.end_offset).collect::<Vec<_>>())
    .bind(sections.iter().map(|section| section.last_seen.map(LastSeen::to_bytes)).collect::<Vec<_>>())
    .bind(now)
    .execute(executor)
    .await
    .map_err(Error::database("beginning a replay"))?;
    Ok(())
}

/// What is left of a request: nothing where it was never made, or is done.
pub async fn unfinished(executor: impl PgExecutor<'_>, source: &str, request: &str) -> Result<Vec<Section>, Error> {
    let rows = sqlx::query(
        "select topic, partition, first_offset, end_offset, next_offset, log_position from staging.replays
         where source = $1 and request = $2 and next_offset < end_offset
         order by topic, partition",
    )
    .bind(source)
    .bind(request)
    .fetch_all(executor)
    .await
    .map_err(Error::database("looking for an unfinished replay"))?;
    let section = |row: &PgRow| Section {
        topic: row.get("topic"),
        partition: row.get("partition"),
        first_offset: row.get("first_offset"),
        end_offset: row.get("end_offset"),
        next_offset: row.get("next_offset"),
        last_seen: row.get::<Option<&[u8]>, _>("log_position").and_then(LastSeen::from_bytes),
    };
    Ok(rows.iter().map(section).collect())
}

/// How far the sections of a request are landed again. What has neither a section of its own nor another's is done: by
/// another process that was given the same request.
pub async fn stored(executor: impl PgExecutor<'_>, source: &str, request: &str) -> Result<Replayed, Error> {
    let sql = "select topic, partition, next_offset, log_position, null::bigint as last_offset,
                      null::bigint as last_timestamp_ms, request = $2 as is_own
               from staging.replays
               where source = $1";
    let rows = sqlx::query(sql).bind(source).bind(request).fetch_all(executor).await;
    let rows = rows.map_err(Error::database("reading the progress of a replay"))?;
    let (own, others): (Vec<PgRow>, Vec<PgRow>) = rows.into_iter().partition(|row| row.get("is_own"));
    Ok(Replayed {
        own: own.iter().map(StoredOffset::of).collect(),
        others: others.iter().map(|row| (row.get("topic"), row.get("partition"))).collect(),
    })
}

/// Forgets what is done of a source's replays, where no other replay has to hear that its place was taken.
pub async fn forget_done(executor: impl PgExecutor<'_>, source: &str) -> Result<(), Error> {
    sqlx::query("delete from staging.replays where source = $1 and next_offset >= end_offset and not took_over")
        .bind(source)
        .execute(executor)
        .await
        .map_err(Error::database("forgetting finished replays"))?;
    Ok(())
}

/// Stores other progress, all of it or nothing: false when somebody else has moved what is stored. With `new_epoch`, the
/// source's epoch is raised with it. Whoever reads these partitions is fenced, and goes on from here, whatever messages were
/// there before.
pub async fn rewind(
    connection: &mut PgConnection,
    source: &str,
    rewinds: &[Rewind],
    new_epoch: bool,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let database = || Error::database("storing other progress");
    let mut transaction = connection.begin().await.map_err(database())?;
    // Whoever lands meanwhile has read the epoch before this, and commits before it, or reads it afterwards.
    sqlx::query("lock table staging.kafka_offsets in share row exclusive mode")
        .execute(&mut *transaction)
        .await
        .map_err(database())?;
    for Rewind { stored, start, is_made_again, .. } in rewinds {
        let done = sqlx::query(
            "with known as materialized (
                 select max(next_offset) as next_offset from staging.kafka_offsets
                 where source = $1 and topic = $2 and partition = $3
             )
             insert into staging.kafka_offsets as o (source, topic, partition, next_offset, log_position, updated_at)
             select $1, $2, $3, $4, $5, $6 from known where next_offset is not distinct from $7
             on conflict on constraint kafka_offsets_pkey do update set
                 next_offset = excluded.next_offset, log_position = excluded.log_position,
                 updated_at = excluded.updated_at, last_offset = null, last_timestamp_ms = null",
        )
        .bind(source)
        .bind(&start.topic)
        .bind(start.partition)
        .bind(start.next_offset)
        .bind(start.last_seen.map(LastSeen::to_bytes))
        .bind(now)
        .bind(stored)
        .execute(&mut *transaction)
        .await
        .map_err(database())?;
        if done.rows_affected() == 0 {
            transaction.rollback().await.map_err(database())?;
            return Ok(false);
        }
        if *is_made_again {
            orphan_letters(&mut transaction, source, start).await?;
        }
    }
    begin_epoch(&mut transaction, source, rewinds, new_epoch).await?;
    transaction.commit().await.map_err(database())?;
    Ok(true)
}

/// Raises the epoch, and notes from which offsets on it is present: on the partitions that are rewound, and with a new one
/// on all others from where they are.
async fn begin_epoch(
    connection: &mut PgConnection,
    source: &str,
    rewinds: &[Rewind],
    new_epoch: bool,
) -> Result<(), Error> {
    let database = || Error::database("beginning an epoch");
    let epoch: i32 = sqlx::query_scalar(
        "insert into staging.sources as s (source, epoch) values ($1, $2)
         on conflict on constraint sources_pkey do update set epoch = s.epoch + excluded.epoch
         returning epoch",
    )
    .bind(source)
    .bind(i32::from(new_epoch))
    .fetch_one(&mut *connection)
    .await
    .map_err(database())?;
    if epoch == 0 {
        return Ok(());
    }
    let mut begins: BTreeMap<(String, i32), i64> = BTreeMap::new();
    if new_epoch {
        let stored = offsets::stored(&mut *connection, source).await?;
        begins.extend(stored.into_iter().map(|at| ((at.topic, at.partition), at.next_offset)));
    }
    for Rewind { start, first_offset, .. } in rewinds {
        begins.insert((start.topic.clone(), start.partition), *first_offset);
    }
    let (topics, partitions): (Vec<String>, Vec<i32>) = begins.keys().cloned().unzip();
    let first_offsets: Vec<i64> = begins.into_values().collect();
    // A partition without a row began in the epoch before.
    sqlx::query(
        "insert into staging.kafka_epochs (source, topic, partition, first_offset, epoch)
         select $1, b.topic, b.partition, 0, $4
         from unnest($2::text[], $3::integer[]) as b (topic, partition)
         left join staging.kafka_epochs e on e.source = $1 and e.topic = b.topic and e.partition = b.partition
         where e.source is null and $4 > 0",
    )
    .bind(source)
    .bind(&topics)
    .bind(&partitions)
    .bind(epoch - i32::from(new_epoch))
    .execute(&mut *connection)
    .await
    .map_err(database())?;
    sqlx::query(
        "delete from staging.kafka_epochs e
         using unnest($2::text[], $3::integer[], $4::bigint[]) as b (topic, partition, first_offset)
         where e.source = $1 and e.topic = b.topic and e.partition = b.partition and e.first_offset >= b.first_offset",
    )
    .bind(source)
    .bind(&topics)
    .bind(&partitions)
    .bind(&first_offsets)
    .execute(&mut *connection)
    .await
    .map_err(database())?;
    sqlx::query(
        "insert into staging.kafka_epochs (source, topic, partition, first_offset, epoch)
         select $1, topic, partition, first_offset, $5
         from unnest($2::text[], $3::integer[], $4::bigint[]) as b (topic, partition, first_offset)",
    )
    .bind(source)
    .bind(&topics)
    .bind(&partitions)
    .bind(&first_offsets)
    .bind(epoch)
    .execute(&mut *connection)
    .await
    .map_err(database())?;
    Ok(())
}

/// Notes of the dead letters of a partition that their topic is not there any more: what is landed from where they were is
/// something else.
async fn orphan_letters(connection: &mut PgConnection, source: &str, start: &StoredOffset) -> Result<(), Error> {
    sqlx::query(
        "update staging.dead_letters set origin = origin || '{\"topic_deleted\": true}'
         where source = $1 and state = 'parked' and origin ->> 'topic' = $2 and (origin ->> 'partition')::integer = $3",
    )
    .bind(source)
    .bind(&start.topic)
    .bind(start.partition)
    .execute(connection)
    .await
    .map_err(Error::database("noting a deleted topic"))?;
    Ok(())
}

/// Marks the dead letters of messages that are landed again as retried, and empties them.
pub(crate) async fn supersede(
    connection: &mut PgConnection,
    source: &str,
    Advance { topic, partition, expected, next_offset, .. }: &Advance,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(
        "update staging.dead_letters set state = 'retried', payload = '', context = null, handled_at = $6
         where source = $1 and state = 'parked' and origin ->> 'topic' = $2 and (origin ->> 'partition')::integer = $3
           and (origin ->> 'offset')::bigint >= $4 and (origin ->> 'offset')::bigint < $5
           and not origin ? 'topic_deleted'",
    )
    .bind(source)
    .bind(topic)
    .bind(partition)
    .bind(expected.unwrap_or(0))
    .bind(next_offset)
    .bind(now)
    .execute(connection)
    .await
    .map_err(Error::database("superseding dead letters"))?;
    Ok(())
}
