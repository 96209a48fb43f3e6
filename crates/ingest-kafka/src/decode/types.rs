//! Values whose meaning is in the schema alone: decimals as bytes, dates and times as counts. Written out as exact numbers
//! and text, or refused; a float is never made of them.
//!
//! | name in the schema | becomes |
//! |---|---|
//! | Connect's `Decimal`, `VariableScaleDecimal` | a number with all its digits |
//! | `Date` | `2024-02-29`; Postgres' infinities `infinity`, `-infinity` |
//! | `Time`, `MicroTime`, `NanoTime` | `23:59:59.5`, also `-838:59:59` and `24:00:00` |
//! | `Timestamp`, `MicroTimestamp`, `NanoTimestamp` | `2024-02-29T23:59:59.5`: the source has no zone for it |
//! | `IsoDate`, `IsoTime`, `IsoTimestamp` | the same, without the `Z` that the source does not have |
//! | `Bits` | a number |
//!
//! Everything else (text, integers, zoned times, base64 or hex of binary columns) says itself what it is, and stays as it came.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use model::{Reason, Reject};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::members::members;
use super::values::{Unit, bits, bytes, count, date, push_decimal};

/// The columns of a row that have to be written out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Types(Vec<(String, Type)>);

/// How a value is meant.
#[derive(Debug, PartialEq)]
pub(super) enum Type {
    Decimal {
        scale: i64,
    },
    VariableScaleDecimal,
    Date,
    Time(Unit),
    Timestamp(Unit),
    /// A moment, wherever: Avro's own, which no name of a schema means.
    Instant(Unit),
    /// ISO text with a `Z` that means nothing.
    Local,
    Bits,
    List(Box<Type>),
    Map(Box<Type>),
    Struct(Types),
}

/// Connect's schema as its JSON converter writes it, as far as it matters.
#[derive(Debug, Deserialize)]
struct Schema<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    field: Option<Cow<'a, str>>,
    #[serde(default)]
    parameters: Option<HashMap<String, String>>,
    #[serde(borrow, default)]
    fields: Option<Vec<Self>>,
    #[serde(borrow, default)]
    items: Option<Box<Self>>,
    #[serde(borrow, default)]
    values: Option<Box<Self>>,
}

impl Schema<'_> {
    fn fields(&self) -> &[Self] {
        self.fields.as_deref().unwrap_or_default()
    }
}

impl Types {
    /// Reads the schema of a row, of a key, or of an envelope around rows. Only columns that are `wanted` are ever written
    /// out: others can be whatever they like.
    pub(super) fn of_schema(schema: &str, wanted: impl Fn(&str) -> bool) -> Self {
        // Whoever writes schemas of another kind has no such types, either.
        let Ok(schema) = serde_json::from_str::<Schema<'_>>(schema) else { return Self::default() };
        let is_called = |name: &'static str| move |field: &&Schema<'_>| field.field.as_deref() == Some(name);
        let after = schema.fields().iter().find(is_called("after"));
        match after.filter(|_| schema.fields().iter().any(|field| is_called("op")(&field))) {
            Some(row) => Self::of_fields(row.fields(), wanted),
            None => Self::of_fields(schema.fields(), wanted),
        }
    }

