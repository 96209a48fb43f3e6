//! A configuration before it has types: one tree of the file and of what lies over it, and beside it where every key was
//! said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Table, Value};

use super::problem::{Error, Place};

/// The full way to a key; an index of an array is a key too.
pub(super) type KeyPath = Vec<String>;

#[derive(Debug)]
pub(super) struct Document {
    file: Option<PathBuf>,
    root: Value,
    places: BTreeMap<KeyPath, Place>,
    /// Variables whose text was taken for a TOML value other than a string: path and text.
    guesses: BTreeMap<String, (KeyPath, String)>,
}

impl Document {
    pub(super) fn parse(text: &str, file: Option<&Path>) -> Result<Self, Error> {
        let lines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let place = |offset: usize| match file {
            Some(file) => Place::Line(file.to_owned(), lines.partition_point(|end| *end < offset) + 1),
            None => Place::Nowhere,
        };
        let failed = |error: &toml::de::Error| {
            // Its own display quotes the line, which may hold a secret.
            let at = place(error.span().map_or(0, |span| span.start));
            Error::syntax(at, format!("this is not TOML: {}", error.message()))
        };
        let spanned = DeTable::parse(text).map_err(|error| failed(&error))?;
        let mut places = BTreeMap::new();
        note_places(spanned.get_ref(), &mut Vec::new(), &place, &mut places);
        let root = Value::Table(text.parse::<Table>().map_err(|error| failed(&error))?);
        Ok(Self { file: file.map(Path::to_owned), root, places, guesses: BTreeMap::new() })
    }

    /// The value at `path`.
    pub(super) fn get<S: AsRef<str>>(&self, path: &[S]) -> Option<&Value> {
        path.iter().try_fold(&self.root, |value, key| value.get(key.as_ref()))
    }

    /// The keys of the table at `path`; none if it is no table.
    pub(super) fn keys<S: AsRef<str>>(&self, path: &[S]) -> Vec<&str> {
        match self.get(path) {
            Some(Value::Table(table)) => table.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Where the key at `path` was said, or else the nearest one above it.
    pub(super) fn place<S: AsRef<str>>(&self, path: &[S]) -> Place {
        let path: KeyPath = path.iter().map(|key| key.as_ref().to_owned()).collect();
        let known = (1..=path.len()).rev().find_map(|length| self.places.get(&path[..length]));
        match (known, &self.file) {
            (Some(place), _) => place.clone(),
            (None, Some(file)) => Place::File(file.clone()),
            (None, None) => Place::Nowhere,
        }
    }

    /// Puts a variable's value at `path`: as the TOML value that it is, else as a string. Fails with the path at which
    /// something that is no table is in the way.
    pub(super) fn set(&mut self, path: &[String], variable: &str, raw: &str) -> Result<(), KeyPath> {
        let value = ValueDeserializer::parse(raw).and_then(Value::deserialize).ok();
        if value.as_ref().is_some_and(|value| !value.is_str()) {
            self.guesses.insert(variable.to_owned(), (path.to_vec(), raw.to_owned()));
        }
        let value = value.unwrap_or_else(|| Value::String(raw.to_owned()));
        self.insert(path, Place::Variable(variable.to_owned()), value)
    }

    /// Takes the variable at `place` for a string after all, where it was taken for another TOML value: a password of
    /// digits is one. `false` when that is not so.
    pub(super) fn take_as_text(&mut self, place: &Place) -> bool {
        let Place::Variable(variable) = place else { return false };
        match self.guesses.remove(variable) {
            Some((path, raw)) => self.insert(&path, place.clone(), Value::String(raw)).is_ok(),
            None => false,
        }
    }

    /// Removes the key at `from` and puts `text` at `to`, as said at the same place.
    pub(super) fn replace(&mut self, from: &[String], to: &[String], text: String) {
        let place = self.place(from);
        self.remove(from);
        // All but the last key exists, so that nothing can be in the way.
        let _ = self.insert(to, place, Value::String(text));
    }

    /// Removes the value at `path`, if there is one.
    pub(super) fn remove(&mut self, path: &[String]) {
        let Some((last, above)) = path.split_last() else { return };
        let table = above.iter().try_fold(&mut self.root, |value, key| value.get_mut(key.as_str()));
        if let Some(Value::Table(table)) = table {
            table.remove(last);
        }
    }

    fn insert(&mut self, path: &[String], place: Place, new: Value) -> Result<(), KeyPath> {
        let mut value = &mut self.root;
        for (depth, key) in path.iter().enumerate() {
            let Value::Table(table) = value else { return Err(path[..depth].to_vec()) };
            value = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
        }
        *value = new;
        self.places.retain(|known, _| !known.starts_with(path));
        self.places.insert(path.to_vec(), place);
        Ok(())
    }
}

fn note_places(
    table: &DeTable<'_>,
    path: &mut KeyPath,
    place: &dyn Fn(usize) -> Place,
    places: &mut BTreeMap<KeyPath, Place>,
) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        places.insert(path.clone(), place(key.span().start));
        if let DeValue::Table(below) = value.get_ref() {
            note_places(below, path, place, places);
        }
        path.pop();
    }
}
