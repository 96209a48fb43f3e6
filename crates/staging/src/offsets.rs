//! `staging.kafka_offsets`: how far each partition has been landed; and, of the same kind, how far each is landed again
//! (`staging.replays`).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use model::LastSeen;
use sqlx::postgres::PgRow;
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
    /// What is remembered of the log before it; the column `log_position`.
    pub last_seen: Option<LastSeen>,
    /// The last message before it.
    pub last_message: Option<LastMessage>,
}

/// The last message that is landed of a partition, by which the partition is known again: one that was deleted and made
/// again has another at this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastMessage {
    /// Its offset.
    pub offset: i64,
    /// When Kafka says that it was written, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl StoredOffset {
    /// Of a row with the columns topic, partition, `next_offset`, `log_position`, `last_offset`, `last_timestamp_ms`.
    pub(crate) fn of(row: &PgRow) -> Self {
        Self {
            topic: row.get("topic"),
            partition: row.get("partition"),
            next_offset: row.get("next_offset"),
            last_seen: row.get::<Option<&[u8]>, _>("log_position").and_then(LastSeen::from_bytes),
            last_message: row
                .get::<Option<i64>, _>("last_offset")
                .zip(row.get("last_timestamp_ms"))
                .map(|(offset, timestamp_ms)| LastMessage { offset, timestamp_ms }),
        }
    }
}

/// Which progress moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// The source's own.
    #[default]
    Source,
    /// That of a replay, which an operator began with this request ([`crate::replays`]).
    Replay(Arc<str>),
}

/// A step of progress, landed by compare-and-swap.
#[derive(Clone, Debug)]
pub struct Advance {
    /// Which progress.
    pub progress: Progress,
    /// The source's epoch by which the records' positions were made; another one is stored once an operator has raised it.
    pub epoch: u32,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// What the ingester believes is stored; `None` when it has seen nothing stored for this partition.
    pub expected: Option<i64>,
    /// Offset of the first message that the batch does not cover.
    pub next_offset: i64,
    /// What is remembered of the log up to there.
    pub last_seen: Option<LastSeen>,
    /// The last message up to there. A replay does not keep it.
    pub last_message: Option<LastMessage>,
}

impl Advance {
    /// Whether its messages may have been landed before: a replay lands them again, and so does a source that was sent back to
    /// where its log has begun again.
    pub(crate) fn may_repeat(&self) -> bool {
        matches!(self.progress, Progress::Replay(_)) || self.epoch > 0
    }
}

/// All stored offsets of a source.
pub async fn stored(executor: impl PgExecutor<'_>, source: &str) -> Result<Vec<StoredOffset>, Error> {
    let rows = sqlx::query(
        "select topic, partition, next_offset, log_position, last_offset, last_timestamp_ms
         from staging.kafka_offsets
         where source = $1",
    )
    .bind(source)
    .fetch_all(executor)
    .await
    .map_err(Error::database("reading stored offsets"))?;
    Ok(rows.iter().map(StoredOffset::of).collect())
}

/// The epochs of a source, which lead its positions: 0 until an operator raises it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    current: u32,
    begins: Vec<(String, i32, i64, u32)>,
}

/// Of which epoch the messages of a partition are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionEpochs {
    current: u32,
    /// First offset and epoch, in order. Without any, all of it is of the current one.
    begins: Vec<(i64, u32)>,
}

impl Epochs {
    /// Those of one partition.
    pub fn of(&self, topic: &str, partition: i32) -> PartitionEpochs {
        let begins = self.begins.iter().filter(|(of_topic, number, ..)| of_topic == topic && *number == partition);
        PartitionEpochs {
            current: self.current,
            begins: begins.map(|(_, _, first_offset, epoch)| (*first_offset, *epoch)).collect(),
        }
    }
}

impl PartitionEpochs {
    /// The source's present epoch.
    pub fn current(&self) -> u32 {
        self.current
    }

    /// The epoch of a message.
    pub fn at(&self, offset: i64) -> u32 {
        if self.begins.is_empty() {
            return self.current;
        }
        self.begins.iter().rev().find(|(first_offset, _)| *first_offset <= offset).map_or(0, |(_, epoch)| *epoch)
    }