    fn of_fields(fields: &[Schema<'_>], wanted: impl Fn(&str) -> bool) -> Self {
        let typed = fields.iter().filter_map(|field| {
            let name = field.field.as_deref().filter(|name| wanted(name))?;
            Some((name.to_owned(), Type::of(field)?))
        });
        Self(typed.collect())
    }

    /// The row with its values written out. `stays` says which values (by their JSON) stand for others and stay as they are.
    pub(super) fn write_out<'a>(&self, row: &'a str, stays: impl Fn(&str) -> bool) -> Result<Cow<'a, str>, Reject> {
        if self.0.is_empty() {
            return Ok(row.into());
        }
        let mut written = String::with_capacity(row.len() + 64);
        let refuse = |column: &str, why: &str| Reject::new(Reason::BadValue, format!("column {column} {why}"));
        let mut culprit = None;
        let done = self.write_members(row, &mut written, &stays, &mut culprit);
        match done {
            Ok(()) => Ok(written.into()),
            Err(why) => Err(refuse(culprit.unwrap_or("?"), why)),
        }
    }

    /// `culprit` is the outermost column that could not be written out.
    fn write_members<'t>(
        &'t self,
        object: &str,
        written: &mut String,
        stays: &impl Fn(&str) -> bool,
        culprit: &mut Option<&'t str>,
    ) -> Result<(), &'static str> {
        written.push('{');
        for (index, member) in members(object).enumerate() {
            if index > 0 {
                written.push(',');
            }
            written.push('"');
            written.push_str(member.raw_name);
            written.push_str("\":");
            let name = member.name();
            match self.0.iter().find(|(typed, _)| *typed == name) {
                Some((typed, kind)) if member.value != "null" && !stays(member.value) => {
                    kind.write(member.value, written).inspect_err(|_| *culprit = Some(typed))?;
                }
                _ => written.push_str(member.value),
            }
        }
        written.push('}');
        Ok(())
    }
}

/// A value that is no row, written out as its schema says: the JSON of a key, for example.
pub(super) fn write_out_value<'a>(schema: &str, raw: &'a str) -> Result<Cow<'a, str>, Reject> {
    let schema: Option<Schema<'_>> = serde_json::from_str(schema).ok();
    let Some(kind) = schema.as_ref().and_then(Type::of) else { return Ok(raw.into()) };
    let mut written = String::new();
    kind.write(raw, &mut written).map_err(|why| Reject::new(Reason::BadValue, format!("the value {why}")))?;
    Ok(written.into())
}

/// Writes out what says itself that it is a decimal of variable scale, in a row without a schema.
pub(super) fn write_out_unnamed(row: &str) -> Cow<'_, str> {
    const START: &str = "{\"scale\":";
    if memchr::memmem::find(row.as_bytes(), START.as_bytes()).is_none() {
        return row.into();
    }
    let is_one = |raw: &str| raw.starts_with(START);
    let unnamed = members(row).filter_map(|member| {
        let kind = Type::VariableScaleDecimal;
        let kind = match member.value {
            raw if is_one(raw) => kind,
            raw if raw.strip_prefix('[').is_some_and(is_one) => Type::List(Box::new(kind)),
            _ => return None,
        };
        // What only looks like one is something else, and stays.
        kind.write(member.value, &mut String::new()).is_ok().then(|| (member.name().into_owned(), kind))
    });
    Types(unnamed.collect()).write_out(row, |_| false).unwrap_or_else(|_| row.into())
}

impl Type {
    fn of(schema: &Schema<'_>) -> Option<Self> {
        let scale = schema.parameters.as_ref().and_then(|parameters| parameters.get("scale")).map(String::as_str);
        if let Some(named) = schema.name.as_deref().and_then(|name| Self::named(name, scale)) {
            return Some(named);
        }
        if let Some(items) = &schema.items {
            return Self::of(items).map(Box::new).map(Self::List);
        }
        if let Some(values) = &schema.values {
            return Self::of(values).map(Box::new).map(Self::Map);
        }
        let fields = Types::of_fields(schema.fields(), |_| true);
        (!fields.0.is_empty()).then_some(Self::Struct(fields))
    }

