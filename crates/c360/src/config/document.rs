//! A configuration before it has types: one tree of the file and of what lies over it, which remembers where everything
//! was said.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Error, Place};

/// The tree. Places are spans of bytes: those within the text are in the file, the ones after it are numbers of overrides.
#[derive(Debug)]
pub(super) struct Document {
    file: Option<PathBuf>,
    /// Byte offset of every line's beginning.
    lines: Vec<usize>,
    end: usize,
    root: Spanned<DeValue<'static>>,
    overrides: Vec<Override>,
}

/// A value from the environment.
#[derive(Debug)]
struct Override {
    variable: String,
    raw: String,
    path: Vec<String>,
    /// Whether the raw text has been taken for a TOML value.
    parsed: bool,
}

impl Document {
    pub(super) fn parse(text: &str, file: Option<&Path>) -> Result<Self, Error> {
        let mut document = Self {
            file: file.map(Path::to_owned),
            lines: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect(),
            end: text.len() + 1,
            root: Spanned::new(0..0, DeValue::Table(DeTable::new())),
            overrides: Vec::new(),
        };
        match DeTable::parse(text) {
            Ok(mut table) => {
                table.get_mut().make_owned();
                // `make_owned` leaves nothing borrowed, but not in the type: a copy of every part does.
                document.root = Spanned::new(table.span(), DeValue::Table(owned_table(table.into_inner())));
                Ok(document)
            }
            Err(error) => {
                let place = document.place_of(error.span());
                Err(Error::syntax(place, format!("this is not TOML: {}", error.message())))
            }
        }
    }

    /// The value at `path`.
    pub(super) fn get<S: AsRef<str>>(&self, path: &[S]) -> Option<&Spanned<DeValue<'static>>> {
        path.iter().try_fold(&self.root, |value, key| child(value, key.as_ref()).map(|(_, value)| value))
    }

    /// The keys of the table at `path`; none if it is no table.
    pub(super) fn keys<S: AsRef<str>>(&self, path: &[S]) -> Vec<&str> {
        match self.get(path).map(Spanned::get_ref) {
            Some(DeValue::Table(table)) => table.keys().map(|key| key.get_ref().as_ref()).collect(),
            _ => Vec::new(),
        }
    }

    /// Where the key at `path` was said, or the nearest table above it.
    pub(super) fn place<S: AsRef<str>>(&self, path: &[S]) -> Place {
        let mut value = &self.root;
        let mut span = None;
        for key in path {
            let Some((at, below)) = child(value, key.as_ref()) else { break };
            (span, value) = (Some(at), below);
        }
        self.place_of(span)
    }

    fn place_of(&self, span: Option<Range<usize>>) -> Place {
        match (span, &self.file) {
            (Some(span), _) if span.start >= self.end => {
                Place::Variable(self.overrides[span.start - self.end].variable.clone())
            }
            (Some(span), Some(file)) => {
                Place::Line(file.clone(), self.lines.partition_point(|line| *line <= span.start))
            }
            (None, Some(file)) => Place::File(file.clone()),
            (_, None) => Place::Nowhere,
        }
    }

    /// Puts a variable's value at `path`: as the TOML value that it is, else as a string. Fails with the path at which
    /// something that is no table is in the way.
    pub(super) fn set(&mut self, path: &[String], variable: &str, raw: &str) -> Result<(), Vec<String>> {
        let span = self.end + self.overrides.len()..self.end + self.overrides.len() + 1;
        let value = DeValue::parse(raw).ok().map(|value| owned(value.into_inner(), Some(&span)));
        let over = Override {
            variable: variable.to_owned(),
            raw: raw.to_owned(),
            path: path.to_vec(),
            parsed: value.is_some(),
        };
        self.overrides.push(over);
        let value = value.unwrap_or_else(|| DeValue::String(Cow::Owned(raw.to_owned())));
        self.insert(path, &span, value)
    }

    /// Replaces the value at `path` by a string which counts as said at the same place.
    pub(super) fn replace(&mut self, path: &[String], by: &[String], text: String) {
        let span = self.get(path).map_or(0..0, Spanned::span);
        self.remove(path);
        // The path exists but for its last key, so that nothing can be in the way.
        let _ = self.insert(by, &span, DeValue::String(Cow::Owned(text)));
    }

    /// Takes the variable behind `place` for a string after all, where it was taken for another TOML value. `false` when
    /// that is not so.
    pub(super) fn take_as_text(&mut self, place: &Place) -> bool {
        let Place::Variable(name) = place else { return false };
        let at = self.overrides.iter().position(|over| over.variable == *name && over.parsed);
        let Some(at) = at else { return false };
        self.overrides[at].parsed = false;
        let (path, raw) = (self.overrides[at].path.clone(), self.overrides[at].raw.clone());
        self.replace(&path.clone(), &path, raw);
        true
    }

    /// Removes the value at `path`, if there is one.
    pub(super) fn remove(&mut self, path: &[String]) {
        let Some((last, above)) = path.split_last() else { return };
        let mut value = &mut self.root;
        for key in above {
            let DeValue::Table(table) = value.get_mut() else { return };
            let Some((_, below)) = table.iter_mut().find(|(known, _)| known.get_ref() == key) else { return };
            value = below;
        }
        if let DeValue::Table(table) = value.get_mut() {
            table.retain(|key, _| key.get_ref() != last);
        }
    }

    fn insert(&mut self, path: &[String], span: &Range<usize>, new: DeValue<'static>) -> Result<(), Vec<String>> {
        let mut value = &mut self.root;
        for (depth, key) in path.iter().enumerate() {
            let DeValue::Table(table) = value.get_mut() else { return Err(path[..depth].to_vec()) };
            let key = Spanned::new(span.clone(), Cow::Owned(key.clone()));
            let below = table.entry(key).or_insert_with(|| Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
            value = below;
        }
        *value = Spanned::new(span.clone(), new);
        Ok(())
    }
}

/// The entry of a table or of an array, with the place of its key.
fn child<'a>(
    value: &'a Spanned<DeValue<'static>>,
    key: &str,
) -> Option<(Range<usize>, &'a Spanned<DeValue<'static>>)> {
    match value.get_ref() {
        DeValue::Table(table) => {
            let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
            // Of a value from the environment the place is the variable, even where the file has named the key.
            let span = if value.span().start > name.span().start { value.span() } else { name.span() };
            Some((span, value))
        }
        DeValue::Array(items) => {
            let item = items.get(key.parse::<usize>().ok()?)?;
            Some((item.span(), item))
        }
        _ => None,
    }
}

/// A copy that borrows nothing, at `span` if one is given.
fn owned(value: DeValue<'_>, span: Option<&Range<usize>>) -> DeValue<'static> {
    let at = |old: Range<usize>| span.cloned().unwrap_or(old);
    match value {
        DeValue::String(text) => DeValue::String(Cow::Owned(text.into_owned())),
        DeValue::Boolean(truth) => DeValue::Boolean(truth),
        DeValue::Datetime(time) => DeValue::Datetime(time),
        DeValue::Array(items) => {
            let items = items.into_iter();
            let items = items.map(|item| (item.span(), item.into_inner()));
            DeValue::Array(items.map(|(old, item)| Spanned::new(at(old), owned(item, span))).collect())
        }
        DeValue::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| {
                let key = Spanned::new(at(key.span()), Cow::Owned(key.into_inner().into_owned()));
                let value = Spanned::new(at(value.span()), owned(value.into_inner(), span));
                (key, value)
            });
            DeValue::Table(entries.collect())
        }
        DeValue::Integer(_) | DeValue::Float(_) => number(value),
    }
}
