//! What is wrong with a configuration, for people to read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used: exit code 78. It names every problem found, not only the first.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    /// What is wrong, in order of place.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was said.
    pub place: Place,
    /// The full dotted key; empty when it is not about one.
    pub key: String,
    /// What is wrong with it. Never a secret's value.
    pub message: String,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the file, from 1.
    Line(PathBuf, usize),
    /// The file as a whole.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// Nowhere: it is missing, and there is no file.
    Nowhere,
}

impl Error {
    pub(super) fn no_file() -> Self {
        let message = "there is no c360.toml in this directory and nothing in the environment; \
                       name a file with --config FILE or C360_CONFIG, or start from the c360.toml that comes with c360";
        Self { problems: vec![Problem { place: Place::Nowhere, key: String::new(), message: message.to_owned() }] }
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let message = format!("cannot be read: {error}");
        Self { problems: vec![Problem { place: Place::File(path.to_owned()), key: String::new(), message }] }
    }

    pub(super) fn syntax(place: Place, message: String) -> Self {
        Self { problems: vec![Problem { place, key: String::new(), message }] }
    }
}

/// The problems found so far: everything goes on after one, so that an operator learns of all of them at once.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn add(&mut self, place: Place, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { place, key: key.into(), message: message.into() });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.problems.len()
    }

    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Error> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        self.problems.sort();
        self.problems.dedup();
        Err(Error { problems: self.problems })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the configuration cannot be used:")?,
            problems => write!(f, "the configuration cannot be used, for {problems} reasons:")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line(path, line) => write!(f, "{}:{line}: ", path.display())?,
            Place::File(path) => write!(f, "{}: ", path.display())?,
            Place::Variable(name) => write!(f, "environment variable {name}: ")?,
            Place::Nowhere => {}
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// " (did you mean `x`? ...)" for a word that is none of `known`: the nearest one, and all of them when they are few.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    let word = word.to_lowercase();
    let nearest = known
        .iter()
        .map(|candidate| (likeness(&word, &candidate.to_lowercase()), *candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let mut hints = Vec::new();
    if let Some((likeness, nearest)) = nearest
        && (likeness > 0.65 || known.len() > 12)
    {
        hints.push(format!("did you mean `{nearest}`?"));
    }
    if !known.is_empty() && known.len() <= 24 {
        let mut known = known.to_vec();
        known.sort_unstable();
        hints.push(format!("known here: {}", known.join(", ")));
    }
    if hints.is_empty() { String::new() } else { format!(" ({})", hints.join(" ")) }
}

/// From 0 to 1. The one measure is good at endings that differ, the other one at letters that changed places.
fn likeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b).max(strsim::normalized_damerau_levenshtein(a, b))
}
