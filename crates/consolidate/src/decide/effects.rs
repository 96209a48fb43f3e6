//! What a decision does to customers: as they were, as they are.

use std::collections::{BTreeMap, BTreeSet};

use model::MatchKey;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Uuid;

use crate::matching::Matching;
use crate::show::{self, Customer};
use crate::{Change, Error};

/// A customer concerned by a decision.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Effect {
    /// What became of it; `None` for one that is as it was.
    pub change: Option<Change>,
    /// Attributes that are other ones than before.
    pub attributes: Vec<String>,
    /// As it was, if it was there.
    pub before: Option<Customer>,
    /// As it is afterwards.
    pub customer: Customer,
}

/// The customers concerned, as they were.
pub(super) struct Before {
    keys: Vec<MatchKey>,
    /// Those to whom the keys lead by themselves, and by decisions.
    customers: BTreeMap<Uuid, Option<Customer>>,
}

impl Before {
    pub(super) async fn read(
        connection: &mut PgConnection,
        matching: &Matching<'_>,
        keys: &[MatchKey],
    ) -> Result<Self, Error> {
        let mut customers = BTreeMap::new();
        for id in ids(matching, keys) {
            customers.insert(id, show::read(connection, id).await?);
        }
        Ok(Self { keys: keys.to_vec(), customers })
    }

    /// Who that is.
    pub(super) fn concerned(&self) -> Vec<Uuid> {
        self.customers.keys().copied().collect()
    }

    /// What has become of them, and of those to whom the keys lead now.
    pub(super) async fn effects(
        &self,
        connection: &mut PgConnection,
        matching: &Matching<'_>,
    ) -> Result<Vec<Effect>, Error> {
        let mut concerned: BTreeSet<Uuid> = self.customers.keys().copied().collect();
        concerned.extend(ids(matching, &self.keys));
        let mut effects = Vec::new();
        for id in concerned {
            let before = self.customers.get(&id).cloned().flatten();
            if let Some(customer) = show::read(connection, id).await? {
                let change = change(before.as_ref(), &customer);
                effects.push(Effect { change, attributes: different(before.as_ref(), &customer), before, customer });
            }
        }
        // First those that live.
        effects.sort_by_key(|effect| (effect.customer.deleted_at.is_some(), effect.customer.match_key.clone()));
        Ok(effects)
    }
}

/// The customers of these keys, and those to whom they lead.
fn ids(matching: &Matching<'_>, keys: &[MatchKey]) -> BTreeSet<Uuid> {
    keys.iter().flat_map(|key| [key.customer_id(matching.namespace), matching.customer_id(key)]).collect()
}

fn change(before: Option<&Customer>, after: &Customer) -> Option<Change> {
    let lived = before.is_some_and(|before| before.deleted_at.is_none());
    match (lived, after.deleted_at.is_none()) {
        (false, true) => Some(Change::Appears),
        (true, false) => Some(Change::Vanishes),
        (false, false) => None,
        (true, true) => {
            let same = before.is_some_and(|before| {
                before.profile == after.profile && before.xrefs == after.xrefs && before.email == after.email
            });
            (!same).then_some(Change::Changes)
        }
    }
}

fn different(before: Option<&Customer>, after: &Customer) -> Vec<String> {
    let nothing = Value::Null;
    let before = before.map_or(&nothing, |before| &before.profile);
    let names = before.as_object().into_iter().chain(after.profile.as_object()).flat_map(serde_json::Map::keys);
    let names: BTreeSet<&String> = names.filter(|name| before.get(name) != after.profile.get(name)).collect();
    names.into_iter().cloned().collect()
}
