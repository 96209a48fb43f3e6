//! Decoding: one Kafka message to records, a dead letter or a counted skip. Pure; the hot path of the crate.
//!
//! A message is looked over once ([`model::inspect`]), validated once, and read in place: nothing here builds a tree.

mod avro;
mod delete;
mod key;
mod members;
mod payload;
mod placeholder;
mod position;
mod shape;
mod skip;
#[cfg(test)]
pub(crate) mod tests;
mod types;
mod values;
mod wrapper;

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use model::mapping::{Context, Mapping};
use model::{
    Fields, LastSeen, Limits, LogPosition, Mapped, Operation, Position, Reason, Record, Reject, observed_at, parse_time,
};

use crate::Error;
use crate::client::ALONE_PATIENCE;
use crate::settings::{Format, Settings};
use delete::Before;
use payload::{Censor, Section};
use placeholder::Placeholder;
use position::Origin;
use shape::{Envelope, Shape};
use types::{Types, write_out_unnamed};
use wrapper::{Opened, Wrapper};

pub(crate) use avro::Schema;
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
    /// What later positions may hang on, once a message had one of its own.
    pub last: Option<LastSeen>,
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
    /// Nobody can tell yet: the schema registry is being asked for this schema. It counts as not decoded.
    Pending(u32),
}

/// What `ExtractNewRecordState` calls the mark of a deleted row, whatever its prefix is.
const DELETED: &str = "__deleted";

/// Decodes the messages of one topic. Pure.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    mappings: Arc<[Mapping]>,
    context: Context,
    limits: Limits,
    placeholder: Placeholder,
    wrapper: Wrapper,
    censor: Censor,
    flattened_prefix: String,
    heartbeats: bool,
    /// Whether a mapping takes columns that it does not name.
    takes_whole_rows: bool,
    /// The types of rows whose values are written out already.
    no_types: Arc<Types>,
}

/// What all records of one message share.
struct Coordinates<'a> {
    message: &'a Message<'a>,
    epoch: u32,
    now: DateTime<Utc>,
    /// See [`Seen::deleted`].
    after_delete: bool,
    /// A schema that was looked for and is not here yet.
    pending: Cell<Option<u32>>,
}

