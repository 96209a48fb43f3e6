//! Rows in Postgres' binary COPY format: the fastest way in, shared by landing and consolidation.

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::Error;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: i16 = -1;
/// Postgres counts time from 2000-01-01, in microseconds.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
const JSONB_VERSION: u8 = 1;

/// Rows to be copied. Each row is announced with its count of columns, which must then follow in the statement's order.
#[derive(Debug)]
pub struct Rows {
    data: BytesMut,
    count: usize,
}

impl Default for Rows {
    fn default() -> Self {
        let mut data = BytesMut::with_capacity(64 << 10);
        data.put_slice(SIGNATURE);
        Self { data, count: 0 }
    }
}

impl Rows {
    /// Begins a row.
    pub fn row(&mut self, columns: i16) -> &mut Self {
        self.count += 1;
        self.data.put_i16(columns);
        self
    }

    /// A value by its bytes: `text`, `json`, `bytea`.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.data.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.data.put_slice(bytes);
        self
    }

    /// A text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// A text or null.
    pub fn option(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// A `jsonb`, by its text.
    pub fn jsonb(&mut self, json: &str) -> &mut Self {
        self.data.put_i32(i32::try_from(json.len() + 1).unwrap_or(i32::MAX));
        self.data.put_u8(JSONB_VERSION);
        self.data.put_slice(json.as_bytes());
        self
    }

    /// An `integer`.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.data.put_i32(4);
        self.data.put_i32(value);
        self
    }

    /// A `bigint`.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.data.put_i32(8);
        self.data.put_i64(value);
        self
    }

    /// A `timestamptz`.
    pub fn time(&mut self, time: DateTime<Utc>) -> &mut Self {
        self.i64(postgres_micros(time))
    }

    /// A `uuid` or null.
    pub fn uuid(&mut self, uuid: Option<Uuid>) -> &mut Self {
        match uuid {
            Some(uuid) => self.bytes(uuid.as_bytes()),
            None => self.null(),
        }
    }

    /// Null.
    pub fn null(&mut self) -> &mut Self {
        self.data.put_i32(-1);
        self
    }

    /// Whether there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Size so far in bytes; also the place at which the next row begins.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// Overwrites a value of eight bytes that was written at `place`.
    pub(crate) fn overwrite(&mut self, place: usize, value: i64) {
        self.data[place..place + 8].copy_from_slice(&value.to_be_bytes());
    }

    /// The columns of the row that begins at `place`.
    pub(crate) fn columns(&self, place: usize, columns: i16) -> Vec<Option<&[u8]>> {
        let mut at = place + 2;
        let column = |_| {
            let mut length = [0; 4];
            length.copy_from_slice(&self.data[at..at + 4]);
            at += 4;
            let length = usize::try_from(i32::from_be_bytes(length)).ok()?;
            at += length;
            Some(&self.data[at - length..at])
        };
        (0..columns).map(column).collect()
    }

    /// Sends the rows; `statement` is a `copy ... from stdin (format binary)`. The rows stay as they are, so that a
    /// landing that failed or was cancelled can send them again.
    pub async fn copy(&self, connection: &mut PgConnection, statement: &str) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let sent = async {
            let mut copy = connection.copy_in_raw(statement).await?;
            copy.send(&self.data[..]).await?;
            copy.send(&TRAILER.to_be_bytes()[..]).await?;
            copy.finish().await
        };
        sent.await.map(|_| ()).map_err(Error::database("copying rows"))
    }
}

pub(crate) fn postgres_micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros() - POSTGRES_EPOCH_MICROS
}
