//! Decoding: one Kafka message to records, a dead letter or a counted skip. Pure; the hot path of the crate.
//!
//! A message is looked over once ([`model::inspect`]), validated once, and read in place: nothing here builds a tree.

mod key;
mod members;
mod payload;
mod position;
mod shape;
mod skip;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use model::mapping::{Context, Mapping};
use model::{
    ExternalId, Fields, Limits, LogPosition, Mapped, Operation, Position, Reason, Record, Reject, inspect, observed_at,
    parse_time,
};

use crate::settings::{Format, Settings};
use key::Key;
use payload::{Censor, Section};
use position::Origin;
use shape::{Envelope, Shape};

pub use skip::Skip;

/// One message as the client gives it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The header `__debezium.newkey`.
    pub new_key: Option<&'a [u8]>,
}

/// What a partition remembers from one message to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The last log position of any message that had one of its own.
    pub position: Option<LogPosition>,
    /// Whether the message before was a delete with a value: the tombstone behind it only says it again.
    pub deleted: bool,
}

/// What became of a message, beside the records that it gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It gave records.
    Records,
    /// It is nothing to land.
    Skipped(Skip),
    /// It is a dead letter.
    Rejected(Reject),
}

/// Decodes the messages of one topic. Pure.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    mappings: Vec<Mapping>,
    context: Context,
    limits: Limits,
    placeholder: String,
    censor: Censor,
    heartbeats: bool,
    /// Whether a mapping takes columns that it does not name.
    takes_whole_rows: bool,
}

/// What all records of one message share.
struct Coordinates<'a> {
    message: &'a Message<'a>,
    epoch: u32,
    now: DateTime<Utc>,
}

impl Decoder {
    /// The decoder for a topic.
    pub fn new(settings: &Settings, topic: &str) -> Arc<Self> {
        let mappings: Vec<Mapping> = settings.mappings_for(topic).cloned().collect();
        let mut columns: Vec<String> =
            mappings.iter().filter_map(Mapping::credential_column).map(str::to_owned).collect();
        columns.dedup();
        let placeholder = settings.placeholder_text();
        Arc::new(Self {
            format: settings.format,
            censor: Censor::new(columns, settings.context.credentials.clone(), &placeholder),
            context: settings.context.clone(),
            limits: settings.limits,
            placeholder,
            takes_whole_rows: mappings.iter().any(|mapping| matches!(mapping, Mapping::Product(_))),
            heartbeats: settings.format != Format::Json && topic.starts_with("__debezium-heartbeat"),
            mappings,
        })
    }

    /// Decodes one message; `records` holds its records and nothing else afterwards. `epoch` leads their positions, `now` is
    /// the landing clock.
    pub fn decode(
        &self,
        message: &Message<'_>,
        seen: &mut Seen,
        epoch: u32,
        now: DateTime<Utc>,
        records: &mut Vec<Record>,
    ) -> Outcome {
        records.clear();
        let coordinates = Coordinates { message, epoch, now };
        let outcome = self.try_decode(&coordinates, seen, records);
        let outcome = outcome.unwrap_or_else(|reject| {
            records.clear();
            Outcome::Rejected(reject)
        });
        seen.deleted =
            records.first().is_some_and(|record| record.operation == Operation::Delete && record.payload.is_some());
        outcome
    }

