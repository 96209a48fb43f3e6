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
    flattened_prefix: String,
}

impl Censor {
    /// `paths` are the mapped credential columns, of all mappings of a topic.
    pub(super) fn new(paths: Vec<String>, credentials: Credentials, placeholder: &str, flattened_prefix: &str) -> Self {
        let paths = if matches!(credentials, Credentials::Keep) { Vec::new() } else { paths };
        Self { paths, credentials, placeholder: placeholder.to_owned(), flattened_prefix: flattened_prefix.to_owned() }
    }

    /// The text as it may be kept. `sections` are pieces of `text`, all of a kind, repeated ones included. `known` is the
    /// row that was mapped, with what its credential became.
    pub(super) fn apply<'a>(
        &'a self,
        text: &'a str,
        sections: &[Section<'a>],
        known: Option<(&'a str, &str)>,
    ) -> String {
        let mut edits = Edits { text, censor: self, ranges: Vec::new(), last: None };
        if let (Some((row, digest)), [path]) = (known, &*self.paths) {
            let mapped = members(row).filter(|member| member.name() == *path).last();
            let mapped = mapped.filter(|member| member.value.starts_with('"'));
            edits.last = mapped.map(|member| (member.value, format!("\"{digest}\"")));
        }
        for section in sections {
            match section {
                Section::Row(row) => edits.row(row, &self.paths),
                Section::Source(source) => edits.source(source),
            }
        }
        edits.splice()
    }
}

/// What is to be replaced in a text.
struct Edits<'a> {
    text: &'a str,
    censor: &'a Censor,
    ranges: Vec<(Range<usize>, Cow<'static, str>)>,
    /// The credential replaced last: `before` and `after` mostly have the same.
    last: Option<(&'a str, String)>,
}

impl<'a> Edits<'a> {
    /// Replaces columns, under their names or, where a name is dotted, within nested objects.
    fn row(&mut self, row: &'a str, paths: &[String]) {
        for member in members(row) {
            let name = member.name();
            // What flattened rows call the statement of the source.
            let added = name.strip_prefix(&*self.censor.flattened_prefix);
            if matches!(added, Some("query" | "source_query")) && member.value != "null" {
                self.replace(member.value, "null".into());
            }
            for path in paths {
                if name == *path {
                    self.credential(member.value);
                } else if let Some((head, rest)) = path.split_once('.')
                    && name == head
                    && is_object(member.value)
                {
                    self.row(member.value, &[rest.to_owned()]);
                }
            }
        }
    }

    fn credential(&mut self, raw: &'a str) {
        if let Some((known, replacement)) = &self.last
            && *known == raw
        {
            let replacement = replacement.clone();
            return self.replace(raw, replacement.into());
        }
        // Validated text: a value that cannot be read cannot be told apart from a credential, so it goes.
        let Ok(field) = Field::from_raw(raw, Some(&self.censor.placeholder)) else {
            return self.replace(raw, "null".into());
        };
        let Some(clear) = field.text() else { return };
        let Some(replacement) = self.censor.credentials.replace(&clear) else {
            return self.replace(raw, "null".into());
        };
        let replacement = format!("\"{replacement}\"");
        self.last = Some((raw, replacement.clone()));
        self.replace(raw, replacement.into());
    }

    /// Rebuilds `source` without `query`, the statement that the source ran, where there is one.
    fn source(&mut self, source: &'a str) {
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
        self.replace(source, kept.into());
    }

    fn replace(&mut self, part: &str, replacement: Cow<'static, str>) {
        let start = offset_in(self.text, part);
        self.ranges.push((start..start + part.len(), replacement));
    }

    /// The text with its ranges replaced; of ranges that overlap (two paths to one value) the first counts.
    fn splice(mut self) -> String {
        if self.ranges.is_empty() {
            return self.text.to_owned();
        }
        self.ranges.sort_by_key(|(range, _)| range.start);
        let added: usize = self.ranges.iter().map(|(_, replacement)| replacement.len()).sum();
        let mut spliced = String::with_capacity(self.text.len() + added);
        let mut copied = 0;
        for (range, replacement) in self.ranges {
            if range.start < copied {
                continue;
            }
            spliced.push_str(&self.text[copied..range.start]);
            spliced.push_str(&replacement);
            copied = range.end;
        }
        spliced.push_str(&self.text[copied..]);
        spliced
    }
}