    /// What a schema's name says, whatever the converter; `scale` is the parameter of decimals.
    pub(super) fn named(name: &str, scale: Option<&str>) -> Option<Self> {
        use Unit::{Microseconds, Milliseconds, Nanoseconds};
        if let Some(name) = name.strip_prefix("org.apache.kafka.connect.data.") {
            return match name {
                "Decimal" => scale?.parse().ok().map(|scale| Self::Decimal { scale }),
                "Date" => Some(Self::Date),
                "Time" => Some(Self::Time(Milliseconds)),
                "Timestamp" => Some(Self::Timestamp(Milliseconds)),
                _ => None,
            };
        }
        match name.strip_prefix("io.debezium.")? {
            "data.VariableScaleDecimal" => Some(Self::VariableScaleDecimal),
            "data.Bits" => Some(Self::Bits),
            "time.Date" => Some(Self::Date),
            "time.Time" => Some(Self::Time(Milliseconds)),
            "time.MicroTime" => Some(Self::Time(Microseconds)),
            "time.NanoTime" => Some(Self::Time(Nanoseconds)),
            "time.Timestamp" => Some(Self::Timestamp(Milliseconds)),
            "time.MicroTimestamp" => Some(Self::Timestamp(Microseconds)),
            "time.NanoTimestamp" => Some(Self::Timestamp(Nanoseconds)),
            "time.IsoDate" | "time.IsoTime" | "time.IsoTimestamp" => Some(Self::Local),
            _ => None,
        }
    }

    /// Appends the JSON of a value, written out; else says why it cannot be.
    pub(super) fn write(&self, raw: &str, written: &mut String) -> Result<(), &'static str> {
        if raw == "null" {
            written.push_str(raw);
            return Ok(());
        }
        match self {
            // The converter was told to write numbers.
            Self::Decimal { .. } if raw.starts_with(|start: char| start == '-' || start.is_ascii_digit()) => {
                written.push_str(raw);
            }
            Self::Decimal { scale } => push_decimal(&bytes(raw)?, *scale, written)?,
            Self::VariableScaleDecimal => {
                let (mut scale, mut value, mut others) = (None, None, 0);
                for member in members(raw) {
                    match &*member.name() {
                        "scale" => scale = member.value.parse().ok(),
                        "value" => value = Some(member.value),
                        _ => others += 1,
                    }
                }
                let (Some(scale), Some(value), 0) = (scale, value, others) else { return Err("is not a decimal") };
                push_decimal(&bytes(value)?, scale, written)?;
            }
            Self::Bits => {
                let _ = write!(written, "{}", bits(&bytes(raw)?));
            }
            Self::Date => push_text(&date(count(raw)?)?, written),
            Self::Time(unit) => push_text(&unit.time(count(raw)?), written),
            Self::Timestamp(unit) => push_text(&unit.timestamp(count(raw)?)?, written),
            Self::Instant(unit) => {
                let time = unit.timestamp(count(raw)?)?;
                let zone = if time.ends_with("infinity") { "" } else { "Z" };
                let _ = write!(written, "\"{time}{zone}\"");
            }
            Self::Local => match raw.strip_suffix("Z\"") {
                Some(local) => {
                    written.push_str(local);
                    written.push('"');
                }
                None => written.push_str(raw),
            },
            Self::List(kind) => {
                let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| "is not a list")?;
                let items = items.into_iter().map(RawValue::get);
                push_all(items, '[', ']', written, |item, written| kind.write(item, written))?;
            }
            Self::Map(kind) => {
                push_all(members(raw), '{', '}', written, |member, written| {
                    let _ = write!(written, "\"{}\":", member.raw_name);
                    kind.write(member.value, written)
                })?;
            }
            Self::Struct(types) => types.write_members(raw, written, &|_| false, &mut None)?,
        }
        Ok(())
    }
}

fn push_text(text: &str, written: &mut String) {
    let _ = write!(written, "\"{text}\"");
}

fn push_all<T>(
    parts: impl Iterator<Item = T>,
    open: char,
    close: char,
    written: &mut String,
    mut push: impl FnMut(T, &mut String) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    written.push(open);
    for (index, part) in parts.enumerate() {
        if index > 0 {
            written.push(',');
        }
        push(part, written)?;
    }
    written.push(close);
    Ok(())
}

#[cfg(test)]
mod tests;
