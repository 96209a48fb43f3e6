//! `kind = "rest"`

use std::time::Duration;

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
