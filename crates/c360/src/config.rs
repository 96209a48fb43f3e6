//! The configuration: `c360.toml`, the environment over it, and everything that can be said against them before anything
//! starts.
//!
//! * Precedence: `C360__SECTION__KEY` variables, then `DATABASE_URL` (for `database.url`), then the file, then defaults.
//! * Unknown keys are errors. All problems are reported at once, each with its key, its place (file and line, or variable)
//!   and what is meant probably.
//! * A secret `x` may come from a file by `x_file`. Secrets are never printed, whole URLs with passwords included.
//!
//! A record's way through the modules: `document` (text and variables to one tree that remembers places), `secrets`
//! (`x_file` to `x`), `read` (tree to typed sections), `check` (what types cannot say).

mod check;
mod document;
mod duration;
mod environment;
mod keys;
mod print;
mod problem;
mod read;
mod secrets;
mod sections;
mod size;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::exit::Exit;
use document::Document;
use problem::{Report, suggestion};

pub use environment::Environment;
pub use problem::{Error, Place, Problem};
pub use sections::{
    Database, Erasure, ErasureOrders, Http, Matching, Objects, Retention, Security, Staging, Survivorship,
};
pub use source::{
    Basic, CredentialPolicy, Csv, Kafka, KafkaFormat, List, Lists, OAuth2, Properties, Rest, Source, SourceKind,
    SourceSettings,
};

/// The file that is read when nobody names one.
pub const DEFAULT_FILE: &str = "c360.toml";

/// Everything that is configured, defaults filled in and checked.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Where this installation keeps its own files: the installation key, the embedded database.
    pub data_dir: PathBuf,
    /// `[database]`
    pub database: Database,
    /// `[http]`
    pub http: Http,
    /// `[security]`
    pub security: Security,
    /// `[staging]`
    pub staging: Staging,
    /// `[retention]`
    pub retention: Retention,
    /// `[sources.NAME]`, by name.
    pub sources: BTreeMap<String, Source>,
    /// `[survivorship]`
    pub survivorship: Survivorship,
    /// `[matching]`
    pub matching: Matching,
    /// `[objects]`
    pub objects: Objects,
    /// `[erasure]`
    pub erasure: Erasure,
    /// What is allowed but probably not meant; for the log, once, at start.
    #[serde(skip)]
    pub warnings: Vec<String>,
    /// The file that was read, if any.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads `file` (or `./c360.toml`) with this environment over it.
    ///
    /// A file that was named must exist. Without a name and without `./c360.toml` the environment alone must say where
    /// the database is: otherwise this is most likely the wrong directory.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, Some(path), environment),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => {
                if environment.is_empty() {
                    return Err(Error::no_file());
                }
                Self::parse("", None, environment)
            }
            Err(error) => Err(Error::unreadable(path, &error)),
        }
    }

    /// Reads a configuration from `text`; `file` is what its messages call it.
    pub fn parse(text: &str, file: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        let mut report = Report::default();
        let mut document = Document::parse(text, file)?;
        environment.apply(&mut document, &mut report);
        secrets::read_files(&mut document, &mut report);
        let mut config = read::config(&mut document, &mut report);
        config.file = file.map(Path::to_owned);
        config.warnings = check::check(&config, &document, &mut report);
        if environment.has_empty_url && config.database.url.is_none() {
            let own =
                "DATABASE_URL is empty, and database.url is not set: c360 keeps its data in a Postgres of its own";
            config.warnings.push(format!("{own}, in {}", config.embedded_directory().display()));
        }
        report.finish(config)
    }

    /// The source of this name.
    ///
    /// # Errors
    /// [`Exit::NotFound`], with the names that there are.
    pub fn source(&self, name: &str) -> anyhow::Result<&Source> {
        let known = || self.sources.keys().map(String::as_str).collect::<Vec<_>>();
        let unknown = || anyhow::anyhow!("no source is called {name}{}", suggestion(name, &known()));
        self.sources.get(name).ok_or_else(|| Exit::NotFound.because(unknown()))
    }

    /// The installation key's file: `security.key_file`, or `installation.key` under the data directory.
    pub fn key_file(&self) -> PathBuf {
        self.security.key_file.clone().unwrap_or_else(|| self.data_dir.join("installation.key"))
    }

    /// The embedded cluster's directory, for when no database is configured.
    pub fn embedded_directory(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// What the status is told of it.
    ///
    /// # Errors
    /// As [`Matching::guards`].
    pub fn setup(&self) -> anyhow::Result<status::Setup> {
        Ok(status::Setup {
            sources: self.sources.iter().map(|(name, source)| (name.clone(), source.expected())).collect(),
            rules: model::fingerprint(&self.survivorship.rules(), &self.matching.guards()?),
            listen: self.http.listen,
        })
    }

    /// Where processes note which member of their Kafka groups each is.
    pub fn members_directory(&self) -> PathBuf {
        self.data_dir.join("members")
    }

    /// The configuration in force as TOML, without its secrets.
    pub fn to_redacted_toml(&self) -> String {
        print::redacted_toml(self)
    }
}
