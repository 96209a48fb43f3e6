//! `[sources.NAME]`: what every source may say, and what each kind of them may.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use model::mapping::{CustomerMapping, InteractionMapping, Mapping, OrderMapping, ProductMapping};
use model::{Credentials, InstallationKey};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{duration, print, read, size};

/// One configured source.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// What it has in common with other kinds.
    #[serde(flatten)]
    pub settings: SourceSettings,
    /// What it is.
    #[serde(flatten)]
    pub kind: SourceKind,
}

/// What a source is, with the keys that only this kind has.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its keys")]
pub enum SourceKind {
    Kafka(Kafka),
    Csv(Csv),
    Rest(Rest),
}

/// The keys that every kind of source has.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceSettings {
    /// How long its records stay in staging. Once loaded always there: see [`Source::ttl`].
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// What becomes of its passwords.
    pub credentials: CredentialPolicy,
    /// The zone of times that name none; default UTC.
    #[serde(deserialize_with = "read::time_zone", serialize_with = "print::time_zone")]
    pub timezone: Tz,
    /// `[sources.NAME.customer]`
    pub customer: Option<CustomerMapping>,
    /// `[sources.NAME.order]`
    pub order: Option<OrderMapping>,
    /// `[sources.NAME.product]`
    pub product: Option<ProductMapping>,
    /// `[sources.NAME.interaction]`
    pub interaction: Option<InteractionMapping>,
}

/// What becomes of a source's passwords before anything is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialPolicy {
    /// Replaced by a keyed digest: equality stays visible, the password does not.
    #[default]
    Digest,
    /// Removed.
    Drop,
    /// Kept in clear. Warned about.
    Keep,
}

impl CredentialPolicy {
    /// The policy under an installation's key.
    pub fn under(self, key: &InstallationKey) -> Credentials {
        match self {
            Self::Digest => Credentials::digest(key),
            Self::Drop => Credentials::Drop,
            Self::Keep => Credentials::Keep,
        }
    }
}

impl Source {
    /// How long its records stay in staging.
    pub fn ttl(&self) -> Duration {
        self.settings.ttl.unwrap_or(self.kind.default_ttl(Duration::from_hours(25)))
    }

    /// Its mappings.
    pub fn mappings(&self) -> Vec<Mapping> {
        let settings = self.settings.clone();
        let mappings = [
            settings.customer.map(Mapping::Customer),
            settings.order.map(Mapping::Order),
            settings.product.map(Mapping::Product),
            settings.interaction.map(Mapping::Interaction),
        ];
        mappings.into_iter().flatten().collect()
    }
}

impl SourceKind {
    /// The word for it in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Csv(_) => "csv",
            Self::Rest(_) => "rest",
        }
    }

    /// Kafka can replay a week; what else there is follows `staging.ttl`.
    pub(super) fn default_ttl(&self, staging: Duration) -> Duration {
        if matches!(self, Self::Kafka(_)) { Duration::from_hours(7 * 24) } else { staging }
    }
}

/// Names and values as they are passed on. They may be secrets, all of them.
pub type Properties = BTreeMap<String, SecretString>;

/// `kind = "kafka"`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kafka {
    /// `host:port`, several with commas between them.
    pub brokers: String,
    /// Topics; one that begins with `^` is a pattern. Mappings may name others.
    #[serde(default)]
    pub topics: Vec<String>,
    /// The consumer group.
    #[serde(default = "default_group")]
    pub group_id: String,
    /// What a message looks like.
    #[serde(default)]
    pub format: KafkaFormat,
    /// Where the schemas of `format = "avro"` are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<String>,
    /// Passed to librdkafka as they are.
    #[serde(default, deserialize_with = "read::properties", serialize_with = "print::properties")]
    pub properties: Properties,
    /// The longest record; longer ones become dead letters.
    #[serde(default = "one_mebibyte", with = "size")]
    pub max_record_bytes: usize,
    /// The deepest nesting of JSON; deeper records become dead letters.
    #[serde(default = "default_depth")]
    pub max_depth: usize,
    /// What Debezium writes in place of a value that it does not have.
    #[serde(default = "default_placeholder")]
    pub unavailable_placeholder: String,
}

