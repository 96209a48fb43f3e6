//! `[sources.NAME]`: what every source may say, and what each kind of them may.

mod csv;
mod kafka;
mod rest;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use model::mapping::{CustomerMapping, InteractionMapping, Mapping, OrderMapping, ProductMapping};
use model::{Credentials, InstallationKey};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{duration, print, read};

pub use csv::Csv;
pub use kafka::{Kafka, KafkaFormat};
pub use rest::{Basic, List, Lists, OAuth2, Rest};

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
#[expect(clippy::large_enum_variant, reason = "there are a handful of them, read once")]
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
    /// How long what is there may wait to be landed before `c360 status` says that it is late; of a CSV source, how old its
    /// newest file may be. Once loaded always there, but for CSV sources without a rhythm.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub late_after: Option<Duration>,
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

    /// What the status is told of it.
    pub fn expected(&self) -> status::Expected {
        let kind = match &self.kind {
            SourceKind::Kafka(_) => status::Kind::Kafka,
            SourceKind::Csv(csv) => status::Kind::Csv { directory: csv.directory.clone(), scan_every: csv.scan_every },
            SourceKind::Rest(_) => status::Kind::Rest,
        };
        status::Expected { kind, late_after: self.settings.late_after, ttl: self.ttl() }
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

    /// A full export comes every night and bears the date of that night; a file of news comes when there are some.
    pub(super) fn default_late_after(&self) -> Option<Duration> {
        match self {
            Self::Kafka(_) => Some(Duration::from_mins(5)),
            Self::Csv(csv) => csv.full_export.then_some(Duration::from_hours(30)),
            Self::Rest(_) => Some(Duration::from_hours(24)),
        }
    }
}

/// Names and values as they are passed on. They may be secrets, all of them.
pub type Properties = BTreeMap<String, SecretString>;
