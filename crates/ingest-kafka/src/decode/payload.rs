//! What is kept of a message as it came: its text, without clear credentials and without the SQL of the source.

use std::borrow::Cow;
use std::ops::Range;

use model::{Credentials, Field};

use super::members::{is_object, members, offset_in};

/// A part of a message that may hold what must not be kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Section<'a> {
    /// A row: `after`, `before`, or the whole message.
    Row(&'a str),
    /// `source`.
    Source(&'a str),
}

/// Columns whose values are replaced, and by what.
#[derive(Clone, Debug)]
pub(super) struct Censor {
    paths: Vec<String>,
    credentials: Credentials,
    placeholder: String,
}

impl Censor {
    /// `paths` are the mapped credential columns, of all mappings of a topic.
    pub(super) fn new(paths: Vec<String>, credentials: Credentials, placeholder: &str) -> Self {
        let paths = if matches!(credentials, Credentials::Keep) { Vec::new() } else { paths };
        Self { paths, credentials, placeholder: placeholder.to_owned() }
    }

    /// The text as it may be kept. `sections` are pieces of `text`, all of a kind, repeated ones included.
    pub(super) fn apply(&self, text: &str, sections: &[Section<'_>]) -> String {
        let mut edits = Vec::new();
        let mut digests = Digests::default();
        for section in sections {
            match section {
                Section::Row(row) => {
                    for path in &self.paths {
                        self.replace_column(text, row, path, &mut digests, &mut edits);
                    }
                    remove_flattened_query(text, row, &mut edits);
                }
                Section::Source(source) => remove_query(text, source, &mut edits),
            }
        }
        splice(text, edits)
    }

    /// Replaces a column under its name or, where the name is dotted, within nested objects.
    fn replace_column<'a>(
        &self,
        text: &str,
        row: &'a str,
        path: &str,
        digests: &mut Digests<'a>,
        edits: &mut Vec<(Range<usize>, Cow<'static, str>)>,
    ) {
        let nested = path.split_once('.');
        for member in members(row) {
            let name = member.name();
            if name == path {
                if let Some(replacement) = self.replacement(member.value, digests) {
                    edits.push((range_in(text, member.value), replacement));
                }
            } else if let Some((head, rest)) = nested
                && name == head
                && is_object(member.value)
            {
                self.replace_column(text, member.value, rest, digests, edits);
            }
        }
    }

    fn replacement<'a>(&self, raw: &'a str, digests: &mut Digests<'a>) -> Option<Cow<'static, str>> {
        if let Some((known, replacement)) = &digests.last
            && *known == raw
        {
            return Some(replacement.clone().into());
        }
        // Validated text: a value that cannot be read cannot be told apart from a credential, so it goes.
        let clear = match Field::from_raw(raw, Some(&self.placeholder)) {
            Ok(field) => field.text()?,
            Err(_) => return Some("null".into()),
        };
        let Some(replacement) = self.credentials.replace(&clear) else { return Some("null".into()) };
        let replacement = format!("\"{replacement}\"");
        digests.last = Some((raw, replacement.clone()));
        Some(replacement.into())
    }
}

/// The digest made last: `before` and `after` mostly have the same credential.
#[derive(Debug, Default)]
struct Digests<'a> {
    last: Option<(&'a str, String)>,
}

/// Rebuilds `source` without `query`, the statement that the source ran, where there is one.
fn remove_query(text: &str, source: &str, edits: &mut Vec<(Range<usize>, Cow<'static, str>)>) {
    if !members(source).any(|member| member.name() == "query" && member.value != "null") {
        return;
    }
    let mut kept = String::with_capacity(source.len());
    kept.push('{');
    for member in members(source).filter(|member| member.name() != "query") {
        if kept.len() > 1 {
            kept.push(',');
        }
        kept.push_str(&serde_json::Value::from(&*member.name()).to_string());
        kept.push(':');
        kept.push_str(member.value);
    }
    kept.push('}');
    edits.push((range_in(text, source), kept.into()));
}

/// The same of a flattened row, which has it under names of its own.
fn remove_flattened_query(text: &str, row: &str, edits: &mut Vec<(Range<usize>, Cow<'static, str>)>) {
    for member in members(row) {
        if matches!(&*member.name(), "__query" | "__source_query") && member.value != "null" {
            edits.push((range_in(text, member.value), "null".into()));
        }
    }
}

fn range_in(text: &str, part: &str) -> Range<usize> {
    let start = offset_in(text, part);
    start..start + part.len()
}

/// The text with ranges replaced; of ranges that overlap (two paths to one value) the first counts.
fn splice(text: &str, mut edits: Vec<(Range<usize>, Cow<'static, str>)>) -> String {
    if edits.is_empty() {
        return text.to_owned();
    }
    edits.sort_by_key(|(range, _)| range.start);
    let added: usize = edits.iter().map(|(_, replacement)| replacement.len()).sum();
    let mut spliced = String::with_capacity(text.len() + added);
    let mut copied = 0;
    for (range, replacement) in edits {
        if range.start < copied {
            continue;
        }
        spliced.push_str(&text[copied..range.start]);
        spliced.push_str(&replacement);
        copied = range.end;
    }
    spliced.push_str(&text[copied..]);
    spliced
}
