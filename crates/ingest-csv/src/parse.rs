//! From text to batches: one row after another, in constant memory.

use std::borrow::Cow;
use std::io::{self, Read};
use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use model::{Field, Fields, Operation, Position, Reason, Record, Reject, push_string};
use serde_json::{Value, json};
use staging::imports::Refusal;
use staging::{Batch, DeadLetter};

use crate::cells::Cell;
use crate::header::{self, Header, Unusable};
use crate::reread::Place;
use crate::rows::{Fault, Row, RowReader};
use crate::text::Damaged;
use crate::{Rows, Settings};

/// What is known of a file before it is read.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) file_name: String,
    pub(crate) as_of: DateTime<Utc>,
    pub(crate) mtime: DateTime<Utc>,
    pub(crate) observed_at: DateTime<Utc>,
    /// Whether an operator takes it even if its header lacks columns or fits in several ways.
    pub(crate) is_accepted: bool,
    /// Whether nothing said how it is encoded.
    pub(crate) is_assumed_utf8: bool,
    /// How many bytes stand before its text.
    pub(crate) mark: u64,
    /// Whether somebody wants to see the rows themselves.
    pub(crate) is_seen: bool,
}

/// Rows to be landed together.
pub(crate) struct Part {
    pub(crate) batch: Batch,
    pub(crate) origin: Value,
    /// Rows that the batch covers.
    pub(crate) rows: i64,
    /// The rows themselves, if somebody wants to see them.
    pub(crate) seen: Rows,
}

/// Counts of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// All rows behind the header, empty lines too.
    pub(crate) rows: u64,
    pub(crate) dead: u64,
    pub(crate) skipped: u64,
    /// Dead letters because of the encoding.
    pub(crate) not_utf8: u64,
}

/// Why a file is not read to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The file is not what it should be.
    Refused(Refusal),
    /// The file cannot be read.
    Io(io::Error),
    /// Nobody wants the rest.
    Unwanted,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Damaged>()) {
            Some(Damaged(what)) => Self::Refused(Refusal { reason: (*what).to_owned(), may_be_accepted: false }),
            None => Self::Io(error),
        }
    }
}

impl From<Unusable> for Stop {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Io(error) => error.into(),
            Unusable::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

/// Reads a file's text. `on_header` is told the delimiter; `emit` takes the parts and may end it.
pub(crate) fn parse(
    text: impl Read,
    settings: &Settings,
    origin: &Origin,
    on_header: impl FnOnce(u8),
    mut emit: impl FnMut(Part) -> ControlFlow<()>,
) -> Result<Counts, Stop> {
    let mut rows = RowReader::new(text, settings.max_record_bytes).starting_at(origin.mark);
    let header = header::read(&mut rows, &settings.mapping, settings.delimiter, origin.is_accepted)?;
    on_header(header.delimiter);
    let mut parser = Parser::new(settings, origin, &header);
    while let Some(row) = rows.next()? {
        parser.take(&rows, &row);
        if parser.is_full() && emit(parser.part()).is_break() {
            return Err(Stop::Unwanted);
        }
    }
    if parser.rows > 0 && emit(parser.part()).is_break() {
        return Err(Stop::Unwanted);
    }
    Ok(parser.counts)
}

/// Parses, maps and encodes text without landing it; for the bench. Returns rows, dead letters and skips.
#[doc(hidden)]
pub fn parse_only(text: Vec<u8>, settings: &Settings) -> (u64, u64, u64) {
    let as_of = DateTime::UNIX_EPOCH;
    let origin = Origin {
        file_name: String::new(),
        as_of,
        mtime: as_of,
        observed_at: as_of,
        is_accepted: false,
        is_assumed_utf8: true,
        mark: 0,
        is_seen: false,
    };
    let counts = crate::text::Text::new(io::Cursor::new(text), settings.encoding)
        .map_err(Stop::from)
        .and_then(|text| parse(text, settings, &origin, |_| {}, |_| ControlFlow::Continue(())))
        .unwrap_or_default();
    (counts.rows, counts.dead, counts.skipped)
}

pub(crate) struct Parser<'a> {
    settings: &'a Settings,
    origin: &'a Origin,
    header: &'a Header,
    /// `"name":` of each column, as the payload has them.
    keys: Vec<String>,
    /// The columns that bear the credential's name.
    credentials: Vec<usize>,
    batch: Batch,
    rows: i64,
    seen: Rows,
    lines: (u64, u64),
    counts: Counts,
}

