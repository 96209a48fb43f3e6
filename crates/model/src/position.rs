//! Positions: where a record stands in its source's own order, as bytes that compare the same way.

use chrono::{DateTime, Utc};

/// An order-preserving byte string: of two records of one (system, external id), the one with the greater position is the
/// newer. Positions of different sources are never compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(Vec<u8>);

/// Where a change stands in its database's log, before the Kafka offset breaks ties.
///
/// A snapshot row comes before a stream row of the same place, and `row` counts within one log event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// Number of the binlog file; 0 where the log has no files (Postgres, plain JSON).
    pub file: u32,
    /// Byte position, LSN, version or timestamp within the log.
    pub pos: u64,
    /// False for a row read by a snapshot, true for one read from the log.
    pub streamed: bool,
    /// Row within one log event.
    pub row: u32,
}

impl LogPosition {
    const BYTES: usize = 17;

    /// A place in a log that counts with signed numbers, such as a version column or a timestamp.
    pub fn from_signed(pos: i64) -> Self {
        Self { file: 0, pos: order_i64(pos), streamed: true, row: 0 }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        Some(Self {
            file: u32::from_be_bytes(bytes[0..4].try_into().ok()?),
            pos: u64::from_be_bytes(bytes[4..12].try_into().ok()?),
            streamed: bytes[12] != 0,
            row: u32::from_be_bytes(bytes[13..17].try_into().ok()?),
        })
    }

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.file.to_be_bytes());
        bytes.extend_from_slice(&self.pos.to_be_bytes());
        bytes.push(u8::from(self.streamed));
        bytes.extend_from_slice(&self.row.to_be_bytes());
    }
}

/// What is remembered of a log while a Kafka partition is read: what the position of a later message may hang on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// The position of the last message that had one of its own.
    pub position: LogPosition,
    /// The `pos` at which the last snapshot was taken, of a log without files whose snapshot was read here.
    pub snapshot: Option<u64>,
}

impl LastSeen {
    /// The form kept in `staging.kafka_offsets.log_position`: the position, then the snapshot if there was one.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LogPosition::BYTES + 8);
        self.position.write(&mut bytes);
        bytes.extend(self.snapshot.into_iter().flat_map(u64::to_be_bytes));
        bytes
    }

    /// Reads [`LastSeen::to_bytes`] back; `None` if the bytes are of another form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (position, snapshot) = bytes.split_at_checked(LogPosition::BYTES)?;
        let snapshot = match snapshot {
            [] => None,
            snapshot => Some(u64::from_be_bytes(snapshot.try_into().ok()?)),
        };
        Some(Self { position: LogPosition::from_bytes(position)?, snapshot })
    }
}

impl Position {
    /// Kafka: the source's epoch, the log position, then the Kafka offset, which only breaks ties.
    pub fn kafka(epoch: u32, log: LogPosition, offset: i64) -> Self {
        let mut bytes = Vec::with_capacity(4 + LogPosition::BYTES + 8);
        bytes.extend_from_slice(&epoch.to_be_bytes());
        log.write(&mut bytes);
        bytes.extend_from_slice(&offset.to_be_bytes());
        Self(bytes)
    }

    /// CSV: the as-of time of the file, its modification time, the row (from 1).
    pub fn csv(as_of: DateTime<Utc>, mtime: DateTime<Utc>, row: u64) -> Self {
        let mut bytes = Vec::with_capacity(24);
        bytes.extend_from_slice(&order_i64(as_of.timestamp_micros()).to_be_bytes());
        bytes.extend_from_slice(&order_i64(mtime.timestamp_micros()).to_be_bytes());
        bytes.extend_from_slice(&row.to_be_bytes());
        Self(bytes)
    }

    /// The position of a file itself, at which whoever a full export lacks has left: after all older files, and before its own
    /// rows, so that a row that could not be read at first brings its member back.
    pub fn csv_file(as_of: DateTime<Utc>, mtime: DateTime<Utc>) -> Self {
        Self::csv(as_of, mtime, 0)
    }

