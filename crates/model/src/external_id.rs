//! Ids that other systems give: text for us, a number or a string for them.

use crate::{Field, Reason, Reject};

/// A system's id of a customer, order, product or interaction. `27` and `"27"` are the same id; which of the two the
/// system writes is kept, because documents show it as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExternalId {
    text: String,
    is_number: bool,
}

impl ExternalId {
    /// A string id, untouched. Empty text is no id.
    pub fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self { text: text.to_owned(), is_number: false })
    }

    /// Reads an id out of a field: an integer by its text or a non-empty string; anything else is refused.
    /// `name` is the configured column, for the message.
    pub fn from_field(field: &Field<'_>, name: &str) -> Result<Self, Reject> {
        match field {
            Field::Absent | Field::Unavailable | Field::Null => {
                Err(Reject::new(Reason::NoExternalId, format!("column {name} has no value")))
            }
            Field::Text(text) => Self::from_text(text)
                .ok_or_else(|| Reject::new(Reason::NoExternalId, format!("column {name} is empty"))),
            Field::Json(raw) if is_integer(raw) => Ok(Self { text: (*raw).to_owned(), is_number: true }),
            Field::Json(_) => {
                Err(Reject::new(Reason::BadExternalId, format!("column {name} is neither an integer nor a string")))
            }
        }
    }

    /// The id that [`ExternalId::to_json`] gives, by its text.
    pub fn from_json(json: &str) -> Option<Self> {
        Self::from_field(&Field::from_raw(json, None).ok()?, "id").ok()
    }

    /// The id as staged and stored, with whether the system writes it as a number.
    pub fn from_parts(text: String, is_number: bool) -> Self {
        Self { text, is_number }
    }

    /// The id by its text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the system writes this id as a JSON number.
    pub fn is_number(&self) -> bool {
        self.is_number
    }

    /// The id with its JSON type: `1029` or `"27"`.
    pub fn to_json(&self) -> serde_json::Value {
        if self.is_number
            && let Ok(number) = serde_json::from_str::<serde_json::Number>(&self.text)
        {
            return serde_json::Value::Number(number);
        }
        serde_json::Value::String(self.text.clone())
    }
}

fn is_integer(raw: &str) -> bool {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn integers_and_strings_are_ids_and_keep_their_type() {
        let number = ExternalId::from_field(&Field::Json("1029"), "id").unwrap();
        let text = ExternalId::from_field(&Field::Text("0027".into()), "id").unwrap();
        assert_eq!((number.as_str(), number.to_json()), ("1029", json!(1029)));
        assert_eq!((text.as_str(), text.to_json()), ("0027", json!("0027")));
        let beyond_doubles = ExternalId::from_field(&Field::Json("18446744073709551617"), "id").unwrap();
        assert_eq!(beyond_doubles.to_json().to_string(), "18446744073709551617");
        for id in [number, text, beyond_doubles] {
            assert_eq!(ExternalId::from_json(&id.to_json().to_string()), Some(id));
        }
    }

    #[test]
    fn nothing_else_is_an_id() {
        for (field, reason) in [
            (Field::Absent, Reason::NoExternalId),
            (Field::Null, Reason::NoExternalId),
            (Field::Text("".into()), Reason::NoExternalId),
            (Field::Json("1.5"), Reason::BadExternalId),
            (Field::Json("1e3"), Reason::BadExternalId),
            (Field::Json("true"), Reason::BadExternalId),
            (Field::Json("{}"), Reason::BadExternalId),
        ] {
            assert_eq!(ExternalId::from_field(&field, "id").unwrap_err().reason, reason);
        }
    }
}
