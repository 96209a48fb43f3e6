//! A decoded row before mapping: names and values, each value in one of four states.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One value of a row. Absent and unavailable keep what is known, null and the empty string clear it.
#[derive(Clone, Debug, PartialEq)]
pub enum Field<'a> {
    /// The row does not have this column.
    Absent,
    /// The source says that there is a value but does not send it (an unchanged out-of-line column of Postgres).
    Unavailable,
    /// The source says that there is no value.
    Null,
    /// A string.
    Text(Cow<'a, str>),
    /// Any other JSON value, by its exact text.
    Json(&'a str),
}

/// The columns of one row. Of columns with one name the last wins.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    entries: Vec<(Cow<'a, str>, Field<'a>)>,
}

impl<'a> Fields<'a> {
    /// Reads a JSON object without building a tree. A string that equals `placeholder` is [`Field::Unavailable`].
    pub fn from_json(object: &'a str, placeholder: Option<&str>) -> Result<Self, serde_json::Error> {
        let Object(raw) = serde_json::from_str(object)?;
        let entries = raw.into_iter().map(|(name, value)| Ok((name, Field::from_raw(value.get(), placeholder)?)));
        Ok(Self { entries: entries.collect::<Result<_, serde_json::Error>>()? })
    }

    /// Takes columns that were read one by one, such as the cells of a CSV row.
    pub fn from_entries(entries: Vec<(Cow<'a, str>, Field<'a>)>) -> Self {
        Self { entries }
    }

    /// The value under a name. A dotted path leads into nested objects, unless a column has the whole path as its name.
    pub fn get(&self, path: &str) -> Field<'a> {
        if let Some((_, field)) = self.entries.iter().rev().find(|(name, _)| name == path) {
            return field.clone();
        }
        let Some((head, rest)) = path.split_once('.') else { return Field::Absent };
        match self.get(head) {
            Field::Json(raw) => Fields::from_json(raw, None).map_or(Field::Absent, |nested| nested.get(rest)),
            Field::Null => Field::Null,
            Field::Unavailable => Field::Unavailable,
            Field::Absent | Field::Text(_) => Field::Absent,
        }
    }

    /// All columns, in the order received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Field<'a>)> {
        self.entries.iter().map(|(name, field)| (name.as_ref(), field))
    }
}

impl<'a> Field<'a> {
    /// Reads the text of one JSON value.
    pub fn from_raw(raw: &'a str, placeholder: Option<&str>) -> Result<Self, serde_json::Error> {
        Ok(match raw.as_bytes().first() {
            Some(b'"') => {
                let Text(text) = serde_json::from_str(raw)?;
                if placeholder == Some(&*text) { Field::Unavailable } else { Field::Text(text) }
            }
            Some(b'n') => Field::Null,
            _ => Field::Json(raw),
        })
    }

    /// Whether the field says that there is no value: null or the empty string.
    pub fn clears(&self) -> bool {
        matches!(self, Field::Null) || matches!(self, Field::Text(text) if text.is_empty())
    }

    /// Whether the field leaves what is known as it is: absent or unavailable.
    pub fn keeps(&self) -> bool {
        matches!(self, Field::Absent | Field::Unavailable)
    }

    /// The value as plain text: strings as they are, numbers and the like by their JSON text; `None` without a value.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Field::Text(text) if !text.is_empty() => Some(text.clone()),
            Field::Json(raw) => Some(Cow::Borrowed(raw)),
            _ => None,
        }
    }
}

/// A string that borrows from the input where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// The members of a JSON object in the order received, repeated names and all, values by their text.
pub struct Object<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some((Text(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_states_are_told_apart() {
        let row = r#"{"a":"x","b":null,"c":"","d":"__debezium_unavailable_value","e":1e400,"f":"caf\u00e9"}"#;
        let fields = Fields::from_json(row, Some("__debezium_unavailable_value")).unwrap();
        assert_eq!(fields.get("a"), Field::Text("x".into()));
        assert_eq!(fields.get("b"), Field::Null);
        assert!(fields.get("c").clears());
        assert_eq!(fields.get("d"), Field::Unavailable);
        assert_eq!(fields.get("e"), Field::Json("1e400"));
        assert_eq!(fields.get("f"), Field::Text("café".into()));
        assert_eq!(fields.get("g"), Field::Absent);
    }

    #[test]
    fn the_last_of_duplicate_keys_wins() {
        assert_eq!(Fields::from_json(r#"{"a":1,"a":2}"#, None).unwrap().get("a"), Field::Json("2"));
    }

    #[test]
    fn dotted_paths_lead_into_objects() {
        let fields = Fields::from_json(r#"{"a":{"b":{"c":7}},"x.y":1,"n":null}"#, None).unwrap();
        assert_eq!(fields.get("a.b.c"), Field::Json("7"));
        assert_eq!(fields.get("x.y"), Field::Json("1"));
        assert_eq!(fields.get("n.b"), Field::Null);
        assert_eq!(fields.get("a.z"), Field::Absent);
    }
}
