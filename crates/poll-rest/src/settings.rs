//! What a REST source is told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use model::Limits;
use model::mapping::{Context, CustomerMapping, InteractionMapping, OrderMapping, ProductMapping};
use secrecy::SecretString;

/// A REST source, as configured.
#[derive(Clone)]
pub struct Settings {
    /// The source's name.
    pub source: String,
    /// What stands before every request's path. May hold a user name and a password, so it is a secret.
    pub base_url: SecretString,
    /// Headers of every request.
    pub headers: BTreeMap<String, SecretString>,
    /// How we say who we are.
    pub auth: Option<Auth>,
    /// Most requests per second of this process.
    pub requests_per_second: f64,
    /// Most requests at a time.
    pub concurrency: usize,
    /// How long an answer is good for.
    pub refresh_every: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the source may be silent within a request.
    pub read_timeout: Duration,
    /// How long a request may take in all.
    pub timeout: Duration,
    /// Longest answer.
    pub max_body_bytes: usize,
    /// So many failed requests in a row open the breaker.
    pub breaker_failures: u32,
    /// How long the breaker stays open before one request is tried.
    pub breaker_cooldown: Duration,
    /// What to ask about a customer, with `{email}`.
    pub customer: CustomerMapping,
    /// What to ask about a customer's orders, with `{external_id}` or `{email}`.
    pub order: Option<OrderMapping>,
    /// What to ask about a product, with `{product_id}`.
    pub product: Option<ProductMapping>,
    /// What to ask about a customer's interactions, with `{external_id}` or `{email}`.
    pub interaction: Option<InteractionMapping>,
    /// What mapping needs beside the answer.
    pub context: Context,
    /// Caps on one record of an answer.
    pub limits: Limits,
    /// How long records stay in staging.
    pub ttl: Duration,
}

/// How we say who we are.
#[derive(Clone, Debug)]
pub enum Auth {
    /// `Authorization: Bearer`.
    Bearer(SecretString),
    /// `Authorization: Basic`.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: SecretString,
    },
}

impl fmt::Debug for Settings {
    /// Only the name: the requests' queries can hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("source", &self.source).finish_non_exhaustive()
    }
}