impl Decoder {
    /// The decoder for a topic.
    pub fn new(settings: &Settings, topic: &str) -> Arc<Self> {
        let mappings: Arc<[Mapping]> = settings.mappings_for(topic).cloned().collect();
        let mut columns: Vec<String> =
            mappings.iter().filter_map(Mapping::credential_column).map(str::to_owned).collect();
        columns.dedup();
        let placeholder = settings.placeholder_text();
        Arc::new(Self {
            format: settings.format.clone(),
            censor: Censor::new(
                columns,
                settings.context.credentials.clone(),
                &placeholder,
                &settings.flattened_prefix,
            ),
            flattened_prefix: settings.flattened_prefix.clone(),
            context: settings.context.clone(),
            limits: settings.limits,
            placeholder: Placeholder::new(&placeholder),
            wrapper: Wrapper::new(settings.limits, mappings.clone()),
            takes_whole_rows: mappings.iter().any(|mapping| matches!(mapping, Mapping::Product(_))),
            heartbeats: !matches!(settings.format, Format::Json) && topic.starts_with("__debezium-heartbeat"),
            no_types: Arc::default(),
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
        let before = *seen;
        let after_delete = std::mem::take(&mut seen.deleted);
        let coordinates = Coordinates { message, epoch, now, after_delete, pending: Cell::new(None) };
        let outcome = self.try_decode(&coordinates, seen, records);
        if let Some(schema_id) = coordinates.pending.get() {
            *seen = before;
            records.clear();
            return Outcome::Pending(schema_id);
        }
        outcome.unwrap_or_else(|reject| {
            records.clear();
            Outcome::Rejected(reject)
        })
    }

    /// [`Decoder::decode`] for whoever may wait for a schema, as long as for brokers.
    pub(crate) fn decode_at_last(
        &self,
        message: &Message<'_>,
        seen: &mut Seen,
        epoch: u32,
        now: DateTime<Utc>,
        records: &mut Vec<Record>,
    ) -> Result<Outcome, Error> {
        loop {
            match (self.decode(message, seen, epoch, now, records), &self.format) {
                (Outcome::Pending(schema_id), Format::Avro(registry)) => registry.wait(schema_id, ALONE_PATIENCE)?,
                (outcome, _) => return Ok(outcome),
            }
        }
    }

    fn try_decode(&self, at: &Coordinates<'_>, seen: &mut Seen, records: &mut Vec<Record>) -> Result<Outcome, Reject> {
        let value = at.message.value.unwrap_or_default();
        let avro;
        let Opened { text, payload, repeated, types } = match &self.format {
            Format::Avro(_) if self.is_nothing(value) => self.wrapper.open(value)?,
            Format::Avro(registry) => {
                avro = self.value_of_avro(registry, value, at)?;
                Opened { text: &avro, payload: &avro, repeated: Vec::new(), types: Some(self.no_types.clone()) }
            }
            Format::Debezium | Format::Json => self.wrapper.open(value)?,
        };
        if shape::is_nothing(text) {
            return self.tombstone(at, !text.is_empty(), seen, records);
        }
        if self.heartbeats {
            return Ok(Outcome::Skipped(Skip::Heartbeat));
        }
        let types = types.as_deref();
        let shape = match self.format {
            Format::Json => shape::of_plain(payload, repeated)?,
            Format::Debezium | Format::Avro(_) => shape::of_debezium(payload, repeated)?,
        };
        match shape {
            Shape::Tombstone => self.tombstone(at, true, seen, records),
            Shape::Envelope(envelope) => self.envelope(at, text, &envelope, types, seen, records),
            Shape::Row { row, sections } => {
                let skip = match self.format {
                    Format::Json => self.plain_row(at, row, types, seen, records)?,
                    Format::Debezium | Format::Avro(_) => self.flattened(at, row, types, seen, records)?,
                };
                Ok(skip.map_or_else(|| self.keep_payload(text, &sections, Some(row), records), Outcome::Skipped))
            }
            Shape::Skip(skip) => {
                if let Skip::SchemaChange { position } = skip {
                    seen.note(position);
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
        types: Option<&Types>,
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
                let written = self.written_out(after, types)?;
                self.upsert(at, &self.fields(&written)?, |_| Ok(position), observed_at, records)?;
                return Ok(self.keep_payload(text, &envelope.sections, Some(after), records));
            }
            "d" => {
                seen.deleted = true;
                let before = envelope.before.filter(|before| members::is_object(before));
                let before = before.map(|row| Before { row, types, is_whole: envelope.origin.is_of_a_binlog() });
                self.delete(at, before.as_ref(), |_| position, observed_at, true, records)?;
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
        row: &str,
        types: Option<&Types>,
        seen: &mut Seen,
        records: &mut Vec<Record>,
    ) -> Result<Option<Skip>, Reject> {
        let fields = self.fields(row)?;
        let origin = Origin::of_row(&fields, &self.flattened_prefix);
        let position = seen.note(origin.log_position(false));
        let observed_at = at.observed_at(origin.time());
        let op = fields.get(&format!("{}op", self.flattened_prefix)).text();
        let is_delete = op.as_deref() == Some("d") || fields.get(DELETED).text().as_deref() == Some("true");
        match op.as_deref() {
            _ if is_delete => {
                seen.deleted = true;
                let before = Before { row, types, is_whole: origin.is_of_a_binlog() };
                self.delete(at, Some(&before), |_| position, observed_at, true, records)?;
            }
            None | Some("c" | "u" | "r") => {
                let written = self.written_out(row, types)?;
                let fields = if matches!(written, Cow::Borrowed(_)) { fields } else { self.fields(&written)? };
                let fields = if self.takes_whole_rows { self.without_metadata(&fields) } else { fields };
                self.upsert(at, &fields, |_| Ok(position), observed_at, records)?;
            }
            Some("t") => return Ok(Some(Skip::Truncate { at: observed_at })),
            Some("m") => return Ok(Some(Skip::LogicalMessage)),
            Some(_) => return Err(Reject::new(Reason::UnknownOperation, "op is none of c, u, r, d, t, m")),
        }
        Ok(None)
    }

    fn plain_row(
        &self,
        at: &Coordinates<'_>,
        row: &str,
        types: Option<&Types>,
        seen: &mut Seen,
        records: &mut Vec<Record>,
    ) -> Result<Option<Skip>, Reject> {
        let written = self.written_out(row, types)?;
        let fields = self.fields(&written)?;
        let observed_at = at.observed_at(None);
        let version = |mapping: &Mapping| match mapping.version_column() {
            Some(column) => self.version(&fields, column).inspect(|version| seen.note_version(*version)),
            None => Ok(at.timestamp()),
        };
        self.upsert(at, &fields, version, observed_at, records)?;
        Ok(None)
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
        for mapping in self.mappings.iter() {
            let mapped = mapping.map(fields, &self.context)?;
            let position = position(mapping)?;
            records.push(at.record(Operation::Upsert, mapped, position, observed_at));
        }
        Ok(())
    }

    fn fields<'a>(&self, row: &'a str) -> Result<Fields<'a>, Reject> {
        let fields = Fields::from_json(row, Some(self.placeholder.text()));
        let fields = fields.map_err(|_| Reject::new(Reason::NotJson, "in the row"))?;
        Ok(self.placeholder.tell_apart(fields))
    }

    /// A row with the values whose meaning is in the schema written out; without a schema those that say themselves what
    /// they are.
    fn written_out<'a>(&self, row: &'a str, types: Option<&Types>) -> Result<Cow<'a, str>, Reject> {
        match types {
            Some(types) => types.write_out(row, |raw| self.placeholder.is_json(raw)),
            None => Ok(write_out_unnamed(row)),
        }
    }

    /// A flattened row without the fields that the transform added.
    fn without_metadata<'a>(&self, fields: &Fields<'a>) -> Fields<'a> {
        let is_added = |name: &str| name == DELETED || name.starts_with(&self.flattened_prefix);
        let own = fields.iter().filter(|(name, _)| !is_added(name));
        Fields::from_entries(own.map(|(name, field)| (name.to_owned().into(), field.clone())).collect())
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
}

