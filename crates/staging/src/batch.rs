//! A batch in the making: records encoded for Postgres as they are decoded, so that landing only sends bytes.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Utc};
use model::Record;

use crate::DeadLetter;

/// A batch is full at this many bytes...
pub const LIMIT_BYTES: usize = 8 << 20;
/// ... or this many records, dead letters included...
pub const LIMIT_ROWS: usize = 5_000;
/// ... or when its first record has waited this long.
pub const LIMIT_WAIT: Duration = Duration::from_millis(50);

/// The columns that [`Batch::push`] writes, in its order. The first three are the batch's own and are filled in at landing.
pub(crate) const COPY: &str = "copy staging.records (batch_id, landed_at, expires_at, ordinal, source, entity, operation, \
     external_id, id_is_number, email, credential, position, observed_at, attributes, moved_to, payload) \
     from stdin (format binary)";
const COLUMNS: i16 = 16;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: i16 = -1;
/// Postgres counts time from 2000-01-01, in microseconds.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Records, dead letters and skips of one source that are landed together.
#[derive(Debug)]
pub struct Batch {
    source: String,
    ttl: Duration,
    rows: BytesMut,
    row_starts: Vec<usize>,
    dead_letters: Vec<DeadLetter>,
    skipped: u32,
    bytes: usize,
}

impl Batch {
    /// An empty batch of a source whose records live for `ttl` after landing.
    pub fn new(source: &str, ttl: Duration) -> Self {
        let mut rows = BytesMut::with_capacity(1 << 20);
        rows.put_slice(SIGNATURE);
        Self {
            source: source.to_owned(),
            ttl,
            rows,
            row_starts: Vec::new(),
            dead_letters: Vec::new(),
            skipped: 0,
            bytes: 0,
        }
    }

    /// Adds a record.
    pub fn push(&mut self, record: &Record) {
        let rows = &mut self.rows;
        let start = rows.len();
        rows.put_i16(COLUMNS);
        for _ in 0..3 {
            put_i64(rows, 0);
        }
        rows.put_i32(4);
        rows.put_i32(i32::try_from(self.row_starts.len()).unwrap_or(i32::MAX));
        put(rows, self.source.as_bytes());
        put(rows, record.mapped.entity.as_str().as_bytes());
        put(rows, record.operation.as_str().as_bytes());
        put(rows, record.mapped.external_id.as_str().as_bytes());
        put(rows, &[u8::from(record.mapped.external_id.is_number())]);
        put_option(rows, record.mapped.email.as_deref());
        put_option(rows, record.mapped.credential.as_deref());
        put(rows, record.position.as_bytes());
        put_i64(rows, postgres_micros(record.observed_at));
        put(rows, record.mapped.attributes.as_bytes());
        put_option(rows, record.moved_to.as_ref().map(|id| id.to_json().to_string()).as_deref());
        put_option(rows, record.payload.as_deref());
        self.bytes += rows.len() - start;
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

    pub(crate) fn dead_letters(&self) -> &[DeadLetter] {
        &self.dead_letters
    }

    pub(crate) fn expires_at(&self, landed_at: DateTime<Utc>) -> DateTime<Utc> {
        landed_at + self.ttl
    }

    /// The rows as Postgres takes them, with the columns that belong to the batch filled in. May be called again after a
    /// landing that failed.
    pub(crate) fn copy_data(&mut self, batch_id: i64, landed_at: DateTime<Utc>) -> Vec<u8> {
        let expires_at = postgres_micros(self.expires_at(landed_at));
        for start in &self.row_starts {
            for (column, value) in (0..).zip([batch_id, postgres_micros(landed_at), expires_at]) {
                // Behind the count of columns: a length and eight bytes for each of the first three.
                let at = start + 2 + column * 12 + 4;
                self.rows[at..at + 8].copy_from_slice(&value.to_be_bytes());
            }
        }
        let mut data = self.rows.to_vec();
        data.put_i16(TRAILER);
        data
    }
}

fn postgres_micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros() - POSTGRES_EPOCH_MICROS
}

fn put(rows: &mut BytesMut, bytes: &[u8]) {
    rows.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    rows.put_slice(bytes);
}

fn put_i64(rows: &mut BytesMut, value: i64) {
    rows.put_i32(8);
    rows.put_i64(value);
}

fn put_option(rows: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put(rows, text.as_bytes()),
        None => rows.put_i32(-1),
    }
}
