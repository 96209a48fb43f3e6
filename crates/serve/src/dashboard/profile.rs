//! A profile, row by row: the value, whence it is, and what the other systems say.

use std::collections::{BTreeMap, BTreeSet};

use model::{Contributor, Edit, Explanation, Survivorship, Why};
use serde_json::Value;
use sqlx::types::Uuid;

use super::locale::{Locale, Moment};
use super::systems::{Badge, Systems, label};
use crate::api::customer::{Customer, Edited, Xref};

const MAX_CODE_BYTES: usize = 3;

/// An attribute, or some that come together.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) lines: Vec<String>,
    /// Whence; unknown where the cross-reference is gone since.
    pub(super) from: Option<Source>,
    /// Who wrote it in place of what the system says, and when.
    pub(super) edited: Option<(String, Moment)>,
    pub(super) losing: Vec<Losing>,
}

/// A cross-reference, and the time of its newest record.
pub(super) struct Source {
    pub(super) badge: Badge,
    pub(super) external_id: String,
    pub(super) at: Moment,
}

/// Another value.
pub(super) struct Losing {
    pub(super) lines: Vec<String>,
    pub(super) from: Source,
    /// What decided.
    pub(super) why: Option<String>,
}

impl Row {
    /// The same in one line, for whoever points at it.
    pub(super) fn title(&self) -> String {
        let source = |from: &Source| format!("{} {}, {}", from.badge.system, from.external_id, from.at.text);
        let edited = self.edited.iter().map(|(by, at)| format!("Edited by {by}, {}", at.text));
        let from = self.from.iter().map(|from| format!("From {}", source(from)));
        let losing = self.losing.iter().map(|lost| format!("{}: {}", source(&lost.from), lost.lines.join(", ")));
        edited.chain(from).chain(losing).collect::<Vec<_>>().join(" · ")
    }
}

/// What somebody is called.
pub(super) fn name(profile: &Value, email: Option<&str>, customer_id: Uuid) -> String {
    let name = profile.get("name").and_then(Value::as_str).filter(|name| !name.trim().is_empty());
    name.or(email).map_or_else(|| format!("Customer {customer_id}"), str::to_owned)
}

/// A cross-reference's id as it is shown and compared.
pub(super) fn external_id(xref: &Xref) -> String {
    text(&xref.external_id)
}

/// A value as it is shown.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The rows of a customer's profile: the name, what comes in groups, then the rest.
pub(super) fn rows(customer: &Customer, rules: &Survivorship, systems: &Systems, locale: &Locale) -> Vec<Row> {
    let said: Vec<Said<'_>> = customer.xrefs.iter().map(Said::of).collect();
    let contributors = said.iter().map(|said| Contributor {
        system: &said.xref.system,
        external_id: &said.external_id,
        observed_at: said.xref.observed_at,
        attributes: &said.attributes,
        edits: &said.edits,
    });
    let explained = rules.explain(&contributors.collect::<Vec<_>>());
    let of = Of { customer, said: &said, explained, systems, locale };
    let names = customer.profile.as_object().into_iter().flat_map(serde_json::Map::keys);
    sets(names, rules).iter().filter_map(|set| of.row(set)).collect()
}

/// What one cross-reference says.
struct Said<'a> {
    xref: &'a Xref,
    external_id: String,
    attributes: BTreeMap<String, Value>,
    edits: BTreeMap<String, Edit>,
}

impl<'a> Said<'a> {
    fn of(xref: &'a Xref) -> Self {
        let attributes = xref.attributes.as_object().into_iter().flatten();
        let attributes = attributes.map(|(name, value)| (name.clone(), value.clone())).collect();
        let edit = |(name, edited): (&String, &Edited)| {
            let (value, replaced) = (edited.value.clone(), edited.replaced.clone());
            // Only those that stand come with a customer.
            (name.clone(), Edit { value, replaced, superseded: Vec::new(), is_outdated: false })
        };
        Self { xref, external_id: external_id(xref), attributes, edits: xref.edits.iter().map(edit).collect() }
    }
}

/// The attributes of a form, as rows have them.
pub(super) fn of_form(attributes: &BTreeSet<String>, rules: &Survivorship) -> Vec<Vec<String>> {
    let mut sets = sets(attributes.iter(), rules);
    for set in &mut sets {
        set.retain(|name| attributes.contains(name));
    }
    sets.retain(|set| !set.is_empty());
    sets
}

