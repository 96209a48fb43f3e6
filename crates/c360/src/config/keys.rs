//! Which keys there are: asked of the types that read them, so that the two cannot disagree.

use model::mapping::{CustomerMapping, InteractionMapping, LinesMapping, OrderMapping, ProductMapping, WriteMapping};
use serde::de::value::Error as Refusal;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use super::document::{Document, KeyPath};
use super::sections::{Database, Erasure, Http, Matching, Objects, Retention, Security, Staging, Survivorship};
use super::source::{Basic, Csv, Kafka, List, Lists, OAuth2, Rest, SourceSettings};

/// The keys at the top.
pub(super) const TOP: [&str; 11] = [
    "data_dir",
    "database",
    "http",
    "security",
    "staging",
    "retention",
    "sources",
    "survivorship",
    "matching",
    "objects",
    "erasure",
];
/// The kinds of source.
pub(super) const KINDS: [&str; 3] = ["kafka", "csv", "rest"];

/// The secrets, each of which may also come from a file: `x_file` for `x`. `*` is any key.
pub(super) const SECRETS: [&[&str]; 8] = [
    &["database", "url"],
    &["database", "password"],
    &["sources", "*", "bearer_token"],
    &["sources", "*", "basic", "password"],
    &["sources", "*", "oauth2", "client_secret"],
    &["sources", "*", "headers", "*"],
    &["sources", "*", "properties", "*"],
    &["sources", "*", "schema_registry_password"],
];

/// All keys that may stand in the section at `path`; none where names are free.
pub(super) fn known(document: &Document, path: &[String]) -> Vec<String> {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let keys = match words.as_slice() {
        [] => TOP.to_vec(),
        ["database"] => fields::<Database>().to_vec(),
        ["http"] => fields::<Http>().to_vec(),
        ["security"] => fields::<Security>().to_vec(),
        ["staging"] => fields::<Staging>().to_vec(),
        ["retention"] => fields::<Retention>().to_vec(),
        ["survivorship"] => fields::<Survivorship>().to_vec(),
        ["matching"] => fields::<Matching>().to_vec(),
        ["objects"] => fields::<Objects>().to_vec(),
        ["erasure"] => fields::<Erasure>().to_vec(),
        ["sources", name] => of_source(document.get(&["sources", *name, "kind"]).and_then(toml::Value::as_str)),
        ["sources", _, "customer"] => fields::<CustomerMapping>().to_vec(),
        ["sources", _, "customer", "update" | "create"] => fields::<WriteMapping>().to_vec(),
        ["sources", _, "order"] => fields::<OrderMapping>().to_vec(),
        ["sources", _, "order", "lines"] => fields::<LinesMapping>().to_vec(),
        ["sources", _, "product"] => fields::<ProductMapping>().to_vec(),
        ["sources", _, "interaction"] => fields::<InteractionMapping>().to_vec(),
        ["sources", _, "basic"] => fields::<Basic>().to_vec(),
        ["sources", _, "oauth2"] => fields::<OAuth2>().to_vec(),
        ["sources", _, "list"] => fields::<Lists>().to_vec(),
        ["sources", _, "list", _] => fields::<List>().to_vec(),
        _ => Vec::new(),
    };
    let mut keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
    let below = |key: &str| path.iter().cloned().chain([key.to_owned()]).collect::<KeyPath>();
    let files: Vec<String> =
        keys.iter().filter(|key| is_secret(&below(key))).map(|key| format!("{key}_file")).collect();
    keys.extend(files);
    keys
}

/// The keys of a source of this kind, or of any kind where that is not known.
fn of_source(kind: Option<&str>) -> Vec<&'static str> {
    let mut keys = vec!["kind"];
    keys.extend(fields::<SourceSettings>());
    let own: [(&str, &[&str]); 3] =
        [("kafka", fields::<Kafka>()), ("csv", fields::<Csv>()), ("rest", fields::<Rest>())];
    let known_kind = own.iter().any(|(name, _)| Some(*name) == kind);
    for (name, fields) in own {
        if Some(name) == kind || !known_kind {
            keys.extend(fields);
        }
    }
    keys
}

/// Whether the value at `path` is a secret.
pub(super) fn is_secret(path: &[String]) -> bool {
    SECRETS.iter().any(|secret| {
        secret.len() == path.len() && secret.iter().zip(path).all(|(word, key)| *word == "*" || word == key)
    })
}

/// Owned keys from words.
pub(super) fn path(words: &[&str]) -> KeyPath {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The fields of a struct, as serde names them.
pub(super) fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // It always refuses: the fields are what is wanted, not a value.
    let _ = T::deserialize(Probe(&mut fields));
    fields
}

/// A deserializer without a value, which notes what is asked of it.
struct Probe<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refusal> {
        Err(Refusal::custom("no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Refusal> {
        *self.0 = fields;
        Err(Refusal::custom("no value"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
