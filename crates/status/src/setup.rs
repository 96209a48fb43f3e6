//! What is configured, as far as the status is about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What is configured.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The sources, by name.
    pub sources: BTreeMap<String, Expected>,
    /// The fingerprint of the rules by which profiles are to be made.
    pub rules: String,
    /// Where metrics are to be had.
    pub listen: SocketAddr,
}

/// What is expected of a source.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What it is.
    pub kind: Kind,
    /// How long what is there may wait to be landed; of a CSV source, how old its newest file may be. `None`: for ever.
    pub late_after: Option<Duration>,
    /// How long its records stay in staging.
    pub ttl: Duration,
}

/// What a source is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Topics of Kafka.
    Kafka,
    /// Files.
    Csv {
        /// Where they are dropped.
        directory: PathBuf,
        /// How often it is looked there, whatever else is noticed.
        scan_every: Duration,
    },
    /// A REST API.
    Rest,
}

impl Kind {
    /// The word for it in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Csv { .. } => "csv",
            Self::Rest => "rest",
        }
    }
}