/// The attributes of each row.
fn sets<'n>(names: impl Iterator<Item = &'n String>, rules: &Survivorship) -> Vec<Vec<String>> {
    let names: Vec<&String> = names.collect();
    let mut sets: Vec<Vec<String>> = rules.groups.clone();
    let is_alone = |name: &&&String| !rules.groups.iter().flatten().any(|grouped| grouped == **name);
    sets.extend(names.iter().filter(is_alone).map(|name| vec![(*name).clone()]));
    sets.sort_by_key(|set| match set.as_slice() {
        [name] if name == "name" => 0,
        [_] => 2,
        _ => 1,
    });
    sets
}

/// What rows are made of.
struct Of<'a> {
    customer: &'a Customer,
    said: &'a [Said<'a>],
    explained: BTreeMap<String, Explanation>,
    systems: &'a Systems,
    locale: &'a Locale,
}

impl Of<'_> {
    fn row(&self, set: &[String]) -> Option<Row> {
        let value = |name: &String| self.customer.profile.get(name);
        let winning = lines(set, value);
        let name = set.iter().find(|name| value(name).is_some())?;
        let origin = self.customer.provenance.get(name);
        let origin = |member| origin.and_then(|origin| origin.get(member)).and_then(Value::as_str);
        let is_winner = |said: &&Said<'_>| {
            Some(said.xref.system.as_str()) == origin("system")
                && Some(said.external_id.as_str()) == origin("external_id")
        };
        let winner = self.said.iter().find(is_winner);
        let others = self.said.iter().filter_map(|said| {
            let says = |name: &String| said.attributes.get(name).filter(|value| has_value(value));
            // Who says less does not disagree.
            let disagrees = set.iter().any(|name| says(name).is_some_and(|said| Some(said) != value(name)));
            let why = || match winner {
                Some(_) if is_winner(&said) => Some("An edit stands in its place.".to_owned()),
                Some(winner) => self.why(name, winner, said),
                None => None,
            };
            disagrees.then(|| Losing { lines: lines(set, says), from: self.source(said), why: why() })
        });
        Some(Row {
            label: group_label(set),
            losing: others.collect(),
            edited: winner.and_then(|winner| {
                let edited = set.iter().find_map(|name| winner.xref.edits.get(name))?;
                Some((edited.by.clone(), self.locale.day(edited.at)))
            }),
            from: winner.map(|winner| self.source(winner)),
            lines: winning,
        })
    }

    fn source(&self, said: &Said<'_>) -> Source {
        Source {
            badge: self.systems.badge(&said.xref.system),
            external_id: said.external_id.clone(),
            at: self.locale.day(said.xref.observed_at),
        }
    }

    /// What decided between two; unknown where the rules have changed since.
    fn why(&self, name: &str, winner: &Said<'_>, loser: &Said<'_>) -> Option<String> {
        let is = |origin: &model::Origin, said: &Said<'_>| {
            origin.system == said.xref.system && origin.external_id == said.external_id
        };
        let explained = self.explained.get(name).filter(|explained| is(&explained.origin, winner))?;
        let winner = &winner.xref.system;
        match explained.losing.iter().find(|lost| is(&lost.origin, loser))?.why {
            Why::AttributeList | Why::Prefer => Some(format!("{winner} comes first in the rules.")),
            Why::Older => Some(format!("What {winner} says is newer.")),
            Why::Tie => Some(format!("{winner} comes first by its name and id.")),
            Why::EditElsewhere => Some("An edit comes first.".to_owned()),
            _ => None,
        }
    }
}

/// One line for each value; a state's code stands before what follows it, as on an envelope.
fn lines<'v>(set: &[String], value: impl Fn(&String) -> Option<&'v Value>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for said in set.iter().filter_map(|name| value(name).filter(|value| has_value(value)).map(text)) {
        match lines.last_mut().filter(|line| line.len() <= MAX_CODE_BYTES) {
            Some(code) => {
                code.push(' ');
                code.push_str(&said);
            }
            None => lines.push(said),
        }
    }
    lines
}

fn has_value(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

/// A group is called as its first attribute, without its number.
pub(super) fn group_label(set: &[String]) -> String {
    let Some(first) = set.first() else { return String::new() };
    if set.len() == 1 { label(first) } else { label(first.trim_end_matches(|c: char| c.is_ascii_digit())) }
}