/// What a row is.
pub(crate) enum Taken {
    Record(Box<Record>),
    Nothing,
    Bad(Reject, Option<String>),
}

impl<'a> Parser<'a> {
    fn new(settings: &'a Settings, origin: &'a Origin, header: &'a Header) -> Self {
        let key = |(place, name): (usize, &String)| {
            let name = if name.is_empty() { format!("column {}", place + 1) } else { name.clone() };
            format!("{}:", Value::from(name))
        };
        let credential = settings.mapping.credential_column().map(header::fold);
        let is_credential = |(_, name): &(usize, &String)| credential.as_ref() == Some(&header::fold(name));
        let credentials = header.written.iter().enumerate().filter(is_credential).map(|(place, _)| place).collect();
        Self {
            settings,
            origin,
            header,
            keys: header.written.iter().enumerate().map(key).collect(),
            credentials,
            batch: Batch::new(&settings.source, settings.ttl),
            rows: 0,
            seen: Rows::default(),
            lines: (0, 0),
            counts: Counts::default(),
        }
    }

    /// A parser that stands on a row.
    pub(crate) fn at_row(settings: &'a Settings, origin: &'a Origin, header: &'a Header, row: u64) -> Self {
        let mut parser = Self::new(settings, origin, header);
        parser.counts.rows = row;
        parser
    }

    fn is_full(&self) -> bool {
        self.batch.is_full() || self.rows >= 4 * i64::try_from(staging::LIMIT_ROWS).unwrap_or(i64::MAX)
    }

    fn part(&mut self) -> Part {
        let batch = std::mem::replace(&mut self.batch, Batch::new(&self.settings.source, self.settings.ttl));
        let origin = json!({
            "file": self.origin.file_name,
            "as_of": self.origin.as_of,
            "first_line": self.lines.0,
            "last_line": self.lines.1,
        });
        Part { batch, origin, rows: std::mem::take(&mut self.rows), seen: std::mem::take(&mut self.seen) }
    }

    fn take<R: Read>(&mut self, rows: &RowReader<R>, row: &Row) {
        if self.rows == 0 {
            self.lines.0 = row.line;
        }
        self.lines.1 = row.last_line;
        self.rows += 1;
        self.counts.rows += 1;
        match self.read(rows, row) {
            Taken::Record(record) => {
                self.batch.push(&record);
                if self.origin.is_seen {
                    self.seen.records.push(*record);
                }
            }
            Taken::Nothing => {
                self.batch.skip();
                self.counts.skipped += 1;
            }
            Taken::Bad(reject, external_id) => {
                self.counts.dead += 1;
                self.counts.not_utf8 += u64::from(reject.reason == Reason::NotUtf8);
                let origin = json!({
                    "file": self.origin.file_name,
                    "line": row.line,
                    "byte_offset": row.byte_offset,
                });
                if self.origin.is_seen {
                    self.seen.bad_ids.extend(external_id.clone());
                }
                let mut letter = DeadLetter::new(origin, reject, rows.raw(row)).with_external_id(external_id);
                letter.truncated |= row.fault == Some(Fault::TooLarge { cut: true });
                self.batch.push_dead_letter(letter.with_context(&Place {
                    row: self.counts.rows,
                    as_of: self.origin.as_of,
                    mtime: self.origin.mtime,
                    delimiter: char::from(self.header.delimiter),
                    columns: Cow::Borrowed(&self.header.written),
                    is_accepted: self.origin.is_accepted,
                    is_assumed_utf8: self.origin.is_assumed_utf8,
                }));
            }
        }
    }

