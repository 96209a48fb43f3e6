//! Edits on their way to the sources that take them: rows of `staging.outbox`, written with the edit. A poller sends them.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use chrono::{DateTime, Utc};
use model::MatchKey;
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Uuid;
use staging::outbox::{self, Edits, Kind, Outgoing, Wanted};

use super::{BY_HAND, NewCustomer};
use crate::Error;

/// The sources that are written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takers {
    /// Those that take edits of their customers: which attributes.
    pub update: BTreeMap<String, BTreeSet<String>>,
    /// Those that customers made by hand are made in.
    pub create: BTreeSet<String>,
}

/// A cross-reference that an edit of one attribute could lie on.
#[derive(Debug, Deserialize)]
pub(super) struct Candidate {
    attribute: String,
    value: Value,
    /// Whether an edit is taken back.
    removed: bool,
    system: String,
    external_id: String,
    match_key: Option<String>,
    email: Option<String>,
    /// Its own value.
    says: Value,
    /// What it may have been told by edits before.
    earlier: Vec<Value>,
    /// 1 for the one that it lies on.
    place: i64,
}

impl Candidate {
    fn is_edited(&self) -> bool {
        self.place == 1 && !self.removed
    }

    /// The edit, in place of what the source says or may have been sent: the edits before, and what was withdrawn for this
    /// one.
    fn wanted(&self, withdrawn: Option<&Vec<Value>>) -> Wanted {
        let mut replaced = Vec::new();
        for value in iter::once(&self.says).chain(&self.earlier).chain(withdrawn.into_iter().flatten()) {
            if !replaced.contains(value) {
                replaced.push(value.clone());
            }
        }
        Wanted { value: self.value.clone(), replaced }
    }
}

/// Puts an edit on its way, one to the source of each cross-reference that it lies on, in place of what was on its way of
/// these attributes; of a customer made by hand, to each source that has made one. What the source still says of earlier
/// edits is no contradiction.
pub(super) async fn update(
    connection: &mut PgConnection,
    candidates: &[Candidate],
    takers: &Takers,
    now: DateTime<Utc>,
) -> Result<Vec<Uuid>, Error> {
    let mut by_xref: BTreeMap<(&str, &str), Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        by_xref.entry((&candidate.system, &candidate.external_id)).or_default().push(candidate);
    }
    let mut outgoing = Vec::new();
    for (xref, candidates) in by_xref {
        let attributes: Vec<&str> = candidates.iter().map(|candidate| candidate.attribute.as_str()).collect();
        let withdrawn = outbox::withdraw(connection, xref, &attributes, now).await?;
        let sources = if xref.0 == BY_HAND {
            // What is made by then is not amended, but found among what is made.
            outbox::amend(connection, xref, &amended(&candidates), now).await?;
            outbox::made_in(&mut *connection, xref).await?
        } else {
            vec![xref.0.to_owned()]
        };
        let Some(first) = candidates.first() else { continue };
        for source in &sources {
            let Some(taken) = takers.update.get(source) else { continue };
            let edits: Edits = candidates
                .iter()
                .filter(|candidate| candidate.is_edited() && taken.contains(&candidate.attribute))
                .map(|candidate| (candidate.attribute.clone(), candidate.wanted(withdrawn.get(&candidate.attribute))))
                .collect();
            if edits.is_empty() {
                continue;
            }
            let edit = Outgoing {
                source,
                kind: Kind::Update,
                system: xref.0,
                external_id: xref.1,
                match_key: first.match_key.as_deref().unwrap_or_default(),
                email: first.email.as_deref().unwrap_or_default(),
                edits,
            };
            outgoing.push(outbox::enqueue(connection, &edit, now).await?);
        }
    }
    Ok(outgoing)
}

/// What a customer made by hand is to be made with elsewhere: the edit, or without one what was said first.
fn amended<'c>(candidates: &[&'c Candidate]) -> BTreeMap<&'c str, Option<&'c Value>> {
    let value = |candidate: &'c Candidate| {
        let value = if candidate.is_edited() { &candidate.value } else { &candidate.says };
        Some(value).filter(|value| !value.is_null())
    };
    candidates.iter().map(|candidate| (candidate.attribute.as_str(), value(candidate))).collect()
}

/// Tells sources to make a customer.
pub(super) async fn create(
    connection: &mut PgConnection,
    takers: &BTreeSet<String>,
    match_key: &MatchKey,
    new: NewCustomer<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<Uuid>, Error> {
    let wanted =
        |(name, value): (&String, &Value)| (name.clone(), Wanted { value: value.clone(), replaced: Vec::new() });
    let edits: Edits = new.attributes.iter().map(wanted).collect();
    let mut outgoing = Vec::new();
    for source in takers {
        let edit = Outgoing {
            source,
            kind: Kind::Create,
            system: BY_HAND,
            external_id: new.external_id,
            match_key: match_key.as_str(),
            email: new.email,
            edits: edits.clone(),
        };
        outgoing.push(outbox::enqueue(connection, &edit, now).await?);
    }
    Ok(outgoing)
}
