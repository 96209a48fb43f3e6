//! `kind = "rest"`

use std::time::Duration;

use model::Entity;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::Properties;
use crate::config::{duration, print, read, size};

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
    /// `[sources.NAME.list.ENTITY]`: lists that are read page by page.
    #[serde(skip_serializing_if = "Lists::is_empty")]
    pub list: Lists,
    /// Whether the source's name may lead to a private address.
    pub private_addresses: bool,
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
            requests_per_second: 50.0,
            concurrency: 8,
            refresh_every: Duration::from_hours(24),
            headers: Properties::new(),
            bearer_token: None,
            basic: None,
            oauth2: None,
            list: Lists::default(),
            private_addresses: false,
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

/// `[sources.NAME.list]`: by what they are of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lists {
    /// `[sources.NAME.list.customer]`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<List>,
    /// `[sources.NAME.list.order]`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<List>,
    /// `[sources.NAME.list.product]`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<List>,
    /// `[sources.NAME.list.interaction]`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interaction: Option<List>,
}

/// `[sources.NAME.list.ENTITY]`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct List {
    /// Path and query, with `{page}` or `{cursor}`, and `{since}`.
    pub request: String,
    /// Where a page has its records; default: the answer is the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Where a page has the cursor for `{cursor}`, or without that the URL of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The number of the first `{page}`.
    #[serde(default = "one")]
    pub first_page: u32,
    /// How long after a round the next one begins; default: `refresh_every` of the source.
    #[serde(default, with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// By how much `{since}` is earlier than the last round.
    #[serde(default = "five_minutes", with = "duration")]
    pub overlap: Duration,
    /// How `{since}` is written.
    #[serde(default = "rfc_3339")]
    pub since_format: String,
    /// A round of more pages is given up.
    #[serde(default = "many")]
    pub max_pages: u32,
}

impl Lists {
    /// Those that there are, each with what it is of.
    pub fn each(&self) -> impl Iterator<Item = (Entity, &List)> {
        let lists = [
            (Entity::Customer, &self.customer),
            (Entity::Order, &self.order),
            (Entity::Product, &self.product),
            (Entity::Interaction, &self.interaction),
        ];
        lists.into_iter().filter_map(|(entity, list)| Some((entity, list.as_ref()?)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.each().next().is_none()
    }
}

fn one() -> u32 {
    1
}

fn five_minutes() -> Duration {
    Duration::from_mins(5)
}

fn rfc_3339() -> String {
    "%Y-%m-%dT%H:%M:%SZ".to_owned()
}

fn many() -> u32 {
    100_000
}
