//! From the tree to typed sections, with all their problems.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use secrecy::SecretString;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, de::DeserializeOwned};
use serde_path_to_error::Segment;
use toml::{Table, Value};

use super::document::{Document, KeyPath};
use super::problem::{Report, suggestion};
use super::source::{Properties, Source, SourceKind, SourceSettings};
use super::{Config, keys};

/// Reads everything. Where something cannot be read a default stands in, and `report` has the reason.
pub(super) fn config(document: &mut Document, report: &mut Report) -> Config {
    for key in document.keys::<&str>(&[]) {
        if !keys::TOP.contains(&key) {
            let message = format!("unknown key{}", suggestion(key, &keys::TOP));
            report.add(document.place(&[key]), key, message);
        }
    }
    let staging: super::Staging = section(document, &["staging"], report).unwrap_or_default();
    let mut sources = BTreeMap::new();
    for name in document.keys(&["sources"]).into_iter().map(str::to_owned).collect::<Vec<_>>() {
        if let Some(mut source) = source(document, &name, report) {
            source.settings.ttl.get_or_insert(source.kind.default_ttl(staging.ttl));
            source.settings.late_after = source.settings.late_after.or(source.kind.default_late_after());
            sources.insert(name, source);
        }
    }
    if let Some(value) = document.get(&["sources"])
        && !value.is_table()
    {
        report.add(document.place(&["sources"]), "sources", "must be sections: [sources.NAME]");
    }
    Config {
        data_dir: section(document, &["data_dir"], report).unwrap_or_else(|| "data".into()),
        database: section(document, &["database"], report).unwrap_or_default(),
        http: section(document, &["http"], report).unwrap_or_default(),
        security: section(document, &["security"], report).unwrap_or_default(),
        staging,
        retention: section(document, &["retention"], report).unwrap_or_default(),
        sources,
        survivorship: section(document, &["survivorship"], report).unwrap_or_default(),
        matching: section(document, &["matching"], report).unwrap_or_default(),
        objects: section(document, &["objects"], report).unwrap_or_default(),
        erasure: section(document, &["erasure"], report).unwrap_or_default(),
        warnings: Vec::new(),
        file: None,
    }
}

/// A whole section with its unknown keys; `None` if it is absent or cannot be read.
fn section<T: DeserializeOwned>(document: &mut Document, path: &[&str], report: &mut Report) -> Option<T> {
    let path = keys::path(path);
    let mut ignored = BTreeSet::new();
    let value = typed(document, &path, &mut ignored, report);
    unknown(document, &ignored, report);
    value
}

/// A source is read twice, as what every source is and as its kind; a key that neither knows is unknown.
fn source(document: &mut Document, name: &str, report: &mut Report) -> Option<Source> {
    let path = keys::path(&["sources", name]);
    let kind_path = keys::path(&["sources", name, "kind"]);
    let kind = match document.get(&kind_path) {
        Some(Value::String(kind)) if keys::KINDS.contains(&kind.as_str()) => kind.clone(),
        Some(Value::String(kind)) => {
            let message = format!("{kind:?} is not a kind of source{}", suggestion(kind, &keys::KINDS));
            report.add(document.place(&kind_path), kind_path.join("."), message);
            return None;
        }
        _ => {
            let message = "is required: \"kafka\", \"csv\" or \"rest\"";
            report.add(document.place(&kind_path), kind_path.join("."), message);
            return None;
        }
    };
    let (mut by_all, mut by_kind) = (BTreeSet::new(), BTreeSet::new());
    let settings: Option<SourceSettings> = typed(document, &path, &mut by_all, report);
    let kind = match kind.as_str() {
        "kafka" => typed(document, &path, &mut by_kind, report).map(SourceKind::Kafka),
        "csv" => typed(document, &path, &mut by_kind, report).map(SourceKind::Csv),
        _ => typed(document, &path, &mut by_kind, report).map(SourceKind::Rest),
    };
    // What one of the readings took, it took with all that is below; its own complaints about that count.
    let depth = path.len() + 1;
    let taken_by = |ignored: &BTreeSet<KeyPath>, key: &KeyPath| !ignored.contains(&key[..depth]);
    let mut ignored: BTreeSet<KeyPath> = BTreeSet::new();
    for key in by_all.iter().filter(|key| **key != kind_path) {
        if key.len() > depth || !taken_by(&by_kind, key) {
            ignored.insert(key.clone());
        }
    }
    ignored.extend(by_kind.iter().filter(|key| key.len() > depth).cloned());
    unknown(document, &ignored, report);
    columns_without_strays(document, &path, report);
    Some(Source { settings: settings?, kind: kind? })
}