    /// What a row is, without taking it.
    pub(crate) fn read<R: Read>(&self, rows: &RowReader<R>, row: &Row) -> Taken {
        let raw = rows.raw(row);
        if let Some(fault) = row.fault {
            let reject = match fault {
                Fault::UnclosedQuote => {
                    Reject::new(Reason::UnclosedQuote, "a quote opens here and swallows what follows")
                }
                Fault::TooLarge { .. } => {
                    Reject::new(Reason::TooLarge, format!("longer than {} bytes", self.settings.max_record_bytes))
                }
            };
            return Taken::Bad(reject, self.salvage_id(rows, raw));
        }
        if raw.is_empty() || raw == self.header.line || raw.trim_ascii().is_empty() {
            return Taken::Nothing;
        }
        if memchr::memchr(0, raw).is_some() {
            return Taken::Bad(Reject::new(Reason::Nul, "contains a raw 0x00"), self.salvage_id(rows, raw));
        }
        let text = match std::str::from_utf8(raw) {
            Ok(text) => text,
            Err(error) => {
                let detail = format!("invalid at byte {} of the row", error.valid_up_to());
                return Taken::Bad(Reject::new(Reason::NotUtf8, detail), self.salvage_id(rows, raw));
            }
        };
        if rows.cells().iter().all(Cell::is_empty) {
            return Taken::Nothing;
        }
        if !rows.fits() {
            let detail = format!("{} cells, the header has {}", rows.cells().len(), self.header.names.len());
            return Taken::Bad(Reject::new(Reason::RaggedRow, detail), self.salvage_id(rows, raw));
        }
        let fields = self.fields(rows, text);
        match self.settings.mapping.map(&fields, &self.settings.context) {
            Ok(mapped) => {
                let payload = self.payload(&fields, mapped.credential.as_deref(), raw.len());
                Taken::Record(Box::new(Record {
                    operation: Operation::Upsert,
                    mapped,
                    position: Position::csv(self.origin.as_of, self.origin.mtime, self.counts.rows),
                    observed_at: self.origin.observed_at,
                    moved_to: None,
                    payload: Some(payload),
                }))
            }
            Err(reject) => Taken::Bad(reject, self.id_in(&fields)),
        }
    }

    fn fields<'r, R: Read>(&'r self, rows: &RowReader<R>, text: &'r str) -> Fields<'r> {
        let header = self.header;
        let mut entries = Vec::with_capacity(header.names.len() + header.aliases.len());
        for (name, cell) in header.names.iter().zip(rows.cells()) {
            entries.push((Cow::Borrowed(name.as_str()), self.field(cell.text(text))));
        }
        for (name, place) in &header.aliases {
            if let Some(cell) = rows.cells().get(*place) {
                entries.push((Cow::Borrowed(name.as_str()), self.field(cell.text(text))));
            }
        }
        Fields::from_entries(entries)
    }

    fn field<'r>(&self, text: Cow<'r, str>) -> Field<'r> {
        if self.settings.null_values.iter().any(|null| *null == text) { Field::Null } else { Field::Text(text) }
    }

    /// The row as a JSON object, the credential replaced.
    fn payload(&self, fields: &Fields<'_>, credential: Option<&str>, size: usize) -> String {
        let mut json = String::with_capacity(size + self.keys.iter().map(String::len).sum::<usize>() + 80);
        for (place, (key, (_, field))) in self.keys.iter().zip(fields.iter()).enumerate() {
            json.push(if place == 0 { '{' } else { ',' });
            json.push_str(key);
            match field {
                _ if self.credentials.contains(&place) => match credential {
                    Some(credential) if !credential.is_empty() => push_string(&mut json, credential),
                    _ => json.push_str("null"),
                },
                Field::Text(text) => push_string(&mut json, text),
                _ => json.push_str("null"),
            }
        }
        json.push('}');
        json
    }

    /// The id of a bad row, where its column can be read.
    fn salvage_id<R: Read>(&self, rows: &RowReader<R>, raw: &[u8]) -> Option<String> {
        let names = self.header.names.iter().zip(rows.cells());
        let aliases = self.header.aliases.iter().filter_map(|(name, place)| Some((name, rows.cells().get(*place)?)));
        let readable = |(name, cell): (&'a String, &Cell)| {
            let (text, cell) = cell.isolated(raw)?;
            (!text.contains('\0'))
                .then(|| (Cow::Borrowed(name.as_str()), self.field(Cow::Owned(cell.text(text).into_owned()))))
        };
        self.id_in(&Fields::from_entries(names.chain(aliases).filter_map(readable).collect()))
    }

    fn id_in(&self, fields: &Fields<'_>) -> Option<String> {
        self.settings.mapping.external_id(fields).ok().map(|id| id.as_str().to_owned())
    }
}

#[cfg(test)]
mod tests;
