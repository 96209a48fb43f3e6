//! What the page of a customer has for operators: the decisions that stand, whom a guard keeps out, and what can be decided.

use std::collections::HashMap;

use consolidate::decide::Decision;
use consolidate::explain::Explained;
use model::Ruling;
use sqlx::types::Uuid;

use super::Dashboard;
use super::decide::undo_link;
use super::locale::{Locale, Moment};
use super::systems::counted;
use super::visitor::Reader;
use crate::api::customer::Customer;
use crate::api::decide;
use crate::problem::Problem;

/// The section of operators.
pub(super) struct Operator {
    pub(super) decisions: Vec<Standing>,
    pub(super) held_back: Vec<Held>,
    pub(super) may_merge: bool,
    pub(super) may_split: bool,
    pub(super) may_block: bool,
}

/// A decision that stands.
pub(super) struct Standing {
    pub(super) text: String,
    pub(super) by: String,
    pub(super) at: Moment,
    pub(super) undo: String,
    pub(super) verb: &'static str,
}

/// Cross-references that are too many.
pub(super) struct Held {
    pub(super) text: String,
    /// The page that lets them in.
    pub(super) allow: String,
}

/// Merges that led somebody here: the customer whom they came from, and what was decided.
pub(super) type Merges = HashMap<Uuid, Merge>;

/// A merge that stands.
pub(super) struct Merge {
    /// The match key that leads here.
    pub(super) from: String,
    pub(super) by: String,
    pub(super) undo: String,
}

/// What stands about a customer, as operators know it.
pub(super) struct Known(Option<Explained>);

/// What stands about a customer; to others than operators it is not shown.
pub(super) async fn known(dashboard: &Dashboard, reader: &Reader, customer_id: Uuid) -> Result<Option<Known>, Problem> {
    if !reader.caller.is_operator() {
        return Ok(None);
    }
    decide::explain(&dashboard.api, &reader.caller, customer_id).await.map(|explained| Some(Known(explained)))
}

/// The merges that led somebody to a customer, and that the reader may undo.
pub(super) async fn merges(dashboard: &Dashboard, customer_id: Uuid, known: Option<&Known>) -> Result<Merges, Problem> {
    let namespace = dashboard.api.namespace().await?;
    let decisions = known.and_then(|known| known.0.as_ref()).map_or(&[][..], |explained| &explained.decisions);
    let merge = |decision: &Decision| {
        let Ruling::Merge { from, .. } = &decision.ruling else { return None };
        let merge = Merge {
            from: from.to_string(),
            by: decision.made_by.clone(),
            undo: undo_link(&customer_id.to_string(), decision.decision_id),
        };
        Some((from.customer_id(namespace), merge))
    };
    Ok(decisions.iter().filter_map(merge).collect())
}

/// The section of a customer.
pub(super) fn section(customer: &Customer, Known(explained): &Known, locale: &Locale) -> Operator {
    let customer_id = customer.customer_id;
    let allow = |key: &str| {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("key", key).finish();
        format!("/customers/{customer_id}/decide/allow?{query}")
    };
    let held_back = match explained {
        Some(explained) => {
            let crowded = explained.held_back.iter().filter(|held| held.reason == "crowded");
            let held = |held: &consolidate::explain::HeldBack| {
                let xrefs = i64::try_from(held.xrefs).unwrap_or(i64::MAX);
                let xrefs = counted(locale, xrefs, "cross-reference", "cross-references");
                Held { text: format!("{xrefs} of {} held back: too many", held.system), allow: allow(&held.match_key) }
            };
            crowded.map(held).collect()
        }
        None => vec![Held {
            text: "All cross-references are held back: too many of one system".to_owned(),
            allow: format!("/customers/{customer_id}/decide/allow"),
        }],
    };
    let is_there = customer.deleted_at.is_none();
    let decisions = explained.iter().flat_map(|explained| &explained.decisions);
    // The email of one who was split off is another customer's match key.
    let has_own_email =
        |explained: &Explained| explained.customer.email.as_ref() == Some(&explained.customer.match_key);
    Operator {
        decisions: decisions.map(|decision| standing(customer_id, decision, locale)).collect(),
        held_back,
        may_merge: is_there,
        may_split: customer.xrefs.len() > 1,
        may_block: is_there && explained.as_ref().is_some_and(has_own_email),
    }
}

/// A decision in words.
pub(super) fn said(ruling: &Ruling) -> String {
    match ruling {
        Ruling::Merge { from, into } => format!("{from} merged into {into}"),
        Ruling::Split { system, external_id } => format!("{system} {external_id} split off"),
        Ruling::Block(key) => format!("{key} blocked"),
        Ruling::Allow(key) => format!("{key} may have any number of cross-references"),
    }
}

fn standing(customer_id: Uuid, decision: &Decision, locale: &Locale) -> Standing {
    Standing {
        text: said(&decision.ruling),
        by: decision.made_by.clone(),
        at: locale.ago(decision.made_at),
        undo: undo_link(&customer_id.to_string(), decision.decision_id),
        verb: if matches!(decision.ruling, Ruling::Block(_)) { "Unblock" } else { "Undo" },
    }
}
