//! `C360__SECTION__KEY` and `DATABASE_URL`.

use super::document::{Document, KeyPath};
use super::keys;
use super::problem::{Place, Report};

const PREFIX: &str = "C360__";

/// The variables that configure c360, of a process or of a test.
#[derive(Clone, Default)]
pub struct Environment {
    /// In order of name, so that two programs with one environment agree.
    variables: Vec<(String, String)>,
    database_url: Option<String>,
    /// `DATABASE_URL` is there and says nothing: most likely of a variable that was to be filled in.
    pub(super) has_empty_url: bool,
}

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect()
    }

    /// Whether nothing here configures anything.
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.database_url.is_none()
    }

    /// Lays the variables over the file.
    pub(super) fn apply(&self, document: &mut Document, report: &mut Report) {
        if let Some(url) = &self.database_url {
            set(document, &keys::path(&["database", "url"]), "DATABASE_URL", url, report);
        }
        for (variable, value) in &self.variables {
            let words: Vec<&str> = variable[PREFIX.len()..].split("__").collect();
            if words.iter().any(|word| word.is_empty()) {
                let message = "is not C360__SECTION__KEY: a name between two double underscores is missing";
                report.add(Place::Variable(variable.clone()), "", message);
                continue;
            }
            set(document, &resolve(document, &words), variable, value, report);
        }
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            if name.starts_with(PREFIX) {
                environment.variables.push((name, value));
            } else if name == "DATABASE_URL" {
                environment.has_empty_url = value.is_empty();
                environment.database_url = Some(value).filter(|url| !url.is_empty());
            }
        }
        environment.variables.sort();
        environment
    }
}

fn set(document: &mut Document, path: &[String], variable: &str, value: &str, report: &mut Report) {
    // `x` and `x_file` are one thing: who sets one of them from here does not mean the other one of the file.
    if let Some((last, above)) = path.split_last() {
        let twin = last.strip_suffix("_file").map_or_else(|| format!("{last}_file"), str::to_owned);
        let twin: KeyPath = above.iter().cloned().chain([twin]).collect();
        if keys::is_secret(path) || keys::is_secret(&twin) {
            document.remove(&twin);
        }
    }
    if let Err(in_the_way) = document.set(path, variable, value) {
        let message = format!("cannot be set: `{}` is a value, not a section", in_the_way.join("."));
        report.add(Place::Variable(variable.to_owned()), path.join("."), message);
    }
}

/// The keys that the words of a variable mean: as the file or the schema spells them, whatever the case, else lower case.
fn resolve(document: &Document, words: &[&str]) -> KeyPath {
    let mut path = KeyPath::new();
    for word in words {
        let said = document.keys(&path);
        let known = keys::known(document, &path);
        let spelled = said.into_iter().chain(known.iter().map(String::as_str));
        let key = spelled.into_iter().find(|key| key.eq_ignore_ascii_case(word)).map(str::to_owned);
        path.push(key.unwrap_or_else(|| spell(&path, word)));
    }
    path
}

/// Names of variables have no dots, and properties of librdkafka no underscores.
fn spell(above: &[String], word: &str) -> String {
    let word = word.to_lowercase();
    if above.last().is_none_or(|key| key != "properties") {
        return word;
    }
    match word.strip_suffix("_file") {
        Some(name) => format!("{}_file", name.replace('_', ".")),
        None => word.replace('_', "."),
    }
}
