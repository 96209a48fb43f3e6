//! Telling apart what may stand on a topic.

use model::{Reason, Reject};

use super::members::{is_object, members, string, trim};
use super::payload::Section;
use super::position::Origin;
use super::skip::Skip;

/// What a message's value is.
#[derive(Debug)]
pub(super) enum Shape<'a> {
    /// No value, in one of its forms.
    Tombstone,
    /// `{before, after, source, op, ...}`.
    Envelope(Box<Envelope<'a>>),
    /// A row as it is, flattened or plain.
    Row {
        /// The row.
        row: &'a str,
        /// Every place where a row may stand; more than one only where members repeat.
        sections: Vec<Section<'a>>,
    },
    /// Nothing to land.
    Skip(Skip),
}

/// A change event. Of repeated members the last counts, but all of them are in `sections`.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) op: &'a str,
    pub(super) before: Option<&'a str>,
    pub(super) after: Option<&'a str>,
    pub(super) origin: Origin<'a>,
    pub(super) sections: Vec<Section<'a>>,
}

/// Whether a text says that there is no value: empty or null.
pub(super) fn is_nothing(text: &str) -> bool {
    matches!(trim(text), "" | "null")
}

/// Takes plain JSON apart: a row or nothing. `repeated` are the payloads before this one, where members of a wrapper repeat.
pub(super) fn of_plain<'a>(payload: &'a str, repeated: Vec<&'a str>) -> Result<Shape<'a>, Reject> {
    match payload {
        payload if is_nothing(payload) => Ok(Shape::Tombstone),
        payload if is_object(payload) => Ok(row(payload, repeated)),
        _ => Err(Reject::new(Reason::UnknownShape, "not an object")),
    }
}

/// Takes the value of a Debezium topic apart, whatever shape it has.
pub(super) fn of_debezium<'a>(payload: &'a str, repeated: Vec<&'a str>) -> Result<Shape<'a>, Reject> {
    match of_plain(payload, repeated)? {
        Shape::Row { row, sections } => of_object(row, sections),
        other => Ok(other),
    }
}

fn row<'a>(row: &'a str, repeated: Vec<&'a str>) -> Shape<'a> {
    let sections = std::iter::once(row).chain(repeated).map(Section::Row).collect();
    Shape::Row { row, sections }
}

/// The members that tell shapes apart.
#[derive(Default)]
struct Marks<'a> {
    op: Option<&'a str>,
    before: Option<&'a str>,
    after: Option<&'a str>,
    source: Option<&'a str>,
    times: [Option<(&'static str, &'a str)>; 3],
    others: usize,
    is_transaction: [bool; 2],
    is_schema_change: [bool; 2],
}

fn of_object<'a>(object: &'a str, rows: Vec<Section<'a>>) -> Result<Shape<'a>, Reject> {
    let mut marks = Marks::default();
    let mut sections = Vec::with_capacity(4);
    for member in members(object) {
        marks.note(&member.name(), member.value, &mut sections);
    }
    if let Some(op) = marks.op
        && (marks.source.is_some_and(is_object) || marks.before.is_some() || marks.after.is_some())
    {
        let mut origin = marks.source.filter(|source| is_object(source)).map(Origin::of_source).unwrap_or_default();
        for (name, raw) in marks.times.into_iter().flatten() {
            origin.note_time(name, raw);
        }
        // One source without a statement, which is how it almost always is, may be kept as it is.
        if origin.has_query {
            sections.extend(marks.source.map(Section::Source));
        }
        // Other payloads of a message that repeats its own; which of their parts are rows nobody can tell.
        for other in rows.into_iter().skip(1) {
            collect(other, &mut sections);
        }
        return Ok(Shape::Envelope(Box::new(Envelope {
            op,
            before: marks.before,
            after: marks.after,
            origin,
            sections,
        })));
    }
    if marks.is_transaction == [true; 2] {
        return Ok(Shape::Skip(Skip::Transaction));
    }
    if marks.is_schema_change == [true; 2] {
        let position =
            marks.source.filter(|source| is_object(source)).and_then(|s| Origin::of_source(s).log_position(false));
        return Ok(Shape::Skip(Skip::SchemaChange { position }));
    }
    if marks.is_heartbeat() {
        return Ok(Shape::Skip(Skip::Heartbeat));
    }
    if marks.source.is_some_and(is_object) && (marks.before.is_some() || marks.after.is_some()) {
        return Err(Reject::new(Reason::UnknownShape, "before, after and source, but no op"));
    }
    Ok(Shape::Row { row: object, sections: rows })
}

impl<'a> Marks<'a> {
    fn note(&mut self, name: &str, value: &'a str, sections: &mut Vec<Section<'a>>) {
        match name {
            "before" | "after" => {
                if is_object(value) {
                    sections.push(Section::Row(value));
                }
                *(if name == "after" { &mut self.after } else { &mut self.before }) = Some(value);
            }
            "source" => {
                sections.extend(self.source.replace(value).map(Section::Source));
            }
            "op" => self.op = Some(value),
            "ts_ms" => self.times[0] = Some(("ts_ms", value)),
            "ts_us" => self.times[1] = Some(("ts_us", value)),
            "ts_ns" => self.times[2] = Some(("ts_ns", value)),
            _ => {
                self.others += 1;
                match name {
                    "status" => {
                        self.is_transaction[0] =
                            string(value).is_some_and(|status| matches!(&*status, "BEGIN" | "END"));
                    }
                    "event_count" => self.is_transaction[1] = true,
                    "ddl" => self.is_schema_change[0] = true,
                    "databaseName" => self.is_schema_change[1] = true,
                    _ => {}
                }
            }
        }
    }

    fn is_heartbeat(&self) -> bool {
        self.times[0].is_some() && self.others == 0 && self.op.or(self.before).or(self.after).or(self.source).is_none()
    }
}

fn collect<'a>(payload: Section<'a>, sections: &mut Vec<Section<'a>>) {
    sections.push(payload);
    if let Section::Row(payload) = payload {
        let mut marks = Marks::default();
        for member in members(payload) {
            marks.note(&member.name(), member.value, sections);
        }
        sections.extend(marks.source.map(Section::Source));
    }
}
