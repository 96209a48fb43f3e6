//! Replacing values in raw JSON text, so that what is stored is what came, byte for byte, except for what must not be.

use std::borrow::Cow;
use std::ops::Range;

use crate::fields::Object;
use crate::{Credentials, Field};

/// The text of a JSON object with the credential under `path` replaced as `credentials` says: by its digest, by null
/// when it is dropped. Null and the empty string stay what they are. See [`replace_values`].
///
/// # Errors
/// When the text is not a JSON object.
pub fn redact_credential<'a>(
    object: &'a str,
    path: &str,
    credentials: &Credentials,
) -> Result<Cow<'a, str>, serde_json::Error> {
    if matches!(credentials, Credentials::Keep) {
        return Ok(Cow::Borrowed(object));
    }
    replace_values(object, &[path], |field| {
        let text = field.text()?;
        Some(credentials.replace(&text).map_or_else(|| "null".to_owned(), |digest| format!("\"{digest}\"")))
    })
}

/// The text of a JSON object with every value under one of `paths` replaced by the JSON text that `with` returns (`None`
/// leaves it as it is); everything else stays byte for byte.
///
/// A path names what [`crate::Fields::get`] finds under it, and more to be sure: all members of that name when there are
/// several, however their names are escaped, and both the member that has the whole dotted path as its name and the one
/// that it leads to in nested objects.
///
/// # Errors
/// When the text is not a JSON object.
pub fn replace_values<'a>(
    object: &'a str,
    paths: &[&str],
    mut with: impl FnMut(&Field<'_>) -> Option<String>,
) -> Result<Cow<'a, str>, serde_json::Error> {
    let mut edits = Vec::new();
    find(object, 0, paths, &mut with, &mut edits)?;
    if edits.is_empty() {
        return Ok(Cow::Borrowed(object));
    }
    let mut text = String::with_capacity(object.len() + edits.len() * 64);
    let mut copied = 0;
    for (span, replacement) in edits {
        text.push_str(&object[copied..span.start]);
        text.push_str(&replacement);
        copied = span.end;
    }
    text.push_str(&object[copied..]);
    Ok(Cow::Owned(text))
}

/// Collects spans of the whole text and what comes in their place, in order and without overlap. `offset` is where
/// `object` begins in the whole text.
fn find(
    object: &str,
    offset: usize,
    paths: &[&str],
    with: &mut impl FnMut(&Field<'_>) -> Option<String>,
    edits: &mut Vec<(Range<usize>, String)>,
) -> Result<(), serde_json::Error> {
    let Object(members) = serde_json::from_str(object)?;
    for (name, raw) in members {
        let raw = raw.get();
        // The value borrows from the object's text, so the distance of their addresses is its place in it.
        let start = offset + (raw.as_ptr().addr() - object.as_ptr().addr());
        if paths.contains(&&*name) {
            if let Some(replacement) = with(&Field::from_raw(raw, None)?) {
                edits.push((start..start + raw.len(), replacement));
            }
        } else if raw.starts_with('{') {
            let below = paths.iter().filter_map(|path| path.strip_prefix(&*name)?.strip_prefix('.'));
            let below: Vec<&str> = below.collect();
            if !below.is_empty() {
                find(raw, start, &below, with, edits)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fields, InstallationKey};
    use proptest::prelude::*;

    fn starred(object: &str, paths: &[&str]) -> String {
        replace_values(object, paths, |field| field.text().map(|_| "\"*\"".to_owned())).unwrap().into_owned()
    }

    #[test]
    fn only_the_named_value_changes_and_the_rest_stays_byte_for_byte() {
        for (object, path, expected) in [
            (r#"{ "a" : 1e400 , "pw":"s3cret" }"#, "pw", r#"{ "a" : 1e400 , "pw":"*" }"#),
            (r#"{"pw":"one","b":2,"pw":"two"}"#, "pw", r#"{"pw":"*","b":2,"pw":"*"}"#),
            (r#"{"\u0070w":"s3\"cret","x":"é"}"#, "pw", r#"{"\u0070w":"*","x":"é"}"#),
            (r#"{"pw":null,"PW":"kept"}"#, "pw", r#"{"pw":null,"PW":"kept"}"#),
            (r#"{"pw":["s3cret",{"a":1}]}"#, "pw", r#"{"pw":"*"}"#),
            (r#"{"after": {"pw" :-7} ,"pw":1}"#, "after.pw", r#"{"after": {"pw" :"*"} ,"pw":1}"#),
            (r#"{"after":{"pw":7},"after.pw":"x"}"#, "after.pw", r#"{"after":{"pw":"*"},"after.pw":"*"}"#),
            (r#"{"a":[{"pw":1}]}"#, "pw", r#"{"a":[{"pw":1}]}"#),
        ] {
            assert_eq!(starred(object, &[path]), expected);
        }
        assert_eq!(
            starred(
                r#"{"before":{"pw":1},"after":{"pw":2},"source":{"query":"insert"}}"#,
                &["before.pw", "after.pw", "source.query"]
            ),
            r#"{"before":{"pw":"*"},"after":{"pw":"*"},"source":{"query":"*"}}"#
        );
        assert!(replace_values("[1]", &["a"], |_| None).is_err());
        assert!(replace_values("{\"a\":1", &["a"], |_| None).is_err());
    }

    #[test]
    fn credentials_become_digests_or_nothing() {
        let object = r#"{"Id":1,"Password":"edzchzmatv5"}"#;
        let digest = Credentials::digest(&InstallationKey::new([7; 32]));
        let expected = digest.replace("edzchzmatv5").unwrap();
        assert_eq!(
            redact_credential(object, "Password", &digest).unwrap(),
            format!(r#"{{"Id":1,"Password":"{expected}"}}"#)
        );
        assert_eq!(redact_credential(object, "Password", &Credentials::Drop).unwrap(), r#"{"Id":1,"Password":null}"#);
        assert_eq!(redact_credential(object, "Password", &Credentials::Keep).unwrap(), object);
    }

    proptest! {
        /// Whatever the object looks like: no mapped value is left in it, and every other member reads as before.
        #[test]
        fn nothing_under_the_name_survives_and_nothing_else_changes(
            members in proptest::collection::vec(("(pw|a|b|\\PC{0,3})", "(secret|\\PC{0,8}|[\"\\\\u]{0,4})", any::<bool>()), 0..6),
            spaces in " {0,2}",
        ) {
            let member = |(name, value, number): &(String, String, bool)| {
                let name = serde_json::Value::from(name.as_str()).to_string();
                let value = if *number { "12.50".to_owned() } else { serde_json::Value::from(value.as_str()).to_string() };
                format!("{spaces}{name}{spaces}:{spaces}{value}{spaces}")
            };
            let object = format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","));
            let redacted = replace_values(&object, &["pw"], |_| Some("null".to_owned())).unwrap();
            let (before, after) = (Fields::from_json(&object, None).unwrap(), Fields::from_json(&redacted, None).unwrap());
            prop_assert_eq!(before.iter().count(), after.iter().count());
            for ((name, old), (same_name, new)) in before.iter().zip(after.iter()) {
                prop_assert_eq!(name, same_name);
                prop_assert_eq!(new, if name == "pw" { &Field::Null } else { old });
            }
        }
    }
}
