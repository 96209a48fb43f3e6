//! "Unchanged, not sent": what Debezium writes in place of a value of Postgres that is stored out of line.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use model::{Field, Fields};

/// The placeholder, in every form that it takes.
#[derive(Clone, Debug)]
pub(super) struct Placeholder {
    /// As text, which is the form of text columns.
    text: String,
    /// As the text of binary columns and of maps.
    texts: Vec<String>,
    /// As the JSON of lists and maps.
    json: Vec<String>,
}

impl Placeholder {
    pub(super) fn new(text: &str) -> Self {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let (base64, for_urls) = (BASE64_STANDARD.encode(text), BASE64_URL_SAFE.encode(text));
        let hex = text.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
        let map = format!("{{{0}:{0}}}", quoted(text));
        let lists = [text, &base64, &for_urls, &hex].map(|item| format!("[{}]", quoted(item)));
        let json = lists.into_iter().chain([format!("[{}]", bytes.join(",")), map.clone()]).collect();
        Self { text: text.to_owned(), texts: vec![base64, for_urls, hex, map], json }
    }

    /// As text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a value is it, by its JSON.
    pub(super) fn is_json(&self, raw: &str) -> bool {
        match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            Some(inner) => self.text == inner || self.texts.iter().any(|text| text == inner),
            None => self.json.iter().any(|json| json == raw),
        }
    }

    /// Whether a value is it in one of the forms that are not just its text.
    fn is_other_form(&self, field: &Field<'_>) -> bool {
        match field {
            Field::Text(text) => self.texts.iter().any(|other| other == text),
            Field::Json(raw) => self.json.iter().any(|other| other == raw),
            Field::Absent | Field::Unavailable | Field::Null => false,
        }
    }

    /// A row that was read with the text as its placeholder, with the other forms told apart, too.
    pub(super) fn tell_apart<'a>(&self, fields: Fields<'a>) -> Fields<'a> {
        if !fields.iter().any(|(_, field)| self.is_other_form(field)) {
            return fields;
        }
        let told = fields.iter().map(|(name, field)| {
            let field = if self.is_other_form(field) { Field::Unavailable } else { field.clone() };
            (name.to_owned().into(), field)
        });
        Fields::from_entries(told.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_postgres_connector_gives_it_is_unavailable() {
        let placeholder = Placeholder::new("__debezium_unavailable_value");
        let row = r#"{"text":"__debezium_unavailable_value","binary":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
            "texts":["__debezium_unavailable_value"],
            "numbers":[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101],
            "binaries":["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="],
            "hex":"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565",
            "map":{"__debezium_unavailable_value":"__debezium_unavailable_value"},
            "mine":["__debezium_unavailable_value","and more"],"null":null}"#;
        let fields = placeholder.tell_apart(Fields::from_json(row, Some(placeholder.text())).unwrap());
        let there: Vec<&str> =
            fields.iter().filter(|(_, field)| **field != Field::Unavailable).map(|(name, _)| name).collect();
        assert_eq!(there, ["mine", "null"]);
    }
}
