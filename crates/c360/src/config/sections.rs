//! The sections other than the sources.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use model::Guards;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use super::{duration, print};

/// `[database]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Database {
    /// `postgres://user@host:port/database?...`; absent: an embedded cluster in [`Config::embedded_directory`].
    ///
    /// [`Config::embedded_directory`]: super::Config::embedded_directory
    #[serde(serialize_with = "print::secret_url", skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretString>,
    /// The password, for when the URL holds none.
    #[serde(serialize_with = "print::secret", skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretString>,
}

impl Database {
    /// What sqlx connects with: the URL, and `password` where the URL has none. `None` without a URL.
    pub fn connect_options(&self) -> Result<Option<PgConnectOptions>, sqlx::Error> {
        let Some(url) = &self.url else { return Ok(None) };
        let options = PgConnectOptions::from_str(&with_host(url.expose_secret()))?;
        let has_password = print::url_password(url.expose_secret()).is_some();
        Ok(Some(match &self.password {
            Some(password) if !has_password => options.password(password.expose_secret()),
            _ => options,
        }))
    }
}

/// Postgres' own programs take a URL with a user and no host where its query has one, such as the directory of a socket. sqlx
/// wants a host all the same, and goes by the query.
fn with_host(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, port)) if (port.is_empty() || port.starts_with(':')) && tail.contains("host=") => {
            format!("{scheme}://{user}@localhost{port}{tail}").into()
        }
        _ => url.into(),
    }
}

/// `[http]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Where the API and the dashboard listen.
    pub listen: SocketAddr,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8360)) }
    }
}

/// `[security]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// The installation key; see [`Config::key_file`] for the default.
    ///
    /// [`Config::key_file`]: super::Config::key_file
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

/// `[staging]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Staging {
    /// How much time one partition of `staging.records` holds; at least a second.
    #[serde(with = "duration")]
    pub partition_width: Duration,
    /// How long records are kept, unless the source says otherwise.
    #[serde(with = "duration")]
    pub ttl: Duration,
}

impl Default for Staging {
    fn default() -> Self {
        Self { partition_width: Duration::from_hours(1), ttl: Duration::from_hours(25) }
    }
}

/// `[retention]`: how long what is over is kept.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Entries of `customer360.changes`; they go by whole months.
    #[serde(with = "duration")]
    pub changes: Duration,
    /// Dead letters that were retried or discarded. Parked ones stay.
    #[serde(with = "duration")]
    pub settled_dead_letters: Duration,
    /// Entries of `customer360.audit_log`.
    #[serde(with = "duration")]
    pub audit: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(days * 24);
        Self { changes: days(400), settled_dead_letters: days(90), audit: days(400) }
    }
}

/// `[survivorship]`: which system's value wins.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Survivorship {
    /// Systems, best first.
    pub prefer: Vec<String>,
    /// Attributes that come together from one cross-reference.
    pub groups: Vec<Vec<String>>,
    /// Systems, best first, for one attribute.
    pub attributes: BTreeMap<String, Vec<String>>,
}

impl Default for Survivorship {
    fn default() -> Self {
        let address = ["address1", "address2", "city", "state", "zipcode"].map(str::to_owned);
        Self { prefer: Vec::new(), groups: vec![address.into()], attributes: BTreeMap::new() }
    }
}

impl Survivorship {
    /// The rules as the fold takes them.
    pub fn rules(&self) -> model::Survivorship {
        let attributes: HashMap<_, _> = self.attributes.clone().into_iter().collect();
        model::Survivorship { prefer: self.prefer.clone(), groups: self.groups.clone(), attributes }
    }
}

/// `[matching]`: whom a match key may stand for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Matching {
    /// Emails that identify no customer; `*` stands for anything.
    pub blocked: Vec<String>,
    /// The most living cross-references of one system under one match key.
    pub max_xrefs_per_system: usize,
}

impl Default for Matching {
    fn default() -> Self {
        let blocked = ["n/a", "none", "unknown", "test@*", "noreply@*", "no-reply@*"];
        Self { blocked: blocked.map(str::to_owned).into(), max_xrefs_per_system: 10 }
    }
}

impl Matching {
    /// The guards as matching takes them.
    ///
    /// # Errors
    /// Patterns too many or too long to compile. A loaded configuration has been checked for it.
    pub fn guards(&self) -> anyhow::Result<Guards> {
        Ok(Guards::new(&self.blocked, self.max_xrefs_per_system)?)
    }
}

/// `[objects]`: what people write on customers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Objects {
    /// Types of objects, besides notes, contacts and links.
    pub types: Vec<String>,
}

impl Default for Objects {
    fn default() -> Self {
        Self { types: ["sale", "appointment", "complaint"].map(str::to_owned).into() }
    }
}

/// `[erasure]`: what an erasure leaves.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Erasure {
    /// What becomes of a person's orders.
    pub orders: ErasureOrders,
}

/// What becomes of the orders of an erased person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErasureOrders {
    /// They go, with their lines.
    #[default]
    Delete,
    /// They stay, without the customer and without the document that the source sent.
    Anonymise,
}
