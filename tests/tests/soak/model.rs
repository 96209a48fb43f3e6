//! What ought to come out, worked out from what lies on the broker, the last night's file and the store: by sorting and by
//! the shortest code that follows the rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::{Kind, Ledger, Row, UNAVAILABLE};
use crate::nights::Member;
use crate::topic::Logs;
use crate::world::{STORE_CUSTOMERS, store_name};

/// What one system says under one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Xref {
    pub(crate) key: Option<String>,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) observed_ms: i64,
}

/// (system, external id) of all that live.
pub(crate) type Xrefs = BTreeMap<(String, String), Xref>;
type Named<'x> = (&'x (String, String), &'x Xref);
/// Match key to profile and cross-references.
pub(crate) type Customers = BTreeMap<String, (BTreeMap<String, String>, BTreeSet<(String, String)>)>;
/// Order id to customer's id and lines.
pub(crate) type Orders = BTreeMap<String, (i64, Vec<(i64, i64, i64)>)>;

/// Everything that lives in the end.
pub(crate) fn living(logs: &Logs, ledger: &Ledger, members: &[Member]) -> (Xrefs, Orders) {
    let (rows, orders) = tables(logs, ledger);
    let mut xrefs = Xrefs::new();
    for (id, (row, observed_ms)) in rows {
        let value = |name: &str| row.get(name).cloned().flatten().filter(|value| !value.is_empty());
        let names = ["name", "address", "city", "phone", "note"];
        let values = names.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect();
        let key = value("email").and_then(|email| match_key(&email));
        xrefs.insert(("home_delivery".to_owned(), id.to_string()), Xref { key, values, observed_ms });
    }
    for member in members {
        let name = format!("{} {}", member.first, member.last);
        let values = [("name".to_owned(), name), ("loyaltyPoints".to_owned(), member.points.to_string())].into();
        let xref = Xref { key: match_key(&member.email()), values, observed_ms: 0 };
        xrefs.insert(("loyalty".to_owned(), member.id.to_string()), xref);
    }
    for id in 0..STORE_CUSTOMERS {
        let values = [("name".to_owned(), store_name(id))].into();
        let xref = Xref { key: Some(format!("member{id}@soak.example")), values, observed_ms: 0 };
        xrefs.insert(("online_store".to_owned(), id.to_string()), xref);
    }
    (xrefs, orders)
}

type Rows = BTreeMap<i64, (Row, i64)>;

/// The tables as their log tells them: sorted by place in the log, whatever order the messages have on the broker.
fn tables(logs: &Logs, ledger: &Ledger) -> (Rows, Orders) {
    let mut changes = Vec::new();
    for log in logs.values() {
        let mut seen = (0, 0);
        for (offset, number) in &log.messages {
            let entry = &ledger.0[*number];
            seen = entry.log.unwrap_or(seen);
            // A row that goes on under another id is gone before it is there again, at one place of the log.
            let comes_second = matches!(entry.kind, Kind::Customer { .. });
            changes.push(((seen, comes_second, *offset), entry));
        }
    }
    changes.sort_by_key(|(place, _)| *place);
    let (mut rows, mut orders) = (Rows::new(), Orders::new());
    for (_, entry) in changes {
        match &entry.kind {
            Kind::Customer { id, row, .. } => {
                let before = rows.remove(id).map(|(row, _)| row).unwrap_or_default();
                let keep = |name: &&'static str| before.get(*name).cloned().flatten();
                let kept = row.iter().map(|(name, value)| match value.as_deref() {
                    Some(UNAVAILABLE) => (*name, keep(name)),
                    _ => (*name, value.clone()),
                });
                rows.insert(*id, (kept.collect(), entry.ts_ms));
            }
            Kind::Gone { id, moved_to } => {
                let row = rows.remove(id);
                if let (Some(row), Some(new)) = (row, moved_to) {
                    rows.insert(*new, row);
                }
            }
            Kind::Order { id, customer, lines } => {
                orders.insert(id.to_string(), (*customer, lines.clone()));
            }
            Kind::OrderGone { id } => {
                orders.remove(&id.to_string());
            }
            Kind::Poison | Kind::Skip => {}
        }
    }
    (rows, orders)
}

fn match_key(email: &str) -> Option<String> {
    let key = email.trim().to_lowercase();
    let is_usable = key.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && domain.contains('.'));
    (is_usable && !key.starts_with("noreply@")).then_some(key)
}

/// Folds what lives into customers.
pub(crate) fn customers(xrefs: &Xrefs) -> Customers {
    let mut by_key: BTreeMap<&String, Vec<Named<'_>>> = BTreeMap::new();
    for (id, xref) in xrefs {
        if let Some(key) = &xref.key {
            by_key.entry(key).or_default().push((id, xref));
        }
    }
    let mut customers = Customers::new();
    for (key, mut group) in by_key {
        let crowded = |system: &str| group.iter().filter(|((of, _), _)| of == system).count() > 10;
        let crowds: BTreeSet<&str> =
            ["home_delivery", "loyalty", "online_store"].into_iter().filter(|name| crowded(name)).collect();
        group.retain(|((system, _), _)| !crowds.contains(system.as_str()));
        if !group.is_empty() {
            let ids = group.iter().map(|(id, _)| (*id).clone()).collect();
            customers.insert(key.clone(), (profile(&group), ids));
        }
    }
    customers
}

/// `survivorship.prefer` is home delivery, online store, loyalty; the address comes whole.
fn profile(group: &[Named<'_>]) -> BTreeMap<String, String> {
    let rank = |system: &str| ["home_delivery", "online_store", "loyalty"].iter().position(|name| *name == system);
    let mut group = group.to_vec();
    group.sort_by_key(|((system, id), xref)| (rank(system), -xref.observed_ms, id.clone()));
    let mut profile = BTreeMap::new();
    for names in [&["name"][..], &["address", "city"], &["phone"], &["note"], &["loyaltyPoints"]] {
        let best = group.iter().find(|(_, xref)| names.iter().any(|name| xref.values.contains_key(*name)));
        for name in names {
            if let Some(value) = best.and_then(|(_, xref)| xref.values.get(*name)) {
                profile.insert((*name).to_owned(), value.clone());
            }
        }
    }
    profile
}
