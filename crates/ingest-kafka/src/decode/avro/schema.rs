//! Schemas of writers, made ready for reading bodies.
//!
//! `apache_avro` reads them: names, namespaces, logical types. It drops what Connect adds to simple types (`connect.name`:
//! what Debezium means by a number), so the JSON is walked beside what it has read.

use std::collections::HashMap;

use apache_avro::schema::{InnerDecimalSchema, Schema as Avro, UuidSchema};
use serde_json::{Map, Value, json};

use crate::decode::types::Type;
use crate::decode::values::Unit;

/// A writer's schema. Types that refer to themselves are why its parts refer to each other by number.
#[derive(Debug)]
pub(crate) struct Schema {
    parts: Vec<Part>,
    pub(super) root: PartId,
    /// Whether it is one of Debezium's envelopes: rows are `before` and `after`.
    pub(super) is_envelope: bool,
}

/// Number of a part.
pub(super) type PartId = usize;

/// How a value is read.
#[derive(Debug)]
pub(super) enum Part {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    /// Sixteen bytes.
    Uuid,
    /// Months, days and milliseconds.
    Duration,
    /// An unscaled number and its scale, in bytes.
    BigDecimal,
    /// The symbols, as JSON.
    Enum(Vec<String>),
    Array(PartId),
    Map(PartId),
    Union(Vec<PartId>),
    Record(Vec<Field>),
    /// A value that means more than it says.
    Typed(Type, PartId),
}

/// A field of a record.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) part: PartId,
    /// Whether a typed value may stand there, by itself or in lists and maps.
    pub(super) is_typed: bool,
}

/// The field of the record around a schema and the ones that it refers to.
const MAIN: &str = "main";

impl Schema {
    /// Reads a schema; `references` are those that it and they refer to, each after its own. An error says what is wrong.
    pub(crate) fn read(main: &str, references: &[String]) -> Result<Self, String> {
        let parse = |text: &String| serde_json::from_str::<Value>(text).map_err(|error| format!("not JSON: {error}"));
        // One document in which every name is defined before it is used.
        let mut fields = Vec::new();
        for (index, reference) in references.iter().enumerate() {
            fields.push(json!({"name": format!("reference_{index}"), "type": parse(reference)?}));
        }
        fields.push(json!({"name": MAIN, "type": parse(&main.to_owned())?}));
        let mut document = json!({"type": "record", "name": "c360_schema", "fields": fields});
        strip(&mut document);
        let schema = Avro::parse(&document).map_err(|error| error.to_string())?;
        let mut reader = Reader { parts: Vec::new(), names: HashMap::new() };
        let all = reader.read(&schema, &document)?;
        let Part::Record(fields) = &reader.parts[all] else { return Err("not a record".to_owned()) };
        let root = fields.last().ok_or("empty")?.part;
        let is_envelope = is_envelope(&reader.parts, root);
        Ok(Self { parts: reader.parts, root, is_envelope })
    }

    pub(super) fn part(&self, id: PartId) -> &Part {
        // Numbers are only made beside parts.
        self.parts.get(id).unwrap_or(&Part::Null)
    }
}

/// Takes out what reading a body does not need and may be wrong: defaults, which Connect writes in ways of its own.
fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for name in ["default", "aliases", "doc"] {
                members.remove(name);
            }
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn is_typed(parts: &[Part], id: PartId) -> bool {
    match parts.get(id) {
        Some(Part::Typed(..) | Part::BigDecimal) => true,
        Some(Part::Array(inner) | Part::Map(inner)) => is_typed(parts, *inner),
        Some(Part::Union(variants)) => variants.iter().any(|variant| is_typed(parts, *variant)),
        _ => false,
    }
}

fn is_envelope(parts: &[Part], root: PartId) -> bool {
    match parts.get(root) {
        Some(Part::Record(fields)) => {
            let has = |name: &str| fields.iter().any(|field| field.name == name);
            has("op") && has("after")
        }
        Some(Part::Union(variants)) => variants.iter().any(|variant| is_envelope(parts, *variant)),
        _ => false,
    }
}

struct Reader {
    parts: Vec<Part>,
    names: HashMap<String, PartId>,
}

impl Reader {
    fn push(&mut self, part: Part) -> PartId {
        self.parts.push(part);
        self.parts.len() - 1
    }

