//! Hiding what a payload holds: the credential always, every other value unless it was asked for.
//!
//! Whatever stays is as it came, byte for byte: repeated names, white space, numbers beyond what anybody can count.

use std::borrow::Cow;
use std::ops::Range;

use model::Object;
use model::mapping::Mapping;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::config::{Config, KafkaFormat, Source, SourceKind};

/// What stands for a credential.
pub(crate) const CREDENTIAL: &str = "[credential]";
/// Members of change events that hold the statement of the source, which may show a credential.
const STATEMENTS: [&str; 3] = ["query", "__query", "__source_query"];

/// What is hidden.
#[derive(Clone, Debug)]
pub(crate) struct Mask {
    /// The mapped columns with a credential, as the configuration names them.
    pub(crate) credentials: Vec<String>,
    /// Whether values are hidden, too.
    pub(crate) values: bool,
    /// Whether the text is a change event of Debezium, which says more than what a row holds.
    pub(crate) is_change_event: bool,
}

/// A JSON text: an object or a list, which is all that names of columns can be found in.
pub(crate) fn as_json(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).ok()?;
    let is_container = text.trim_ascii_start().starts_with(['{', '[']);
    (is_container && serde_json::from_str::<IgnoredAny>(text).is_ok()).then_some(text)
}

/// Takes credentials out of the raw records of an exported person; where nobody knows which column holds one, the record as it
/// came is left out.
pub(crate) fn export(document: &mut Value, config: &Config) {
    for record in document["staged"].as_array_mut().into_iter().flatten() {
        let source = record["source"].as_str().and_then(|source| config.sources.get(source));
        let payload = record["payload"].as_str().and_then(|payload| as_json(payload.as_bytes()));
        let masked = source.zip(payload).and_then(|(source, payload)| Mask::of(source, false).apply(payload));
        record["payload"] = json!(masked);
    }
}

impl Mask {
    /// What is hidden of a source's payloads.
    pub(crate) fn of(source: &Source, values: bool) -> Self {
        let is_change_event = matches!(&source.kind, SourceKind::Kafka(kafka) if kafka.format != KafkaFormat::Json);
        let mappings = source.mappings();
        let credentials = mappings.iter().filter_map(Mapping::credential_column).map(str::to_owned).collect();
        Self { credentials, values, is_change_event }
    }

    /// The text with what is hidden replaced; `None` if it cannot be read after all.
    pub(crate) fn apply(&self, json: &str) -> Option<String> {
        let mut edits = Vec::new();
        let start = json.len() - json.trim_ascii_start().len();
        self.find(json.trim_ascii(), start, &mut Vec::new(), &mut edits).ok()?;
        let mut text = String::with_capacity(json.len());
        let mut copied = 0;
        for (span, replacement) in edits {
            text.push_str(&json[copied..span.start]);
            text.push_str(&replacement);
            copied = span.end;
        }
        text.push_str(&json[copied..]);
        Some(text)
    }

    /// What stands for a value.
    pub(crate) fn value(&self, text: &str) -> Option<String> {
        (self.values && !text.is_empty()).then(|| format!("[text, {} characters]", text.chars().count()))
    }