/// Reads the value at `path`; collects the keys that nobody wanted.
fn typed<T: DeserializeOwned>(
    document: &mut Document,
    path: &[String],
    ignored: &mut BTreeSet<KeyPath>,
    report: &mut Report,
) -> Option<T> {
    loop {
        ignored.clear();
        let value = document.get(path)?.clone();
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
        let outcome: Result<T, toml::de::Error> = serde_ignored::deserialize(tracked, |key| {
            ignored.insert(path.iter().cloned().chain(key_path(&key)).collect());
        });
        let error = match outcome {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let mut at = path.to_vec();
        for segment in &track.path() {
            match segment {
                Segment::Map { key } => at.push(key.clone()),
                Segment::Seq { index } => at.push(index.to_string()),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        if document.take_as_text(&document.place(&at)) {
            continue;
        }
        let message = match error.message().strip_prefix("missing field `") {
            Some(field) => {
                at.push(field.trim_end_matches('`').to_owned());
                "is required".to_owned()
            }
            None if keys::is_secret(&at) => "must be a string".to_owned(),
            None => plain(error.message()),
        };
        report.add(document.place(&at), at.join("."), message);
        return None;
    }
}

fn unknown(document: &Document, ignored: &BTreeSet<KeyPath>, report: &mut Report) {
    for key in ignored {
        let Some((last, above)) = key.split_last() else { continue };
        let known = keys::known(document, above);
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        report.add(document.place(key), key.join("."), format!("unknown key{}", suggestion(last, &known)));
    }
}

/// What stands in a mapping and is no column.
const SECTIONS: [&str; 4] = ["attributes", "lines", "update", "create"];

/// `{ any = [...] }` is read through an untagged enum, which tells nobody about other keys.
fn columns_without_strays(document: &Document, source: &[String], report: &mut Report) {
    for mapping in ["customer", "order", "product", "interaction"] {
        let mapping: KeyPath = source.iter().cloned().chain([mapping.to_owned()]).collect();
        let attributes: KeyPath = mapping.iter().cloned().chain(["attributes".to_owned()]).collect();
        for section in [&mapping, &attributes] {
            for key in document.keys(section).into_iter().filter(|key| !SECTIONS.contains(key)) {
                let column: KeyPath = section.iter().cloned().chain([key.to_owned()]).collect();
                for stray in document.keys(&column).into_iter().filter(|key| *key != "any") {
                    let stray: KeyPath = column.iter().cloned().chain([stray.to_owned()]).collect();
                    report.add(document.place(&column), stray.join("."), "unknown key (known here: any)");
                }
            }
        }
    }
}

fn key_path(path: &serde_ignored::Path<'_>) -> KeyPath {
    use serde_ignored::Path;
    let (parent, key) = match path {
        Path::Root => return KeyPath::new(),
        Path::Map { parent, key } => (parent, Some(key.clone())),
        Path::Seq { parent, index } => (parent, Some(index.to_string())),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut keys = key_path(parent);
    keys.extend(key);
    keys
}

/// What an address looks like.
const ADDRESS: &str = "an address with a port, such as \"127.0.0.1:8360\"";

/// Serde's words in an operator's.
fn plain(message: &str) -> String {
    if message.contains("untagged enum Columns") {
        return "must be a column, a list of columns to join, or { any = [columns] }".to_owned();
    }
    let wrong_kind = ["invalid type: ", "invalid value: "].into_iter().find_map(|prefix| message.strip_prefix(prefix));
    let Some((found, expected)) = wrong_kind.and_then(|rest| rest.rsplit_once(", expected ")) else {
        let address = message.contains("invalid socket address syntax");
        return if address { format!("must be {ADDRESS}") } else { message.to_owned() };
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "u32" | "u64" | "usize" => "a whole number",
        "f64" => "a number",
        "a character" => "one character",
        "path string" => "a path",
        "socket address" => ADDRESS,
        "a map" => "a section",
        section if section.starts_with("struct ") => "a section",
        other => other,
    };
    // The value itself stays unsaid: a URL with its password may stand where it does not belong.
    let found = match found.split([' ', '`', '"']).next() {
        Some("sequence") => "a list",
        Some("map") => "a section",
        Some("boolean") => "true or false",
        Some("integer" | "floating") => "a number",
        _ => "a text",
    };
    format!("expected {expected}, and this is {found}")
}

/// A time zone by its name.
pub(super) fn time_zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
    let name = String::deserialize(deserializer)?;
    let unknown = |_| D::Error::custom(format!("{name:?} is not a time zone such as \"UTC\" or \"Europe/Paris\""));
    name.parse().map_err(unknown)
}

/// Names to values, whose numbers and truths are taken as text; nested tables, which unquoted dots in a name make, are
/// names with dots again.
pub(super) fn properties<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Properties, D::Error> {
    let mut properties = Properties::new();
    flatten(&Table::deserialize(deserializer)?, "", &mut properties).map_err(D::Error::custom)?;
    Ok(properties)
}

fn flatten(table: &Table, prefix: &str, properties: &mut Properties) -> Result<(), String> {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        let text = match value {
            Value::Table(below) => {
                flatten(below, &format!("{name}."), properties)?;
                continue;
            }
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string(),
            Value::Array(_) | Value::Datetime(_) => return Err(format!("the value of `{name}` must be a string")),
        };
        properties.insert(name, SecretString::from(text));
    }
    Ok(())
}
