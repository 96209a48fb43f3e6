//! Why a profile says what it says: the ranking of the fold itself, with words for what decided.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::profile::{Place, Standing};
use crate::{Contributor, Origin, Survivorship};

/// One attribute: who supplied it, and who did not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The value in the profile; `None` where a group came whole from one that does not have it.
    pub value: Option<Value>,
    /// Whence.
    #[serde(flatten)]
    pub origin: Origin,
    /// The time of the newest record there.
    pub observed_at: DateTime<Utc>,
    /// Whether an operator's edit stands there in place of what the system says.
    pub edited: bool,
    /// The attributes that come together with this one; empty for one that comes alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<String>,
    /// The others, those first that would be next.
    pub losing: Vec<Lost>,
}

/// A value that is not in the profile, or a cross-reference that has none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lost {
    /// Whose.
    #[serde(flatten)]
    pub origin: Origin,
    /// What it says; `None` for nothing.
    pub value: Option<Value>,
    /// The time of its newest record.
    pub observed_at: DateTime<Utc>,
    /// What decided.
    pub why: Why,
}

/// Why a value lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It has none: null, the empty string, or never said.
    NoValue,
    /// An operator's edit stands in its place.
    ReplacedByEdit,
    /// It is an operator's edit, and the system has said something else since.
    EditOutdated,
    /// An operator's edit of another cross-reference comes first.
    EditElsewhere,
    /// The attribute's own list ranks the winner's system first.
    AttributeList,
    /// `survivorship.prefer` ranks the winner's system first.
    Prefer,
    /// Equal in rank; the winner's newest record is newer.
    Older,
    /// Equal in rank and time; the winner comes first by system and id.
    Tie,
}

impl Survivorship {
    /// Explains the profile that [`Survivorship::fold`] makes of the same cross-references, attribute by attribute: all that
    /// any of them has a value for.
    pub fn explain(&self, contributors: &[Contributor<'_>]) -> BTreeMap<String, Explanation> {
        let mut explained = BTreeMap::new();
        for set in self.sets(contributors) {
            let ranked = self.ranked(&set, contributors);
            if ranked.is_empty() {
                continue;
            }
            let has_any = |name: &&str| contributors.iter().any(|c| says(c, name).is_some());
            for name in set.iter().filter(|name| has_any(name)) {
                explained.insert((*name).to_owned(), explanation(name, &set, &ranked, contributors));
            }
        }
        explained
    }
}

fn explanation(
    name: &str,
    set: &[&str],
    ranked: &[(Standing<'_>, &Contributor<'_>)],
    contributors: &[Contributor<'_>],
) -> Explanation {
    let (best, winner) = &ranked[0];
    let mut losing: Vec<Lost> = edits(winner, name).into_iter().collect();
    for (standing, other) in &ranked[1..] {
        match other.value(name) {
            Some(value) => losing.push(lost(other, Some(value), why(best, standing))),
            None => losing.push(lost(other, None, Why::NoValue)),
        }
        losing.extend(edits(other, name));
    }
    let is_ranked = |c: &Contributor<'_>| ranked.iter().any(|(standing, _)| standing.name == (c.system, c.external_id));
    let mut without: Vec<&Contributor<'_>> = contributors.iter().filter(|c| !is_ranked(c)).collect();
    without.sort_by_key(|c| (c.system, c.external_id));
    for other in without {
        losing.push(lost(other, None, Why::NoValue));
        losing.extend(edits(other, name));
    }
    Explanation {
        value: winner.value(name).cloned(),
        origin: origin(winner),
        observed_at: winner.observed_at,
        edited: winner.standing_edit(name).is_some(),
        group: if set.len() > 1 { set.iter().map(|name| (*name).to_owned()).collect() } else { Vec::new() },
        losing,
    }
}

/// What a cross-reference itself says behind an edit, or an edit that no longer stands.
fn edits(contributor: &Contributor<'_>, name: &str) -> Option<Lost> {
    let edit = contributor.edits.get(name)?;
    if contributor.standing_edit(name).is_some() {
        let own = contributor.attributes.get(name).filter(|value| !value.is_null())?;
        return Some(lost(contributor, Some(own), Why::ReplacedByEdit));
    }
    Some(lost(contributor, Some(&edit.value), Why::EditOutdated))
}

/// Any value, whether it counts or not.
fn says<'v>(contributor: &Contributor<'v>, name: &str) -> Option<&'v Value> {
    contributor.value(name).or_else(|| contributor.edits.get(name).map(|edit| &edit.value))
}