    /// REST: the time of the answer.
    pub fn rest(answered_at: DateTime<Utc>) -> Self {
        Self(order_i64(answered_at.timestamp_micros()).to_be_bytes().to_vec())
    }

    /// The position at which values that a primary-key change carries over lie on the new key: that of the delete without
    /// its Kafka offset. The create of the new key shares the log position of the delete but lies in a partition of its
    /// own, so their offsets do not compare; without an offset the carried values come before the create, always.
    #[must_use]
    pub fn carried(&self) -> Self {
        Self(self.0[..self.0.len().min(4 + LogPosition::BYTES)].to_vec())
    }

    /// What [`Position::kafka`] made it of: epoch, log position, offset. `None` for positions of another kind.
    pub fn as_kafka(&self) -> Option<(u32, LogPosition, i64)> {
        let (epoch, rest) = self.0.split_first_chunk()?;
        let (log, offset) = rest.split_at_checked(LogPosition::BYTES)?;
        Some((u32::from_be_bytes(*epoch), LogPosition::from_bytes(log)?, i64::from_be_bytes(offset.try_into().ok()?)))
    }

    /// The bytes, as Postgres stores and compares them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Position {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// Maps signed onto unsigned so that the order is kept.
fn order_i64(value: i64) -> u64 {
    value.cast_unsigned() ^ (1 << 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(file: u32, pos: u64, streamed: bool, row: u32) -> LogPosition {
        LogPosition { file, pos, streamed, row }
    }

    #[test]
    fn binlog_files_compare_by_number_then_place_then_row() {
        let ordered = [
            Position::kafka(0, log(9, 900, true, 3), 70),
            Position::kafka(0, log(10, 4, false, 0), 1),
            Position::kafka(0, log(10, 4, true, 0), 0),
            Position::kafka(0, log(10, 4, true, 1), 0),
            Position::kafka(0, log(10, 4, true, 1), 9),
            Position::kafka(1, log(0, 0, false, 0), 0),
        ];
        assert!(ordered.is_sorted());
    }

    #[test]
    fn carried_values_come_before_the_create_and_after_what_was_there() {
        let delete = Position::kafka(0, log(1, 100, true, 0), 900);
        let create = Position::kafka(0, log(1, 100, true, 0), 3);
        let before = Position::kafka(0, log(1, 99, true, 7), 899);
        assert!(before < delete.carried() && delete.carried() < create);
    }

    proptest! {
        #[test]
        fn bytes_keep_the_order_of_what_they_encode(a: (u32, u32, u64, bool, u32, u32), b: (u32, u32, u64, bool, u32, u32)) {
            let position = |p: (u32, u32, u64, bool, u32, u32)| Position::kafka(p.0, log(p.1, p.2, p.3, p.4), i64::from(p.5));
            prop_assert_eq!(a.cmp(&b), position(a).cmp(&position(b)));
        }

        #[test]
        fn positions_of_kafka_read_back_and_others_are_none(epoch: u32, file: u32, pos: u64, streamed: bool, row: u32, offset: i64) {
            let log = log(file, pos, streamed, row);
            prop_assert_eq!(Position::kafka(epoch, log, offset).as_kafka(), Some((epoch, log, offset)));
            let day = DateTime::from_timestamp(i64::from(file), 0).unwrap();
            for other in [Position::csv(day, day, pos), Position::rest(day), Position::kafka(epoch, log, offset).carried()] {
                prop_assert_eq!(other.as_kafka(), None);
            }
        }

        #[test]
        fn signed_numbers_keep_their_order(a: i64, b: i64) {
            prop_assert_eq!(a.cmp(&b), LogPosition::from_signed(a).cmp(&LogPosition::from_signed(b)));
        }

        #[test]
        fn what_was_last_seen_reads_back(file: u32, pos: u64, streamed: bool, row: u32, snapshot: Option<u64>) {
            let last = LastSeen { position: log(file, pos, streamed, row), snapshot };
            prop_assert_eq!(LastSeen::from_bytes(&last.to_bytes()), Some(last));
        }
    }
}
