//! A batch in the making: records encoded for Postgres as they are decoded, so that landing only sends bytes.

mod erase;

use std::time::Duration;

use chrono::{DateTime, Utc};
use model::Record;
use sqlx::PgConnection;

use crate::copy::{Rows, postgres_micros};
use crate::{DeadLetter, Error};

/// A batch is full at this many bytes...
pub const LIMIT_BYTES: usize = 8 << 20;
/// ... or this many records, dead letters included...
pub const LIMIT_ROWS: usize = 5_000;
/// ... or when its first record has waited this long.
pub const LIMIT_WAIT: Duration = Duration::from_millis(50);

/// The columns that [`Batch::push`] writes, in its order. The first three are the batch's own and are filled in at landing.
const COPY: &str = "copy staging.records (batch_id, landed_at, expires_at, ordinal, source, entity, operation, \
     external_id, id_is_number, email, credential, position, observed_at, attributes, moved_to, payload) \
     from stdin (format binary)";
const COLUMNS: i16 = 16;

/// Records, dead letters and skips of one source that are landed together.
#[derive(Debug)]
pub struct Batch {
    source: String,
    ttl: Duration,
    rows: Rows,
    row_starts: Vec<usize>,
    dead_letters: Vec<DeadLetter>,
    skipped: u32,
    bytes: usize,
    /// Ids of customers who are not erased and whose records or dead letters were skipped because they name somebody who is.
    left_out: Vec<String>,
    /// Entity and id of the records that were skipped because somebody is erased.
    erased: Vec<(String, String)>,
    /// How many skips are of that kind.
    erased_count: u64,
}

impl Batch {
    /// An empty batch of a source whose records live for `ttl` after landing.
    pub fn new(source: &str, ttl: Duration) -> Self {
        Self {
            source: source.to_owned(),
            ttl,
            rows: Rows::default(),
            row_starts: Vec::new(),
            dead_letters: Vec::new(),
            skipped: 0,
            left_out: Vec::new(),
            bytes: 0,
            erased: Vec::new(),
            erased_count: 0,
        }
    }

    /// Adds a record.
    pub fn push(&mut self, record: &Record) {
        let (start, ordinal) = (self.rows.size(), self.record_count());
        let mapped = &record.mapped;
        self.rows
            .row(COLUMNS)
            .i64(0)
            .i64(0)
            .i64(0)
            .i32(ordinal)
            .text(&self.source)
            .text(mapped.entity.as_str())
            .text(record.operation.as_str())
            .text(mapped.external_id.as_str())
            .bytes(&[u8::from(mapped.external_id.is_number())])
            .option(mapped.email.as_deref())
            .option(mapped.credential.as_deref())
            .bytes(record.position.as_bytes())
            .time(record.observed_at)
            .text(&mapped.attributes)
            .option(record.moved_to.as_ref().map(|id| id.to_json().to_string()).as_deref())
            .option(record.payload.as_deref());
        self.bytes += self.rows.size() - start;
        self.row_starts.push(start);
    }

    /// Adds a dead letter.
    pub fn push_dead_letter(&mut self, letter: DeadLetter) {
        self.bytes += letter.payload.len();
        self.dead_letters.push(letter);
    }

    /// Counts a source record that is nothing to land, such as a heartbeat.
    pub fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Whether the batch has reached its limit of bytes or rows.
    pub fn is_full(&self) -> bool {
        self.bytes >= LIMIT_BYTES || self.row_starts.len() + self.dead_letters.len() >= LIMIT_ROWS
    }

    /// Whether nothing at all was added; skips count as something.
    pub fn is_empty(&self) -> bool {
        self.row_starts.is_empty() && self.dead_letters.is_empty() && self.skipped == 0
    }

    /// The source's name.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How many records are to be landed.
    pub fn record_count(&self) -> i32 {
        i32::try_from(self.row_starts.len()).unwrap_or(i32::MAX)
    }

    /// How many dead letters are to be parked.
    pub fn dead_letter_count(&self) -> i32 {
        i32::try_from(self.dead_letters.len()).unwrap_or(i32::MAX)
    }

    /// How many source records were skipped.
    pub fn skipped_count(&self) -> i32 {
        i32::try_from(self.skipped).unwrap_or(i32::MAX)
    }

    /// Size of what is to be sent.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this record was skipped because somebody is erased.
    pub(crate) fn has_skipped(&self, entity: &str, external_id: &str) -> bool {
        self.erased.iter().any(|(of, id)| of == entity && id == external_id)
    }

    /// See `staging.batches.left_out`.
    pub(crate) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// How many records and dead letters were skipped because somebody is erased.
    pub fn erased_count(&self) -> u64 {
        self.erased_count
    }

    pub(crate) fn dead_letters(&self) -> &[DeadLetter] {
        &self.dead_letters
    }

    pub(crate) fn expires_at(&self, landed_at: DateTime<Utc>) -> DateTime<Utc> {
        landed_at + self.ttl
    }

    /// Copies the records, with the columns that belong to the batch filled in.
    pub(crate) async fn copy(
        &mut self,
        connection: &mut PgConnection,
        batch_id: i64,
        landed_at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let expires_at = postgres_micros(self.expires_at(landed_at));
        for start in &self.row_starts {
            for (column, value) in (0..).zip([batch_id, postgres_micros(landed_at), expires_at]) {
                // Behind the count of columns: a length and eight bytes for each of the first three.
                self.rows.overwrite(start + 2 + column * 12 + 4, value);
            }
        }
        self.rows.copy(connection, COPY).await
    }
}