    /// The epochs as they will be once another one begins here.
    #[must_use]
    pub fn with_next(mut self, first_offset: i64) -> Self {
        if self.begins.is_empty() {
            self.begins.push((0, self.current));
        }
        self.begins.retain(|(known, _)| *known < first_offset);
        self.current += 1;
        self.begins.push((first_offset, self.current));
        self
    }
}

/// Reads the epochs of a source.
pub async fn epochs(executor: impl PgExecutor<'_>, source: &str) -> Result<Epochs, Error> {
    let rows = sqlx::query(
        "select s.epoch as present_epoch, e.topic, e.partition, e.first_offset, e.epoch
         from staging.sources s
         left join staging.kafka_epochs e on e.source = s.source
         where s.source = $1
         order by e.first_offset",
    )
    .bind(source)
    .fetch_all(executor)
    .await
    .map_err(Error::database("reading the source's epochs"))?;
    let begin = |row: &PgRow| {
        let topic: Option<String> = row.get("topic");
        let epoch =
            |topic| (topic, row.get("partition"), row.get("first_offset"), row.get::<i32, _>("epoch").unsigned_abs());
        topic.map(epoch)
    };
    Ok(Epochs {
        current: rows.first().map_or(0, |row| row.get::<i32, _>("present_epoch").unsigned_abs()),
        begins: rows.iter().filter_map(begin).collect(),
    })
}

/// Moves the stored offset if it is what the ingester believes; false means fenced.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    source: &str,
    advance: &Advance,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let sql = match (&advance.progress, advance.expected) {
        (Progress::Source, Some(_)) => {
            "update staging.kafka_offsets set
                 next_offset = $4, log_position = $5, updated_at = $6, last_offset = $9, last_timestamp_ms = $10
             where source = $1 and topic = $2 and partition = $3 and next_offset = $7
               and coalesce((select epoch from staging.sources where source = $1), 0) = $8"
        }
        (Progress::Source, None) => {
            "insert into staging.kafka_offsets
                 (source, topic, partition, next_offset, log_position, updated_at, last_offset, last_timestamp_ms)
             select $1, $2, $3, $4, $5, $6, $9, $10
             where $7::bigint is null
               and coalesce((select epoch from staging.sources where source = $1), 0) = $8
             on conflict on constraint kafka_offsets_pkey do nothing"
        }
        (Progress::Replay(_), _) => {
            "update staging.replays set next_offset = $4, log_position = $5, updated_at = $6
             where source = $1 and topic = $2 and partition = $3 and next_offset = $7 and request = $9
               and coalesce((select epoch from staging.sources where source = $1), 0) = $8"
        }
    };
    let query = sqlx::query(sql)
        .bind(source)
        .bind(&advance.topic)
        .bind(advance.partition)
        .bind(advance.next_offset)
        .bind(advance.last_seen.map(LastSeen::to_bytes))
        .bind(now)
        .bind(advance.expected)
        .bind(i32::try_from(advance.epoch).unwrap_or(i32::MAX));
    let last = advance.last_message;
    let query = match &advance.progress {
        Progress::Source => query.bind(last.map(|last| last.offset)).bind(last.map(|last| last.timestamp_ms)),
        Progress::Replay(request) => query.bind(&**request),
    };
    let done = query.execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_of_the_epoch_that_had_begun_before_it() {
        let begins = [("t", 0, 100, 1), ("t", 0, 250, 2), ("t", 1, 50, 2)];
        let begins =
            begins.map(|(topic, partition, first, epoch)| (topic.to_owned(), partition, first, epoch)).to_vec();
        let epochs = Epochs { current: 2, begins };
        let of = |partition, offset| epochs.of("t", partition).at(offset);
        assert_eq!([0, 99, 100, 249, 250, 900].map(|offset| of(0, offset)), [0, 0, 1, 1, 2, 2]);
        assert_eq!([49, 50].map(|offset| of(1, offset)), [0, 2]);
        // A partition that was added since.
        assert_eq!(of(2, 0), 2);
        let next = epochs.of("t", 0).with_next(200);
        assert_eq!([150, 199, 200, 300].map(|offset| next.at(offset)), [1, 1, 3, 3]);
        assert_eq!(epochs.of("t", 2).with_next(10).at(9), 2);
    }
}