/// The first thing in which the two differ, in the order in which it counts.
fn why(winner: &Standing<'_>, loser: &Standing<'_>) -> Why {
    if winner.not_edited != loser.not_edited {
        return Why::EditElsewhere;
    }
    match winner.place {
        place if place == loser.place => {}
        Place::Listed(_) => return Why::AttributeList,
        Place::Preferred(_) | Place::Elsewhere => return Why::Prefer,
    }
    if winner.observed_at == loser.observed_at { Why::Tie } else { Why::Older }
}

fn lost(contributor: &Contributor<'_>, value: Option<&Value>, why: Why) -> Lost {
    Lost { origin: origin(contributor), value: value.cloned(), observed_at: contributor.observed_at, why }
}

fn origin(contributor: &Contributor<'_>) -> Origin {
    Origin { system: contributor.system.to_owned(), external_id: contributor.external_id.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Edit;

    type Row = (String, String, i64, BTreeMap<String, Value>, BTreeMap<String, Edit>);

    const SYSTEMS: [&str; 4] = ["a", "b", "c", "d"];
    const NAMES: [&str; 4] = ["name", "address", "city", "points"];

    fn rules() -> Survivorship {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Survivorship {
            prefer: list(&["b", "a"]),
            groups: vec![list(&["address", "city"])],
            attributes: HashMap::from([("points".to_owned(), list(&["c"]))]),
        }
    }

    fn a_value() -> impl Strategy<Value = Value> {
        prop_oneof![Just(Value::Null), Just(json!("")), (0..3).prop_map(|n| json!(n)), "[xy]".prop_map(|s| json!(s))]
    }

    fn a_row() -> impl Strategy<Value = Row> {
        let attributes = prop::collection::btree_map(prop::sample::select(&NAMES[..]), a_value(), 0..4);
        let superseded = prop::collection::vec(a_value(), 0..2);
        let edit = (a_value(), a_value(), superseded, any::<bool>())
            .prop_map(|(value, replaced, superseded, is_outdated)| Edit { value, replaced, superseded, is_outdated });
        let edits = prop::collection::btree_map(prop::sample::select(&NAMES[..]), edit, 0..2);
        let owned = |name: &str| name.to_owned();
        (prop::sample::select(&SYSTEMS[..]), 0..3_i64, 0..3_i64, attributes, edits).prop_map(
            move |(system, id, at, attributes, edits)| {
                (
                    owned(system),
                    id.to_string(),
                    at,
                    attributes.into_iter().map(|(name, value)| (owned(name), value)).collect(),
                    edits.into_iter().map(|(name, edit)| (owned(name), edit)).collect(),
                )
            },
        )
    }

    /// Each cross-reference once.
    fn contributors(rows: &[Row]) -> Vec<Contributor<'_>> {
        let by_name: BTreeMap<(&str, &str), &Row> = rows.iter().map(|row| ((&*row.0, &*row.1), row)).collect();
        by_name
            .into_iter()
            .map(|((system, external_id), row)| Contributor {
                system,
                external_id,
                observed_at: DateTime::from_timestamp(row.2, 0).unwrap(),
                attributes: &row.3,
                edits: &row.4,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_explained_is_what_is_folded(rows in prop::collection::vec(a_row(), 0..7)) {
            let contributors = contributors(&rows);
            let profile = rules().fold(&contributors);
            let explained = rules().explain(&contributors);
            let values: BTreeMap<_, _> =
                explained.iter().filter_map(|(name, why)| Some((name.clone(), why.value.clone()?))).collect();
            prop_assert_eq!(&values, &profile.attributes);
            for (name, origin) in &profile.provenance {
                prop_assert_eq!(&explained[name].origin, origin);
            }
            for why in explained.values() {
                let others = contributors.iter().filter(|c| (c.system, c.external_id) != (&why.origin.system, &why.origin.external_id));
                for other in others {
                    let said = why.losing.iter().any(|lost| (other.system, other.external_id) == (&lost.origin.system, &lost.origin.external_id));
                    prop_assert!(said, "{}/{} has no reason", other.system, other.external_id);
                }
            }
        }

        #[test]
        fn who_is_next_wins_once_the_winner_is_gone(rows in prop::collection::vec(a_row(), 0..7)) {
            let contributors = contributors(&rows);
            for (name, why) in rules().explain(&contributors).iter().filter(|(_, why)| why.group.is_empty()) {
                let next = why.losing.iter().find(|lost| {
                    !matches!(lost.why, Why::NoValue | Why::ReplacedByEdit | Why::EditOutdated)
                });
                let rest: Vec<_> = contributors
                    .iter()
                    .filter(|c| (c.system, c.external_id) != (&why.origin.system, &why.origin.external_id))
                    .cloned()
                    .collect();
                let left = rules().fold(&rest);
                prop_assert_eq!(left.provenance.get(name), next.map(|lost| &lost.origin));
            }
        }
    }

    fn whys(rows: &[Row], name: &str) -> Vec<(String, Why)> {
        let explained = rules().explain(&contributors(rows));
        explained[name].losing.iter().map(|lost| (lost.origin.system.clone(), lost.why)).collect()
    }

    fn row(system: &str, at: i64, attributes: Value) -> Row {
        (system.to_owned(), "1".to_owned(), at, serde_json::from_value(attributes).unwrap(), BTreeMap::new())
    }

    #[test]
    fn each_loser_hears_what_decided() {
        let all = |value: &str| json!({"name": value, "points": value});
        let rows = [row("a", 9, all("a")), row("b", 1, all("b")), row("c", 5, all("c")), row("d", 5, all("d"))];
        let expected = [("a", Why::Prefer), ("c", Why::Prefer), ("d", Why::Prefer)];
        assert_eq!(whys(&rows, "name"), expected.map(|(system, why)| (system.to_owned(), why)));
        let expected = [("b", Why::AttributeList), ("a", Why::AttributeList), ("d", Why::AttributeList)];
        assert_eq!(whys(&rows, "points"), expected.map(|(system, why)| (system.to_owned(), why)));
        let unranked =
            [row("c", 5, all("c")), row("d", 5, all("d")), row("e", 4, all("e")), row("f", 9, json!({"name": ""}))];
        let expected = [("d", Why::Tie), ("e", Why::Older), ("f", Why::NoValue)];
        assert_eq!(whys(&unranked, "name"), expected.map(|(system, why)| (system.to_owned(), why)));
    }

    #[test]
    fn a_group_comes_whole_so_what_its_winner_lacks_is_nobodys() {
        let rows = [row("b", 1, json!({"city": "Keene"})), row("a", 9, json!({"address": "Old Road", "city": "Bern"}))];
        let explained = rules().explain(&contributors(&rows));
        let address = &explained["address"];
        assert_eq!((&address.value, address.origin.system.as_str(), address.group.len()), (&None, "b", 2));
        assert_eq!((&address.losing[0].value, address.losing[0].why), (&Some(json!("Old Road")), Why::Prefer));
    }

    #[test]
    fn an_edit_says_what_it_replaced_and_when_it_no_longer_stands() {
        let edit = |replaced: &str| {
            BTreeMap::from([(
                "name".to_owned(),
                Edit { value: json!("Matty"), replaced: json!(replaced), superseded: Vec::new(), is_outdated: false },
            )])
        };
        let mut edited = row("c", 1, json!({"name": "Matt"}));
        edited.4 = edit("Matt");
        let rows = [row("b", 9, json!({"name": "Matthew"})), edited.clone()];
        let expected = [("c", Why::ReplacedByEdit), ("b", Why::EditElsewhere)];
        assert_eq!(whys(&rows, "name"), expected.map(|(system, why)| (system.to_owned(), why)));
        edited.4 = edit("Mat");
        let expected = [("c", Why::Prefer), ("c", Why::EditOutdated)];
        assert_eq!(whys(&[rows[0].clone(), edited], "name"), expected.map(|(system, why)| (system.to_owned(), why)));
    }
}
