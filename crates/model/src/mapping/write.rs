//! How a customer is written to a REST source: what is sent, made from a template.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a template may name beside attributes; no attribute can be called so.
const IDS: [&str; 2] = ["external_id", "email"];

/// `[sources.NAME.customer.update]` and `[sources.NAME.customer.create]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriteMapping {
    /// How it is sent; `PATCH` for an update, `POST` to create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Path and query, with `{external_id}` and `{email}`; for a customer who is to be made, with `{email}`.
    pub request: String,
    /// What is sent: JSON whose texts name our attributes, `{external_id}` and `{email}`. A text that is nothing but one name
    /// becomes the value with its type.
    pub body: Map<String, Value>,
    /// Update: dotted path in the customer's record to the time at which the source last changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

/// The method of a request that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Sends what has changed.
    Patch,
    /// Sends everything.
    Put,
    /// Sends everything.
    Post,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// A name in braces.
    Placeholder(String),
}

/// Takes a template apart; `None` when a brace lacks its other half.
pub fn parts(mut rest: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while let Some((text, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}')?;
        parts.push(Part::Text(text.to_owned()));
        parts.push(Part::Placeholder(name.to_owned()));
        rest = behind;
    }
    parts.push(Part::Text(rest.to_owned()));
    Some(parts)
}

impl WriteMapping {
    /// The attributes that the body names; `Err` with a text whose braces do not match.
    pub fn attributes(&self) -> Result<BTreeSet<String>, String> {
        let mut named = BTreeSet::new();
        for value in self.body.values() {
            name(value, &mut named)?;
        }
        named.retain(|name| !IDS.contains(&name.as_str()));
        Ok(named)
    }

    /// What is sent of these values; a member whose attributes have none is left out. With `changed`, so is one that names
    /// attributes and none of these.
    pub fn fill(&self, values: &Map<String, Value>, changed: Option<&BTreeSet<&str>>) -> Value {
        let filling = Filling { values, changed };
        Value::Object(filling.object(&self.body))
    }
}

fn name(value: &Value, named: &mut BTreeSet<String>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            for part in parts(text).ok_or_else(|| text.clone())? {
                if let Part::Placeholder(name) = part {
                    named.insert(name);
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| name(item, named)),
        Value::Object(members) => members.values().try_for_each(|member| name(member, named)),
        _ => Ok(()),
    }
}

struct Filling<'a> {
    values: &'a Map<String, Value>,
    changed: Option<&'a BTreeSet<&'a str>>,
}

impl Filling<'_> {
    fn object(&self, template: &Map<String, Value>) -> Map<String, Value> {
        template.iter().filter_map(|(name, value)| Some((name.clone(), self.value(value)?))).collect()
    }

    /// `None` for what is left out.
    fn value(&self, template: &Value) -> Option<Value> {
        match template {
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                let filled: Vec<Value> = items.iter().filter_map(|item| self.value(item)).collect();
                (filled.len() == items.len() || !filled.is_empty()).then_some(Value::Array(filled))
            }
            Value::Object(members) => {
                let filled = self.object(members);
                (members.is_empty() || !filled.is_empty()).then_some(Value::Object(filled))
            }
            constant => Some(constant.clone()),
        }
    }

    fn text(&self, template: &str) -> Option<Value> {
        let parts = parts(template)?;
        let named = || {
            parts.iter().filter_map(|part| match part {
                Part::Placeholder(name) => Some(name.as_str()),
                Part::Text(_) => None,
            })
        };
        let of_attributes = |name: &&str| !IDS.contains(name);
        if let Some(changed) = self.changed
            && named().any(|name| of_attributes(&name))
            && !named().any(|name| changed.contains(name))
        {
            return None;
        }
        let has_value = |name: &str| self.values.get(name);
        if named().next().is_some() && !named().any(|name| has_value(name).is_some()) {
            return None;
        }
        if let [Part::Text(before), Part::Placeholder(name), Part::Text(behind)] = parts.as_slice()
            && before.is_empty()
            && behind.is_empty()
        {
            return has_value(name).cloned();
        }
        let written = parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Placeholder(name) => match has_value(name) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
            },
        });
        Some(Value::String(written.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mapping() -> WriteMapping {
        let mapping = json!({
            "request": "/customers/{external_id}",
            "body": {"Id": "{external_id}", "Name": "{name}", "Points": "{points}",
                     "Address": {"Line": "{street}, {city}", "Country": "US"}, "Tags": ["{segment}"], "Origin": "c360"},
        });
        serde_json::from_value(mapping).unwrap()
    }

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_body_has_the_values_with_their_types_and_leaves_out_what_has_none() {
        let values = object(json!({"external_id": 7, "name": "A {b} \"c\"", "points": 48, "city": "Keene"}));
        assert_eq!(
            mapping().fill(&values, None),
            json!({"Id": 7, "Name": "A {b} \"c\"", "Points": 48, "Address": {"Line": ", Keene", "Country": "US"},
                   "Origin": "c360"})
        );
    }

    #[test]
    fn of_a_change_only_members_are_sent_that_name_what_has_changed() {
        let values = object(json!({"external_id": 7, "name": "Ann", "points": 48, "street": "Main", "city": "Keene",
                                   "segment": "gold"}));
        let changed = BTreeSet::from(["city"]);
        assert_eq!(
            mapping().fill(&values, Some(&changed)),
            json!({"Id": 7, "Address": {"Line": "Main, Keene", "Country": "US"}, "Origin": "c360"})
        );
        let cleared = object(json!({"name": "", "external_id": 7}));
        let body = mapping().fill(&cleared, Some(&BTreeSet::from(["name"])));
        assert_eq!(body["Name"], "", "an empty text is what was said");
    }

    #[test]
    fn a_template_says_what_it_names() {
        let named = mapping().attributes().unwrap();
        assert_eq!(named.into_iter().collect::<Vec<_>>(), ["city", "name", "points", "segment", "street"]);
        let torn = WriteMapping { body: object(json!({"Name": "{name"})), ..mapping() };
        assert_eq!(torn.attributes(), Err("{name".to_owned()));
    }
}