impl Seen {
    /// What is remembered where reading begins.
    pub(crate) fn after(last: Option<LastSeen>) -> Self {
        Self { last, deleted: false }
    }

    /// The position of a message: its own, which is remembered, or else the last one seen.
    ///
    /// What a transaction of Postgres did before a snapshot was taken and committed after it is in the log before the
    /// snapshot, and not in it. It is delivered behind its rows, so it is taken to be as late as the snapshot.
    fn note(&mut self, own: Option<LogPosition>) -> LogPosition {
        if let Some(own) = own {
            let snapshot = if own.streamed { self.last.and_then(|last| last.snapshot) } else { Some(own.pos) };
            let snapshot = snapshot.filter(|_| own.file == 0);
            let pos = snapshot.map_or(own.pos, |snapshot| own.pos.max(snapshot));
            self.last = Some(LastSeen { position: LogPosition { pos, ..own }, snapshot });
        }
        self.last.map_or(LogPosition { file: 0, pos: 0, streamed: false, row: 0 }, |last| last.position)
    }

    /// Versions order the rows of one id, and those of another may be far behind: a tombstone hangs on the newest of all.
    fn note_version(&mut self, version: LogPosition) {
        let newest = self.last.map_or(version, |last| last.position.max(version));
        self.last = Some(LastSeen { position: newest, snapshot: None });
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
