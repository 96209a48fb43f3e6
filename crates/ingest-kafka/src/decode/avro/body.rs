//! Binary bodies, read once from their beginning to their end and written as JSON.
//!
//! Nothing is believed: of counts, lengths and nesting only as much as there are bytes for, and as the caps allow.

use std::fmt::{self, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use model::{Limits, Reason, Reject, push_string};

use super::not_avro;
use super::schema::{Field, Part, PartId, Schema};
use crate::decode::values::push_decimal;

/// What a body is read for.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// Caps, on the body and on the text that becomes of it.
    pub(super) limits: Limits,
    /// Which values (by the JSON of a converter without schemas) stand for others and stay as they are.
    pub(super) stays: &'a dyn Fn(&str) -> bool,
    /// Which columns are read. Those that are not can be whatever they like.
    pub(super) is_wanted: &'a dyn Fn(&str) -> bool,
}

/// The JSON of a body: of times, decimals and the like what they mean.
pub(super) fn write(schema: &Schema, body: &[u8], scope: Scope<'_>) -> Result<String, Reject> {
    let text = String::with_capacity(4 * body.len());
    let mut writer = Writer { schema, scope, body, text, spare: String::new(), depth: 0, says: true, column: None };
    writer.value(schema.root, Level::Top)?;
    match writer.body.len() {
        0 => Ok(writer.text),
        left => Err(not_avro(format!("{left} bytes are left behind what the schema says"))),
    }
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    /// All of it.
    Top,
    /// A row, whose fields are columns.
    Row,
    /// Anywhere else.
    Within,
}

struct Writer<'a> {
    schema: &'a Schema,
    scope: Scope<'a>,
    /// What is left of it.
    body: &'a [u8],
    text: String,
    spare: String,
    depth: usize,
    /// Whether values are written as what they mean, or as they are.
    says: bool,
    /// The column that is being written.
    column: Option<&'a str>,
}

impl<'a> Writer<'a> {
    fn value(&mut self, id: PartId, level: Level) -> Result<(), Reject> {
        let limit = self.scope.limits.max_record_bytes;
        if self.text.len() > limit {
            return Err(Reject::new(Reason::TooLarge, format!("more than {limit} bytes as JSON, which is the limit")));
        }
        match self.schema.part(id) {
            Part::Null => self.text.push_str("null"),
            Part::Boolean => match self.take(1)? {
                [0] => self.text.push_str("false"),
                [1] => self.text.push_str("true"),
                _ => return Err(not_avro("a boolean is neither 0 nor 1")),
            },
            Part::Int => {
                let number = self.long()?;
                let number = i32::try_from(number).map_err(|_| not_avro("an int has more than 32 bits"))?;
                let _ = write!(self.text, "{number}");
            }
            Part::Long => {
                let number = self.long()?;
                let _ = write!(self.text, "{number}");
            }
            Part::Float => {
                let number = f32::from_le_bytes(*self.array()?);
                self.float(f64::from(number), format_args!("{number:?}"), &format!("{number:e}"));
            }
            Part::Double => {
                let number = f64::from_le_bytes(*self.array()?);
                self.float(number, format_args!("{number:?}"), &format!("{number:e}"));
            }
            Part::Bytes => {
                let bytes = self.bytes()?;
                self.binary(bytes);
            }
            Part::Fixed(size) => {
                let bytes = self.take(*size)?;
                self.binary(bytes);
            }
            Part::String => {
                let text = self.string()?;
                push_string(&mut self.text, text);
            }
            Part::Uuid => {
                let uuid = uuid::Uuid::from_bytes(*self.array()?);
                let _ = write!(self.text, "\"{}\"", uuid.hyphenated());
            }
            Part::Duration => {
                let [months, days, millis] = [*self.array()?, *self.array()?, *self.array()?].map(u32::from_le_bytes);
                let (seconds, millis) = (millis / 1_000, millis % 1_000);
                let _ = write!(self.text, "\"P{months}M{days}DT{seconds}.{millis:03}S\"");
            }
            Part::BigDecimal => {
                let bytes = self.bytes()?;
                if self.says { self.big_decimal(bytes)? } else { self.binary(bytes) }
            }
            Part::Enum(symbols) => {
                let symbol = usize::try_from(self.long()?).ok().and_then(|index| symbols.get(index));
                self.text.push_str(symbol.ok_or_else(|| not_avro("an enum has no such symbol"))?);
            }
            Part::Union(variants) => {
                let variant = usize::try_from(self.long()?).ok().and_then(|index| variants.get(index));
                self.value(*variant.ok_or_else(|| not_avro("a union has no such type"))?, level)?;
            }
            Part::Array(item) => {
                self.within(|writer| writer.blocks('[', ']', |writer| writer.value(*item, Level::Within)))?;
            }
            Part::Map(value) => self.within(|writer| {
                writer.blocks('{', '}', |writer| {
                    let name = writer.string()?;
                    push_string(&mut writer.text, name);
                    writer.text.push(':');
                    writer.value(*value, Level::Within)
                })
            })?,
            Part::Record(fields) => self.within(|writer| writer.record(fields, level))?,
            Part::Typed(_, inner) if !self.says => self.value(*inner, Level::Within)?,
            Part::Typed(kind, inner) => {
                let start = self.text.len();
                self.as_it_is(*inner)?;
                self.spare.clear();
                kind.write(&self.text[start..], &mut self.spare).map_err(|why| self.bad_value(why))?;
                self.text.truncate(start);
                self.text.push_str(&self.spare);
            }
        }
        Ok(())
    }