    fn find<'a>(
        &self,
        json: &'a str,
        offset: usize,
        path: &mut Vec<Cow<'a, str>>,
        edits: &mut Vec<(Range<usize>, String)>,
    ) -> Result<(), serde_json::Error> {
        // Parts of a text borrow from it, so the distance of their addresses is their place in it.
        let place = |part: &str| offset + (part.as_ptr().addr() - json.as_ptr().addr());
        match json.as_bytes().first() {
            Some(b'{') => {
                let Object(members) = serde_json::from_str(json)?;
                for (name, value) in members {
                    let value = value.get();
                    path.push(name);
                    if self.is_secret(path) && !says_nothing(value) {
                        let start = place(value);
                        edits.push((start..start + value.len(), format!("\"{CREDENTIAL}\"")));
                    } else {
                        self.find(value, place(value), path, edits)?;
                    }
                    path.pop();
                }
            }
            Some(b'[') => {
                for element in serde_json::from_str::<Vec<&RawValue>>(json)? {
                    self.find(element.get(), place(element.get()), path, edits)?;
                }
            }
            _ if self.values && !says_nothing(json) && !self.is_metadata(path) => {
                edits.push((offset..offset + json.len(), format!("\"{}\"", shape(json)?)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a credential or a statement stands there: under its name, or its dotted path, however deep.
    fn is_secret(&self, path: &[Cow<'_, str>]) -> bool {
        let Some(name) = path.last() else { return false };
        let ends_so = |column: &String| {
            let parts: Vec<&str> = column.split('.').collect();
            **name == **column || path.len() >= parts.len() && path[path.len() - parts.len()..] == parts[..]
        };
        self.credentials.iter().any(ends_so) || self.is_change_event && STATEMENTS.contains(&&**name)
    }

    /// What a change event says beside the row: operation, times, place in the log.
    fn is_metadata(&self, path: &[Cow<'_, str>]) -> bool {
        let path = match path {
            [first, rest @ ..] if first == "payload" => rest,
            path => path,
        };
        self.is_change_event
            && match path {
                [name] => matches!(&**name, "op" | "ts_ms" | "ts_us" | "ts_ns") || name.starts_with("__"),
                [first, ..] => first == "source" || first == "schema",
                [] => false,
            }
    }
}

/// Null, or text or a container without anything in it.
fn says_nothing(json: &str) -> bool {
    matches!(json, "null" | "\"\"" | "{}" | "[]")
}

fn shape(json: &str) -> Result<String, serde_json::Error> {
    Ok(match json.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(json)?;
            format!("[text, {} characters]", text.chars().count())
        }
        Some(b't' | b'f') => "[true or false]".to_owned(),
        _ => "[number]".to_owned(),
    })
}

/// The text with a line for each member and element, and otherwise as it was.
pub(crate) fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut rest = json.chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    };
    while let Some(char) = rest.next() {
        if in_string {
            text.push(char);
            (in_string, is_escaped) = (is_escaped || char != '"', !is_escaped && char == '\\');
            continue;
        }
        match char {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                text.push(char);
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(close) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(close);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(char);
            }
            ',' => {
                text.push(',');
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            _ => {
                in_string = char == '"';
                text.push(char);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(values: bool) -> Mask {
        Mask { credentials: vec!["password".to_owned(), "login.pin".to_owned()], values, is_change_event: true }
    }

    #[test]
    fn the_credential_is_hidden_wherever_it_stands_and_nothing_else_changes() {
        for (json, expected) in [
            (r#"{ "id" : 7, "password":"s3cret" }"#, r#"{ "id" : 7, "password":"[credential]" }"#),
            (
                r#"{"after":{"password":["a"]},"before":{"pass\u0077ord":1}}"#,
                r#"{"after":{"password":"[credential]"},"before":{"pass\u0077ord":"[credential]"}}"#,
            ),
            (
                r#"[{"login":{"pin":1}},{"login.pin":2},{"pin":3}]"#,
                r#"[{"login":{"pin":"[credential]"}},{"login.pin":"[credential]"},{"pin":3}]"#,
            ),
            (
                r#"{"password":"a","password":"b","n":1e400}"#,
                r#"{"password":"[credential]","password":"[credential]","n":1e400}"#,
            ),
            (r#"{"password":null,"x":""}"#, r#"{"password":null,"x":""}"#),
            (
                r#"{"source":{"query":"update c set password = 's3cret'","file":"b.3"}}"#,
                r#"{"source":{"query":"[credential]","file":"b.3"}}"#,
            ),
            (" \n[1]", " \n[1]"),
        ] {
            assert_eq!(mask(false).apply(as_json(json.as_bytes()).unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn values_are_hidden_and_their_shape_and_the_place_in_the_log_are_not() {
        let json = r#"{"payload":{"op":"u","before":null,"after":{"id":27,"name":"Zoë","vip":true,"tags":["a",""],"o":{}},"source":{"file":"b.3","query":"x"},"ts_ms":5},"__op":"u"}"#;
        let expected = r#"{"payload":{"op":"u","before":null,"after":{"id":"[number]","name":"[text, 3 characters]","vip":"[true or false]","tags":["[text, 1 characters]",""],"o":{}},"source":{"file":"b.3","query":"[credential]"},"ts_ms":5},"__op":"u"}"#;
        assert_eq!(mask(true).apply(json).unwrap(), expected);
        let answer = Mask { is_change_event: false, ..mask(true) };
        assert_eq!(
            answer.apply(r#"{"op":"Ann","source":{"x":"b"}}"#).unwrap(),
            r#"{"op":"[text, 3 characters]","source":{"x":"[text, 1 characters]"}}"#
        );
    }

    #[test]
    fn only_objects_and_lists_are_read() {
        let deep = "[".repeat(100_000);
        for bytes in [&b"\"{}\""[..], b"7", b"", b"{", b"\xff{}", b"{}{}", deep.as_bytes()] {
            assert_eq!(as_json(bytes), None);
        }
        assert_eq!(as_json(b"\xef\xbb\xbf {}"), Some(" {}"));
    }

    #[test]
    fn indenting_changes_white_space_only() {
        let json = r#"{"a" :[1, {"b":"x, {y}: \" "}], "c":{ },"d":[]}"#;
        let expected =
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x, {y}: \\\" \"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}";
        assert_eq!(indented(json), expected);
    }
}
