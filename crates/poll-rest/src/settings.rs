//! What a REST source is told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use model::mapping::{Context, CustomerMapping, InteractionMapping, Mapping, OrderMapping, ProductMapping};
use model::{CredentialKey, Entity, Limits};
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
    /// Whether the names of the source and of its token endpoint may lead to private addresses. Names that are inside by
    /// themselves (`localhost`, a name without a dot, an address) need no leave.
    pub private_addresses: bool,
    /// Most requests per second, of all processes together.
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
    pub customer: Option<CustomerMapping>,
    /// What to ask about a customer's orders, with `{external_id}` or `{email}`.
    pub order: Option<OrderMapping>,
    /// What to ask about a product, with `{product_id}`.
    pub product: Option<ProductMapping>,
    /// What to ask about a customer's interactions, with `{external_id}` or `{email}`.
    pub interaction: Option<InteractionMapping>,
    /// Lists that are read page by page.
    pub lists: Vec<List>,
    /// What mapping needs beside the answer.
    pub context: Context,
    /// By which it is remembered what answers were like.
    pub fingerprint_key: CredentialKey,
    /// Caps on one record of an answer.
    pub limits: Limits,
    /// How long records stay in staging.
    pub ttl: Duration,
}

/// A list that the source has of all its customers, orders, products or interactions.
#[derive(Clone)]
pub struct List {
    /// What it is of: its records are read by the mapping of that name.
    pub entity: Entity,
    /// What to ask for, with `{page}` or `{cursor}`, and `{since}`.
    pub request: String,
    /// Where a page has its records; `None` if it is them.
    pub records: Option<String>,
    /// Where a page has the cursor for `{cursor}` or, without that, the URL of the next page.
    pub next: Option<String>,
    /// The number of the first page.
    pub first_page: u32,
    /// How long after a round the next one begins.
    pub every: Duration,
    /// By how much `{since}` is earlier than the beginning of the last round.
    pub overlap: Duration,
    /// How `{since}` is written, as `strftime` has it.
    pub since_format: String,
    /// A round of more pages than this is given up.
    pub max_pages: u32,
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
    /// A token had for client credentials.
    OAuth2(OAuth2),
}

/// Client credentials and where a token is had for them.
#[derive(Clone, Debug)]
pub struct OAuth2 {
    /// Where. May hold a key in its query, so it is a secret.
    pub token_url: SecretString,
    /// Who asks.
    pub client_id: String,
    /// The secret of who asks.
    pub client_secret: SecretString,
    /// What for.
    pub scope: Option<String>,
}

impl Settings {
    /// All mappings.
    pub(crate) fn mappings(&self) -> Vec<Mapping> {
        let mappings = [
            self.customer.clone().map(Mapping::Customer),
            self.order.clone().map(Mapping::Order),
            self.product.clone().map(Mapping::Product),
            self.interaction.clone().map(Mapping::Interaction),
        ];
        mappings.into_iter().flatten().collect()
    }
}

impl fmt::Debug for Settings {
    /// Only the name: the requests' queries can hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("source", &self.source).finish_non_exhaustive()
    }
}