    fn try_decode(&self, at: &Coordinates<'_>, seen: &mut Seen, records: &mut Vec<Record>) -> Result<Outcome, Reject> {
        let text = inspect(at.message.value.unwrap_or_default(), self.limits)?;
        if shape::is_nothing(text) {
            return self.tombstone(at, !text.is_empty(), seen, records);
        }
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| {
            Reject::new(Reason::NotJson, format!("line {} column {}", error.line(), error.column()))
        })?;
        if self.heartbeats {
            return Ok(Outcome::Skipped(Skip::Heartbeat));
        }
        let shape = match self.format {
            Format::Json => shape::of_plain(text)?,
            Format::Debezium | Format::Avro => shape::of_debezium(text)?,
        };
        match shape {
            Shape::Tombstone => self.tombstone(at, true, seen, records),
            Shape::Envelope(envelope) => self.envelope(at, text, &envelope, seen, records),
            Shape::Row { row, sections } if self.format == Format::Json => {
                self.plain_row(at, text, row, &sections, seen, records)
            }
            Shape::Row { row, sections } => self.flattened(at, text, row, &sections, seen, records),
            Shape::Skip(skip) => {
                if let Skip::SchemaChange { position: Some(position) } = skip {
                    seen.position = Some(position);
                }
                Ok(Outcome::Skipped(skip))
            }
        }
    }

    fn envelope(
        &self,
        at: &Coordinates<'_>,
        text: &str,
        envelope: &Envelope<'_>,
        seen: &mut Seen,
        records: &mut Vec<Record>,
    ) -> Result<Outcome, Reject> {
        let op = members::string(envelope.op).ok_or_else(|| Reject::new(Reason::UnknownShape, "op is not a string"))?;
        let position = seen.note(envelope.origin.log_position(op == "r"));
        let observed_at = at.observed_at(envelope.origin.time());
        match &*op {
            "c" | "u" | "r" => {
                let after = envelope.after.filter(|after| members::is_object(after));
                let after = after.ok_or_else(|| Reject::new(Reason::UnknownShape, "after is not an object"))?;
                let fields = self.fields(after)?;
                self.upsert(at, &fields, |_| Ok(position), observed_at, records)?;
                return Ok(self.keep_payload(text, &envelope.sections, Some(after), records));
            }
            "d" => {
                let before = envelope.before.filter(|before| members::is_object(before));
                let before = before.map(|before| self.fields(before)).transpose()?;
                self.delete(at, before.as_ref(), position, observed_at, true, records)?;
            }
            "t" => return Ok(Outcome::Skipped(Skip::Truncate { at: observed_at })),
            "m" => return Ok(Outcome::Skipped(Skip::LogicalMessage)),
            _ => return Err(Reject::new(Reason::UnknownOperation, "op is none of c, u, r, d, t, m")),
        }
        Ok(self.keep_payload(text, &envelope.sections, None, records))
    }

    fn flattened(
        &self,
        at: &Coordinates<'_>,
        text: &str,
        row: &str,
        sections: &[Section<'_>],
        seen: &mut Seen,
        records: &mut Vec<Record>,
    ) -> Result<Outcome, Reject> {
        let fields = self.fields(row)?;
        let origin = Origin::of_row(&fields);
        let position = seen.note(origin.log_position(false));
        let observed_at = at.observed_at(origin.time());
        let op = fields.get("__op").text();
        match op.as_deref() {
            _ if fields.get("__deleted").text().is_some_and(|deleted| deleted == "true") => {
                self.delete(at, Some(&fields), position, observed_at, true, records)?;
            }
            Some("d") => self.delete(at, Some(&fields), position, observed_at, true, records)?,
            None | Some("c" | "u" | "r") => {
                let fields = if self.takes_whole_rows { without_metadata(&fields) } else { fields };
                self.upsert(at, &fields, |_| Ok(position), observed_at, records)?;
            }
            Some("t") => return Ok(Outcome::Skipped(Skip::Truncate { at: observed_at })),
            Some("m") => return Ok(Outcome::Skipped(Skip::LogicalMessage)),
            Some(_) => return Err(Reject::new(Reason::UnknownOperation, "__op is none of c, u, r, d, t, m")),
        }
        Ok(self.keep_payload(text, sections, Some(row), records))
    }

    fn plain_row(
        &self,
        at: &Coordinates<'_>,
        text: &str,
        row: &str,
        sections: &[Section<'_>],
        seen: &mut Seen,
        records: &mut Vec<Record>,
    ) -> Result<Outcome, Reject> {
        let fields = self.fields(row)?;
        let observed_at = at.observed_at(None);
        let version = |mapping: &Mapping| match mapping.version_column() {
            Some(column) => self.version(&fields, column).inspect(|version| seen.position = Some(*version)),
            None => Ok(at.timestamp()),
        };
        self.upsert(at, &fields, version, observed_at, records)?;
        Ok(self.keep_payload(text, sections, Some(row), records))
    }

    /// `says_so` tells the deletes of flattened streams, whose value is the text `null`, from Kafka's own tombstones.
    fn tombstone(
        &self,
        at: &Coordinates<'_>,
        says_so: bool,
        seen: &mut Seen,
        records: &mut Vec<Record>,
    ) -> Result<Outcome, Reject> {
        let key = Key::read(at.message.key, self.limits)?;
        if matches!(key, Key::Absent) {
            return Ok(Outcome::Skipped(Skip::TombstoneWithoutKey));
        }
        let position = match self.format {
            Format::Json => self.plain_tombstone(at, *seen),
            Format::Debezium | Format::Avro => seen.note(None),
        };
        let moves = says_so || !seen.deleted;
        self.delete(at, None, position, at.observed_at(None), moves, records)?;
        Ok(if records.is_empty() { Outcome::Skipped(Skip::Unmapped) } else { Outcome::Records })
    }

    /// Maps a row by every mapping of the topic.
    fn upsert(
        &self,
        at: &Coordinates<'_>,
        fields: &Fields<'_>,
        mut position: impl FnMut(&Mapping) -> Result<LogPosition, Reject>,
        observed_at: DateTime<Utc>,
        records: &mut Vec<Record>,
    ) -> Result<(), Reject> {
        for mapping in &self.mappings {
            let mapped = mapping.map(fields, &self.context)?;
            let position = position(mapping)?;
            records.push(at.record(Operation::Upsert, mapped, position, observed_at));
        }
        Ok(())
    }

    /// Deletes by the key where it holds the id, else by `before`, from which nothing else is taken.
    fn delete(
        &self,
        at: &Coordinates<'_>,
        before: Option<&Fields<'_>>,
        position: LogPosition,
        observed_at: DateTime<Utc>,
        moves: bool,
        records: &mut Vec<Record>,
    ) -> Result<(), Reject> {
        let key = Key::read(at.message.key, self.limits);
        let by_key = |mapping: &Mapping| key.as_ref().map_err(Clone::clone)?.external_id(mapping);
        let by_before =
            |mapping: &Mapping, unknown: Reject| before.map_or(Err(unknown), |before| mapping.external_id(before));
        let mut unnamed = None;
        for mapping in &self.mappings {
            match by_key(mapping).or_else(|unknown| by_before(mapping, unknown)) {
                Ok(external_id) => {
                    let mapped = Mapped::bare(mapping.entity(), external_id);
                    let mut record = at.record(Operation::Delete, mapped, position, observed_at);
                    record.moved_to = if moves { self.moved_to(at, mapping) } else { None };
                    records.push(record);
                }
                Err(reject) => unnamed = Some(reject),
            }
        }
        unnamed.filter(|_| records.is_empty()).map_or(Ok(()), Err)
    }

    fn moved_to(&self, at: &Coordinates<'_>, mapping: &Mapping) -> Option<ExternalId> {
        Key::read(Some(at.message.new_key?), self.limits).ok()?.external_id(mapping).ok()
    }

    fn fields<'a>(&self, row: &'a str) -> Result<Fields<'a>, Reject> {
        Fields::from_json(row, Some(&self.placeholder)).map_err(|_| Reject::new(Reason::NotJson, "in the row"))
    }

    /// Gives the raw text, without credentials, to the records of the message.
    /// `row` is the one that was mapped.
    fn keep_payload(&self, text: &str, sections: &[Section<'_>], row: Option<&str>, records: &mut [Record]) -> Outcome {
        if let Some((first, others)) = records.split_first_mut() {
            // Empty is what a credential without a value became, and any when it is dropped.
            let digest = first.mapped.credential.as_deref().filter(|digest| !digest.is_empty());
            let payload = self.censor.apply(text, sections, row.zip(digest));
            for record in others {
                record.payload = Some(payload.clone());
            }
            first.payload = Some(payload);
        }
        if self.mappings.is_empty() { Outcome::Skipped(Skip::Unmapped) } else { Outcome::Records }
    }

    /// A version: an integer, or a time in milliseconds with its microseconds behind.
    fn version(&self, fields: &Fields<'_>, column: &str) -> Result<LogPosition, Reject> {
        let field = fields.get(column);
        let text =
            field.text().ok_or_else(|| Reject::new(Reason::BadValue, format!("column {column} has no version")))?;
        if let Ok(number) = text.parse::<i64>() {
            return Ok(LogPosition::from_signed(number));
        }
        let time = parse_time(&text, self.context.timezone).ok_or_else(|| {
            Reject::new(Reason::BadValue, format!("column {column} is neither an integer nor a time"))
        })?;
        let row = time.timestamp_subsec_micros() % 1_000;
        Ok(LogPosition { row, ..LogPosition::from_signed(time.timestamp_millis()) })
    }

    /// A tombstone has no version. It comes after whatever was seen last, and after all times before its own.
    fn plain_tombstone(&self, at: &Coordinates<'_>, seen: Seen) -> LogPosition {
        if self.mappings.iter().all(|mapping| mapping.version_column().is_none()) {
            return at.timestamp();
        }
        let at_its_time = LogPosition { row: u32::MAX, ..at.timestamp() };
        seen.position.map_or(at_its_time, |seen| seen.max(at_its_time))
    }
}