    fn record(&mut self, fields: &'a [Field], level: Level) -> Result<(), Reject> {
        self.text.push('{');
        for (index, field) in fields.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            // Names of fields are letters, digits and `_`.
            let _ = write!(self.text, "{comma}\"{}\":", field.name);
            let is_row = level == Level::Row || level == Level::Top && !self.schema.is_envelope;
            let below = match &*field.name {
                "before" | "after" if level == Level::Top && self.schema.is_envelope => Level::Row,
                _ => Level::Within,
            };
            let around = self.column;
            if is_row {
                self.column = Some(&field.name);
            }
            if self.says && field.is_typed {
                self.typed(field.part)?;
            } else {
                self.value(field.part, below)?;
            }
            self.column = around;
        }
        self.text.push('}');
        Ok(())
    }

    /// Writes what a typed value means, or itself if it stands for another one, or if it means nothing and nobody reads it.
    fn typed(&mut self, part: PartId) -> Result<(), Reject> {
        let (start, before, depth) = (self.text.len(), self.body, self.depth);
        self.as_it_is(part)?;
        let raw = &self.text[start..];
        if raw == "null" || (self.scope.stays)(raw) {
            return Ok(());
        }
        let (raw, behind) = (self.text.split_off(start), self.body);
        self.body = before;
        match self.value(part, Level::Within) {
            Err(reject) if reject.reason == Reason::BadValue && !self.column.is_some_and(self.scope.is_wanted) => {
                self.text.truncate(start);
                self.text.push_str(&raw);
                (self.body, self.depth, self.says) = (behind, depth, true);
                Ok(())
            }
            done => done,
        }
    }

    fn as_it_is(&mut self, part: PartId) -> Result<(), Reject> {
        self.says = false;
        let done = self.value(part, Level::Within);
        self.says = true;
        done
    }

    fn bad_value(&self, why: &str) -> Reject {
        let what = self.column.map_or_else(|| "the value".to_owned(), |column| format!("column {column}"));
        Reject::new(Reason::BadValue, format!("{what} {why}"))
    }

    /// One level deeper.
    fn within(&mut self, write: impl FnOnce(&mut Self) -> Result<(), Reject>) -> Result<(), Reject> {
        self.depth += 1;
        let limit = self.scope.limits.max_depth;
        if self.depth > limit {
            return Err(Reject::new(Reason::TooDeep, format!("nested deeper than {limit}")));
        }
        write(self)?;
        self.depth -= 1;
        Ok(())
    }

    /// The items of an array or a map. Each of them is some text, whose length has a limit; their numbers have none.
    fn blocks(
        &mut self,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self) -> Result<(), Reject>,
    ) -> Result<(), Reject> {
        self.text.push(open);
        let mut is_first = true;
        loop {
            let count = self.long()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                // How many bytes the block has, for those who pass over it.
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                if !std::mem::take(&mut is_first) {
                    self.text.push(',');
                }
                item(self)?;
            }
        }
        self.text.push(close);
        Ok(())
    }

    fn big_decimal(&mut self, bytes: &'a [u8]) -> Result<(), Reject> {
        let around = std::mem::replace(&mut self.body, bytes);
        let (unscaled, scale) = (self.bytes()?, self.long()?);
        self.body = around;
        push_decimal(unscaled, scale, &mut self.text).map_err(|why| self.bad_value(why))
    }

    fn binary(&mut self, bytes: &[u8]) {
        self.text.push('"');
        BASE64_STANDARD.encode_string(bytes, &mut self.text);
        self.text.push('"');
    }

    /// A float as Connect's JSON converter writes it: as Java does, in the fewest digits that are this number and no other.
    /// `plain` and `scientific` are those digits.
    fn float(&mut self, number: f64, plain: fmt::Arguments<'_>, scientific: &str) {
        let _ = match number.abs() {
            magnitude if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) => self.text.write_fmt(plain),
            f64::INFINITY if number < 0.0 => self.text.write_str("\"-Infinity\""),
            f64::INFINITY => self.text.write_str("\"Infinity\""),
            _ => match scientific.split_once('e') {
                Some((digits, exponent)) => {
                    let point = if digits.contains('.') { "" } else { ".0" };
                    write!(self.text, "{digits}{point}E{exponent}")
                }
                None => self.text.write_str("\"NaN\""),
            },
        };
    }

    /// A number of variable length, the sign in its lowest bit.
    fn long(&mut self) -> Result<i64, Reject> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(not_avro("a number has more than 64 bits"))
    }

    fn string(&mut self) -> Result<&'a str, Reject> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Reject::new(Reason::NotUtf8, "in a string"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Reject> {
        let length = usize::try_from(self.long()?).map_err(|_| not_avro("a length is below 0"))?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Reject> {
        let (taken, rest) = self.body.split_at_checked(length).ok_or_else(ends_early)?;
        self.body = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Reject> {
        let (taken, rest) = self.body.split_first_chunk().ok_or_else(ends_early)?;
        self.body = rest;
        Ok(taken)
    }
}

fn ends_early() -> Reject {
    not_avro("it ends before its schema does")
}