/// What a Kafka message looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaFormat {
    /// Debezium's envelope in any of its shapes, found out per message.
    #[default]
    Debezium,
    /// The row itself as JSON.
    Json,
    /// Avro with a schema registry.
    Avro,
}

/// `kind = "csv"`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Csv {
    /// Where the files are dropped.
    pub directory: PathBuf,
    /// Which of them: `*`, `?` and `[...]` in the name.
    pub pattern: String,
    /// Whether a file holds everybody, so that who is missing from the newest one has left.
    pub full_export: bool,
    /// A regular expression whose first group is the date in a file's name; default: the first `YYYY-MM-DD` or `YYYYMMDD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of_pattern: Option<String>,
    /// With `max_bad_percent`: a file with more bad rows than both is refused.
    pub max_bad_rows: u64,
    /// See `max_bad_rows`.
    pub max_bad_percent: f64,
    /// A full export that lost more of its rows than this (and more than 100) is refused.
    pub max_drop_percent: f64,
    /// Values that stand for null.
    pub null_values: Vec<String>,
    /// The delimiter; absent: found out from the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// The encoding by its WHATWG label; absent: UTF-8, or what a byte-order mark says. Never guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// How long a file must have been still before it is read.
    #[serde(with = "duration")]
    pub settle: Duration,
    /// Names that are not files yet, or never.
    pub ignore: Vec<String>,
    /// The suffix of a second file that says that the first is whole (`.done`); with it, `settle` does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// How often to look, should the file system not tell.
    #[serde(with = "duration")]
    pub scan_every: Duration,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            pattern: "*.csv".to_owned(),
            full_export: false,
            as_of_pattern: None,
            max_bad_rows: 100,
            max_bad_percent: 10.0,
            max_drop_percent: 50.0,
            null_values: vec!["\\N".to_owned()],
            delimiter: None,
            encoding: None,
            settle: Duration::from_secs(2),
            ignore: ["*.tmp", "*.part", ".*"].map(str::to_owned).into(),
            marker: None,
            scan_every: Duration::from_secs(30),
        }
    }
}

/// `kind = "rest"`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Rest {
    /// Scheme, host and what stands before every request's path.
    pub base_url: String,
    /// The most requests a second.
    pub requests_per_second: f64,
    /// The most requests at a time.
    pub concurrency: usize,
    /// How old an answer may become before the next question.
    #[serde(with = "duration")]
    pub refresh_every: Duration,
    /// Sent with every request.
    #[serde(deserialize_with = "read::properties", serialize_with = "print::secrets")]
    pub headers: Properties,
    /// `Authorization: Bearer ...`
    #[serde(serialize_with = "print::secret", skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<SecretString>,
    /// `Authorization: Basic ...`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// Client credentials for a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    /// For the connection.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Between two pieces of an answer.
    #[serde(with = "duration")]
    pub read_timeout: Duration,
    /// For the whole request.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// The longest answer.
    #[serde(with = "size")]
    pub max_body_bytes: usize,
    /// So many failures in a row open the breaker...
    pub breaker_failures: u32,
    /// ...for so long.
    #[serde(with = "duration")]
    pub breaker_cooldown: Duration,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            requests_per_second: 10.0,
            concurrency: 4,
            refresh_every: Duration::from_hours(24),
            headers: Properties::new(),
            bearer_token: None,
            basic: None,
            oauth2: None,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(15),
            timeout: Duration::from_secs(30),
            max_body_bytes: 8 << 20,
            breaker_failures: 5,
            breaker_cooldown: Duration::from_secs(30),
        }
    }
}

/// `basic = { user = "...", password = "..." }`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Basic {
    /// The user.
    pub user: String,
    /// The password.
    #[serde(serialize_with = "print::secret_value")]
    pub password: SecretString,
}

/// `oauth2 = { token_url = "...", client_id = "...", client_secret = "..." }`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OAuth2 {
    /// Where tokens are had.
    pub token_url: String,
    /// Who asks.
    pub client_id: String,
    /// The secret of who asks.
    #[serde(serialize_with = "print::secret_value")]
    pub client_secret: SecretString,
    /// What for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

fn default_group() -> String {
    "c360".to_owned()
}

fn one_mebibyte() -> usize {
    1 << 20
}

fn default_depth() -> usize {
    64
}

fn default_placeholder() -> String {
    "__debezium_unavailable_value".to_owned()
}