/// A flattened row without the fields that the transform added.
fn without_metadata<'a>(fields: &Fields<'a>) -> Fields<'a> {
    let own = fields.iter().filter(|(name, _)| !name.starts_with("__"));
    Fields::from_entries(own.map(|(name, field)| (name.to_owned().into(), field.clone())).collect())
}

impl Seen {
    /// The position of a message: its own, which is remembered, or else the last one seen.
    fn note(&mut self, own: Option<LogPosition>) -> LogPosition {
        self.position = own.or(self.position);
        self.position.unwrap_or(LogPosition { file: 0, pos: 0, streamed: false, row: 0 })
    }
}

impl Coordinates<'_> {
    fn record(
        &self,
        operation: Operation,
        mapped: Mapped,
        position: LogPosition,
        observed_at: DateTime<Utc>,
    ) -> Record {
        let position = Position::kafka(self.epoch, position, self.message.offset);
        Record { operation, mapped, position, observed_at, moved_to: None, payload: None }
    }

    fn observed_at(&self, source_time: Option<DateTime<Utc>>) -> DateTime<Utc> {
        let message_time = || DateTime::from_timestamp_millis(self.message.timestamp_ms.filter(|ms| *ms > 0)?);
        observed_at(source_time.or_else(message_time).unwrap_or(self.now), self.now)
    }

    /// The order of plain JSON without versions; the offset behind it breaks ties.
    fn timestamp(&self) -> LogPosition {
        LogPosition::from_signed(self.message.timestamp_ms.unwrap_or(0))
    }
}
