//! Why a profile says what it says: the fold once more over what is stored now, with its reasons, and everything that has a
//! say in who is who.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use model::{Contributor, Explanation, MatchKey, Ruling};
use serde_json::{Value, json};
use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::decide::{self, Decision};
use crate::error::database;
use crate::find::Key;
use crate::fold::{Living, Marked, read_living, settled};
use crate::matching::Matching;
use crate::show::{self, Customer};
use crate::{Error, Rules, dirty};

/// Entries of the history that are read; the newest.
const MAX_CHANGES: i64 = 200;

/// A customer, explained.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Explained {
    /// The customer as it is stored.
    #[serde(flatten)]
    pub customer: Customer,
    /// All match keys that lead here, its own first.
    pub match_keys: Vec<String>,
    /// Attribute by attribute: who supplied it, and why not the others.
    pub attributes: BTreeMap<String, Explanation>,
    /// Cross-references under these keys that are held back, by system.
    pub held_back: Vec<HeldBack>,
    /// The most living cross-references of one system under one match key.
    pub max_xrefs_per_system: usize,
    /// The decisions in force: on this customer, and those that led somebody here or away.
    pub decisions: Vec<Decision>,
    /// What changed, the newest first.
    pub changes: Vec<Entry>,
    /// Whether something that concerns it waits to be folded.
    pub pending: bool,
    /// Whether the profile is the one that the rules in force make of it. If it is not and nothing is pending, the rules have
    /// changed since, or somebody has written to the table.
    pub follows_rules: bool,
}

/// What a guard keeps out.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct HeldBack {
    /// Under this match key.
    pub match_key: String,
    /// Of this system.
    pub system: String,
    /// A word of `xrefs.unmatched_reason`.
    pub reason: &'static str,
    /// So many cross-references.
    pub xrefs: usize,
}

/// An entry of the history. `attribute` is `None` for a profile that begins or ends.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct Entry {
    /// When.
    pub at: DateTime<Utc>,
    /// Which attribute.
    pub attribute: Option<String>,
    /// What it was.
    pub old: Option<Value>,
    /// What it became.
    pub new: Option<Value>,
    /// Of which system.
    pub system: Option<String>,
    /// By which of its ids.
    pub external_id: Option<String>,
    /// `record`, `decision`, `retirement`, ...
    pub cause: String,
}

/// Finds a customer and explains its profile.
pub async fn explain(connection: &mut PgConnection, rules: &Rules, key: &Key) -> Result<Explained, Error> {
    let matching = Matching::read(connection, rules).await?;
    let customer = show::find_and_read(connection, &matching, key).await?;
    let own = MatchKey::from_stored(customer.match_key.clone());
    let keys = matching.decisions.leading_to(&own);
    let marked: Vec<Marked<'_>> = keys.iter().map(|key| Marked { key: key.clone(), cause: "" }).collect();
    let living = settled(read_living(connection, &marked).await?, &matching);
    let here = living.iter().filter(|xref| xref.belongs_to == Ok(customer.customer_id));
    let contributors: Vec<Contributor<'_>> = here.map(Living::contributor).collect();
    let profile = rules.survivorship.fold(&contributors);
    let follows_rules =
        customer.profile == json!(profile.attributes) && customer.provenance == json!(profile.provenance);
    Ok(Explained {
        attributes: rules.survivorship.explain(&contributors),
        held_back: held_back(&living),
        max_xrefs_per_system: rules.guards.max_xrefs_per_system,
        decisions: decisions(connection, &matching, &keys).await?,
        changes: changes(connection, customer.customer_id).await?,
        pending: dirty::is_marked(connection, &keys).await?,
        follows_rules,
        match_keys: keys.iter().map(ToString::to_string).collect(),
        customer,
    })
}

fn held_back(living: &[Living]) -> Vec<HeldBack> {
    let mut counts: BTreeMap<(&str, &str, &'static str), usize> = BTreeMap::new();
    for xref in living {
        if let Err(reason) = xref.belongs_to {
            *counts.entry((xref.match_key.as_str(), xref.system.as_str(), reason.as_str())).or_default() += 1;
        }
    }
    let held_back = |((match_key, system, reason), xrefs): ((&str, &str, _), _)| HeldBack {
        match_key: match_key.to_owned(),
        system: system.to_owned(),
        reason,
        xrefs,
    };
    counts.into_iter().map(held_back).collect()
}

/// Those that name one of the keys, and splits of cross-references whose email would lead here.
async fn decisions(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    keys: &[MatchKey],
) -> Result<Vec<Decision>, Error> {
    let standing = decide::standing(connection).await?;
    let (systems, external_ids): (Vec<&str>, Vec<&str>) =
        standing.iter().filter_map(|decision| split_of(&decision.ruling)).unzip();
    let split_off: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "select x.system, x.external_id, x.email
         from unnest($1::text[], $2::text[]) as split (system, external_id)
         join customer360.xrefs x on x.system = split.system and x.external_id = split.external_id",
    )
    .bind(systems)
    .bind(external_ids)
    .fetch_all(connection)
    .await
    .map_err(database("reading what is split off"))?;
    let leads_here = |email: &Option<String>| {
        let email = email.as_deref().unwrap_or_default();
        let key = MatchKey::of_email(email, &matching.rules.guards, &matching.decisions);
        key.is_ok_and(|key| keys.contains(&key))
    };
    let left = split_off.iter().filter(|(.., email)| leads_here(email));
    let left: BTreeSet<(&str, &str)> = left.map(|(system, id, _)| (system.as_str(), id.as_str())).collect();
    let concerns = |Decision { ruling, .. }: &Decision| {
        ruling.keys().iter().any(|key| keys.contains(key)) || split_of(ruling).is_some_and(|xref| left.contains(&xref))
    };
    Ok(standing.iter().filter(|decision| concerns(decision)).cloned().collect())
}

/// The cross-reference that was split off.
fn split_of(ruling: &Ruling) -> Option<(&str, &str)> {
    match ruling {
        Ruling::Split { system, external_id } => Some((system, external_id)),
        _ => None,
    }
}

async fn changes(connection: &mut PgConnection, customer_id: Uuid) -> Result<Vec<Entry>, Error> {
    sqlx::query_as(
        "select at, attribute, old, new, system, external_id, cause
         from customer360.changes where customer_id = $1
         order by at desc, change_id desc
         limit $2",
    )
    .bind(customer_id)
    .bind(MAX_CHANGES)
    .fetch_all(connection)
    .await
    .map_err(database("reading the history"))
}
