//! Where a change stands in its database's log, and when it happened.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use model::{Field, Fields, LogPosition};

use super::members::{integer, members, string};

/// What a change event says of its origin: `source` of an envelope, what was added to a flattened row.
#[derive(Debug, Default)]
pub(super) struct Origin<'a> {
    file: Option<Cow<'a, str>>,
    pos: Option<u64>,
    row: Option<u32>,
    lsn: Option<u64>,
    snapshot: Option<bool>,
    source_time: Time,
    time: Time,
    /// Whether it shows the statement that the source ran.
    pub(super) has_query: bool,
}

/// One time in up to three units; zero counts as absent.
#[derive(Clone, Copy, Debug, Default)]
struct Time {
    ms: Option<i64>,
    us: Option<i64>,
    ns: Option<i64>,
}

impl<'a> Origin<'a> {
    /// Reads `source` of an envelope.
    pub(super) fn of_source(source: &'a str) -> Self {
        let mut origin = Self::default();
        for member in members(source) {
            let raw = member.value;
            match &*member.name() {
                "file" => origin.file = string(raw),
                "pos" => origin.pos = integer(raw),
                "row" => origin.row = integer(raw),
                "lsn" => origin.lsn = integer(raw),
                "snapshot" => origin.snapshot = is_snapshot(raw),
                "ts_ms" => origin.source_time.ms = integer(raw),
                "ts_us" => origin.source_time.us = integer(raw),
                "ts_ns" => origin.source_time.ns = integer(raw),
                "query" => origin.has_query |= raw != "null",
                _ => {}
            }
        }
        origin
    }

    /// Notes `ts_ms`, `ts_us` or `ts_ns` of an envelope.
    pub(super) fn note_time(&mut self, name: &str, raw: &str) {
        self.time.note(name, integer(raw));
    }

    /// Reads the fields that `ExtractNewRecordState` was told to add to a row, under names that begin with `prefix`.
    pub(super) fn of_row(row: &Fields<'a>, prefix: &str) -> Self {
        let mut origin = Self::default();
        let mut snapshot_op = None;
        for (name, field) in row.iter() {
            let Some(name) = name.strip_prefix(prefix) else { continue };
            match name.strip_prefix("source_").unwrap_or(name) {
                "file" => origin.file = field.text(),
                "pos" => origin.pos = number(field),
                "row" => origin.row = number(field),
                "lsn" => origin.lsn = number(field),
                "snapshot" => origin.snapshot = field.text().and_then(|text| is_snapshot(&text)),
                "op" => snapshot_op = Some(field.text().is_some_and(|text| text == "r")),
                unit @ ("ts_ms" | "ts_us" | "ts_ns") if name.starts_with("source_") => {
                    origin.source_time.note(unit, number(field));
                }
                unit @ ("ts_ms" | "ts_us" | "ts_ns") => origin.time.note(unit, number(field)),
                _ => {}
            }
        }
        origin.snapshot = origin.snapshot.or(snapshot_op);
        origin
    }

    /// The log position, if the event has one of its own. `read` says that the operation is `r`.
    pub(super) fn log_position(&self, read: bool) -> Option<LogPosition> {
        let streamed = !self.snapshot.unwrap_or(read);
        if let Some(pos) = self.lsn {
            return Some(LogPosition { file: 0, pos, streamed, row: 0 });
        }
        let file = self.file.as_deref()?.rsplit('.').next()?.parse().ok()?;
        Some(LogPosition { file, pos: self.pos?, streamed, row: self.row.unwrap_or(0) })
    }

    /// Whether it is of MySQL or MariaDB.
    pub(super) fn is_of_a_binlog(&self) -> bool {
        self.file.is_some()
    }

    /// When the source says that it happened.
    pub(super) fn time(&self) -> Option<DateTime<Utc>> {
        self.source_time.read().or_else(|| self.time.read())
    }
}

impl Time {
    fn note(&mut self, unit: &str, value: Option<i64>) {
        match unit {
            "ts_ms" => self.ms = value,
            "ts_us" => self.us = value,
            "ts_ns" => self.ns = value,
            _ => {}
        }
    }

    fn read(self) -> Option<DateTime<Utc>> {
        let given = |time: Option<i64>| time.filter(|time| *time > 0);
        let ms = || given(self.ms).and_then(DateTime::from_timestamp_millis);
        let us = || given(self.us).and_then(DateTime::from_timestamp_micros);
        let ns = || given(self.ns).map(DateTime::from_timestamp_nanos);
        ms().or_else(us).or_else(ns)
    }
}

/// Whether a row was read by a snapshot. A row of an incremental snapshot counts as streamed: it stands among the events
/// of the log.
fn is_snapshot(raw: &str) -> Option<bool> {
    match raw.trim_matches('"') {
        "null" => None,
        "false" | "incremental" => Some(false),
        _ => Some(true),
    }
}

fn number<T: std::str::FromStr>(field: &Field<'_>) -> Option<T> {
    field.text()?.parse().ok()
}