    fn read(&mut self, schema: &Avro, json: &Value) -> Result<PartId, String> {
        // `{"type": {"type": ...}}` is one type; each of its objects may say what it means.
        let (mut at, mut meant) = (json, None);
        while let Value::Object(object) = at {
            meant = meant.or_else(|| meaning(object));
            match object.get("type") {
                Some(inner @ (Value::Object(_) | Value::Array(_))) => at = inner,
                _ => break,
            }
        }
        let below = |name: &str| at.get(name).ok_or_else(|| format!("{name} is missing"));
        let part = match schema {
            Avro::Null => Part::Null,
            Avro::Boolean => Part::Boolean,
            Avro::Int | Avro::Date | Avro::TimeMillis => Part::Int,
            Avro::Long
            | Avro::TimeMicros
            | Avro::TimestampMillis
            | Avro::TimestampMicros
            | Avro::TimestampNanos
            | Avro::LocalTimestampMillis
            | Avro::LocalTimestampMicros
            | Avro::LocalTimestampNanos => Part::Long,
            Avro::Float => Part::Float,
            Avro::Double => Part::Double,
            Avro::Bytes | Avro::Uuid(UuidSchema::Bytes) => Part::Bytes,
            Avro::String | Avro::Uuid(UuidSchema::String) => Part::String,
            Avro::BigDecimal => Part::BigDecimal,
            Avro::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Part::Bytes,
                InnerDecimalSchema::Fixed(fixed) => {
                    return Ok(self.name(&fixed.name, Part::Fixed(fixed.size), meant.or_else(|| implied(schema))));
                }
            },
            Avro::Fixed(fixed) => return Ok(self.name(&fixed.name, Part::Fixed(fixed.size), meant)),
            Avro::Uuid(UuidSchema::Fixed(fixed)) => return Ok(self.name(&fixed.name, Part::Uuid, None)),
            Avro::Duration(fixed) => return Ok(self.name(&fixed.name, Part::Duration, None)),
            Avro::Enum(symbols) => {
                let quoted = symbols.symbols.iter().map(|symbol| Value::from(symbol.as_str()).to_string());
                return Ok(self.name(&symbols.name, Part::Enum(quoted.collect()), None));
            }
            Avro::Record(record) => {
                // Its number is known before its fields are, which may refer to it.
                let id = self.push(Part::Null);
                let outer = match meant {
                    Some(kind) => self.push(Part::Typed(kind, id)),
                    None => id,
                };
                self.names.insert(record.name.fullname(None), outer);
                let written = below("fields")?.as_array().filter(|written| written.len() == record.fields.len());
                let written = written.ok_or("fields is not a list of fields")?;
                let mut fields = Vec::with_capacity(written.len());
                for (field, written) in record.fields.iter().zip(written) {
                    let part = self.read(&field.schema, written.get("type").unwrap_or(&Value::Null))?;
                    fields.push(Field { name: field.name.clone(), part, is_typed: is_typed(&self.parts, part) });
                }
                self.parts[id] = Part::Record(fields);
                return Ok(outer);
            }
            Avro::Array(array) => Part::Array(self.read(&array.items, below("items")?)?),
            Avro::Map(map) => Part::Map(self.read(&map.types, below("values")?)?),
            Avro::Union(union) => {
                let written = at.as_array().filter(|written| written.len() == union.variants().len());
                let written = written.ok_or("a union is not a list of types")?;
                let variants = union.variants().iter().zip(written).map(|(schema, json)| self.read(schema, json));
                Part::Union(variants.collect::<Result<_, _>>()?)
            }
            Avro::Ref { name } => {
                let name = name.fullname(None);
                return self.names.get(&name).copied().ok_or_else(|| format!("{name} is not defined"));
            }
        };
        let is_container = matches!(part, Part::Array(_) | Part::Map(_) | Part::Union(_));
        let id = self.push(part);
        Ok(match meant.filter(|_| !is_container).or_else(|| implied(schema)) {
            Some(kind) => self.push(Part::Typed(kind, id)),
            None => id,
        })
    }

    /// A part that others may refer to.
    fn name(&mut self, name: &apache_avro::schema::Name, part: Part, kind: Option<Type>) -> PartId {
        let mut id = self.push(part);
        if let Some(kind) = kind {
            id = self.push(Part::Typed(kind, id));
        }
        self.names.insert(name.fullname(None), id);
        id
    }
}

/// What Connect says that a type means.
fn meaning(object: &Map<String, Value>) -> Option<Type> {
    let name = object.get("connect.name")?.as_str()?;
    let scale = object.get("connect.parameters").and_then(|parameters| parameters.get("scale"));
    let scale = scale
        .or_else(|| object.get("scale"))
        .map(|scale| scale.as_str().map_or_else(|| scale.to_string(), str::to_owned));
    Type::named(name, scale.as_deref())
}

/// What Avro's logical types mean.
fn implied(schema: &Avro) -> Option<Type> {
    use Unit::{Microseconds, Milliseconds, Nanoseconds};
    match schema {
        Avro::Decimal(decimal) => i64::try_from(decimal.scale).ok().map(|scale| Type::Decimal { scale }),
        Avro::Date => Some(Type::Date),
        Avro::TimeMillis => Some(Type::Time(Milliseconds)),
        Avro::TimeMicros => Some(Type::Time(Microseconds)),
        Avro::TimestampMillis => Some(Type::Instant(Milliseconds)),
        Avro::TimestampMicros => Some(Type::Instant(Microseconds)),
        Avro::TimestampNanos => Some(Type::Instant(Nanoseconds)),
        Avro::LocalTimestampMillis => Some(Type::Timestamp(Milliseconds)),
        Avro::LocalTimestampMicros => Some(Type::Timestamp(Microseconds)),
        Avro::LocalTimestampNanos => Some(Type::Timestamp(Nanoseconds)),
        _ => None,
    }
}
