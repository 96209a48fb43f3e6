//! Profiles: the fold of a customer's living cross-references under the rules of survivorship.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A golden record: one value per attribute, and where each came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Attributes that have a value.
    pub attributes: BTreeMap<String, Value>,
    /// Attribute to the cross-reference that supplied it.
    pub provenance: BTreeMap<String, Origin>,
}

impl Profile {
    /// The attributes of which one of these says something else itself, whatever was edited in its place.
    pub fn disagreeing(&self, contributors: &[Contributor<'_>]) -> BTreeSet<String> {
        let said = contributors.iter().flat_map(|contributor| contributor.attributes);
        let otherwise = said.filter(|(name, value)| has_value(value) && self.attributes.get(*name) != Some(value));
        otherwise.map(|(name, _)| name.clone()).collect()
    }
}

/// A cross-reference by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The system, which is the name of its source.
    pub system: String,
    /// The system's id.
    pub external_id: String,
}

/// A living cross-reference, as the fold sees it.
#[derive(Clone, Debug)]
pub struct Contributor<'a> {
    /// The system.
    pub system: &'a str,
    /// The system's id.
    pub external_id: &'a str,
    /// The time of its newest record.
    pub observed_at: DateTime<Utc>,
    /// Its attributes; null is no value.
    pub attributes: &'a BTreeMap<String, Value>,
    /// Operators' edits that lie on it, by attribute.
    pub edits: &'a BTreeMap<String, Edit>,
}

/// An operator's edit of one attribute. It stands as long as the cross-reference still says what the edit replaced, or what an
/// earlier edit has told its source; once the source itself changes the value, the source wins again.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// What the operator wrote.
    pub value: Value,
    /// What the cross-reference said then; null for nothing.
    pub replaced: Value,
    /// Values of earlier edits that may have been sent to its source: to say one of them is no contradiction.
    pub superseded: Vec<Value>,
    /// Whether it has said something else since: what it says now is later, be it what it said then.
    pub is_outdated: bool,
}

/// Which value wins.
#[derive(Clone, Debug, Default)]
pub struct Survivorship {
    /// Systems, best first.
    pub prefer: Vec<String>,
    /// Attributes that come together from one cross-reference.
    pub groups: Vec<Vec<String>>,
    /// Systems, best first, for one attribute; the rest of the systems follow by `prefer`.
    pub attributes: HashMap<String, Vec<String>>,
}

impl Survivorship {
    /// Folds cross-references into a profile. The order in which they are given does not matter.
    pub fn fold(&self, contributors: &[Contributor<'_>]) -> Profile {
        let mut profile = Profile::default();
        for set in self.sets(contributors) {
            let Some((_, winner)) = self.ranked(&set, contributors).into_iter().next() else { continue };
            for name in set {
                if let Some(value) = winner.value(name) {
                    let origin =
                        Origin { system: winner.system.to_owned(), external_id: winner.external_id.to_owned() };
                    profile.attributes.insert(name.to_owned(), value.clone());
                    profile.provenance.insert(name.to_owned(), origin);
                }
            }
        }
        profile
    }

    /// Contributors that have something of these attributes, best first, each with where it stands.
    pub(crate) fn ranked<'c, 'a>(
        &self,
        group: &[&str],
        contributors: &'c [Contributor<'a>],
    ) -> Vec<(Standing<'a>, &'c Contributor<'a>)> {
        let having = contributors.iter().filter(|c| group.iter().any(|name| c.value(name).is_some()));
        let mut ranked: Vec<_> = having.map(|c| (self.standing(group, c), c)).collect();
        ranked.sort_by_key(|(standing, _)| *standing);
        ranked
    }

    /// Attributes that are chosen together, each set once: groups, and all others alone.
    pub(crate) fn sets<'n>(&'n self, contributors: &[Contributor<'n>]) -> Vec<Vec<&'n str>> {
        let grouped: BTreeSet<&str> = self.groups.iter().flatten().map(String::as_str).collect();
        let names = contributors.iter().flat_map(|c| c.attributes.keys().chain(c.edits.keys())).map(String::as_str);
        let alone: BTreeSet<&str> = names.filter(|name| !grouped.contains(name)).collect();
        let groups = self.groups.iter().map(|group| group.iter().map(String::as_str).collect());
        alone.into_iter().map(|name| vec![name]).chain(groups).collect()
    }

    fn standing<'a>(&self, group: &[&str], contributor: &Contributor<'a>) -> Standing<'a> {
        let is_edited = group.iter().any(|name| contributor.standing_edit(name).is_some());
        Standing {
            not_edited: !is_edited,
            place: self.place(group, contributor.system),
            observed_at: Reverse(contributor.observed_at),
            name: (contributor.system, contributor.external_id),
        }
    }

    /// The attribute's own list, then `prefer`, then all other systems alike.
    fn place(&self, group: &[&str], system: &str) -> Place {
        let own = group.first().and_then(|name| self.attributes.get(*name)).map_or(&[][..], Vec::as_slice);
        let among = |systems: &[String]| systems.iter().position(|name| name == system);
        match (among(own), among(&self.prefer)) {
            (Some(place), _) => Place::Listed(place),
            (None, Some(place)) => Place::Preferred(place),
            (None, None) => Place::Elsewhere,
        }
    }
}

/// Where a contributor stands for some attributes; the least wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing<'a> {
    pub(crate) not_edited: bool,
    pub(crate) place: Place,
    pub(crate) observed_at: Reverse<DateTime<Utc>>,
    pub(crate) name: (&'a str, &'a str),
}

/// Where a system stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In the attribute's own list.
    Listed(usize),
    /// In `prefer`.
    Preferred(usize),
    /// In neither.
    Elsewhere,
}

impl<'a> Contributor<'a> {
    /// The value that this cross-reference contributes.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        let own = self.attributes.get(name);
        let value = self.standing_edit(name).map_or(own, |edit| Some(&edit.value));
        value.filter(|value| has_value(value))
    }

    /// The operator's edit of an attribute, while the cross-reference does not contradict it.
    pub fn standing_edit(&self, name: &str) -> Option<&'a Edit> {
        self.edits.get(name).filter(|edit| !edit.is_outdated && !self.contradicts(name, edit))
    }

    fn contradicts(&self, name: &str, edit: &Edit) -> bool {
        let says = self.attributes.get(name).unwrap_or(&Value::Null);
        edit.replaced != *says && !edit.superseded.contains(says)
    }

    /// The edits that the cross-reference contradicts by now, and did not before.
    pub fn newly_outdated(&self) -> impl Iterator<Item = (&'a str, &'a Edit)> {
        let contradicted = |(name, edit): &(&'a String, &'a Edit)| !edit.is_outdated && self.contradicts(name, edit);
        self.edits.iter().filter(contradicted).map(|(name, edit)| (name.as_str(), edit))
    }
}

/// No value: null and the empty string only.
fn has_value(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Clone)]
    struct Row {
        system: &'static str,
        external_id: &'static str,
        observed_at: i64,
        attributes: BTreeMap<String, Value>,
        edits: BTreeMap<String, Edit>,
    }

    fn row(system: &'static str, external_id: &'static str, observed_at: i64, attributes: Value) -> Row {
        let attributes = serde_json::from_value(attributes).unwrap();
        Row { system, external_id, observed_at, attributes, edits: BTreeMap::new() }
    }

    fn edit(value: &str, replaced: &str) -> Edit {
        Edit { value: value.into(), replaced: replaced.into(), superseded: Vec::new(), is_outdated: false }
    }

    fn rules() -> Survivorship {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Survivorship {
            prefer: list(&["home_delivery", "online_store", "loyalty"]),
            groups: vec![list(&["address1", "city"])],
            attributes: HashMap::from([("loyaltyPoints".to_owned(), list(&["loyalty"]))]),
        }
    }

    fn contributors(rows: &[Row]) -> Vec<Contributor<'_>> {
        rows.iter()
            .map(|row| Contributor {
                system: row.system,
                external_id: row.external_id,
                observed_at: DateTime::from_timestamp(row.observed_at, 0).unwrap(),
                attributes: &row.attributes,
                edits: &row.edits,
            })
            .collect()
    }

    fn fold(rows: &[Row]) -> Value {
        json!(rules().fold(&contributors(rows)).attributes)
    }

    #[test]
    fn who_says_something_else_than_the_profile_disagrees_and_who_says_nothing_does_not() {
        let mut rows = [
            row("home_delivery", "1029", 1, json!({"name": "Ann", "phone": "1", "address1": "1 Elm St"})),
            row("loyalty", "27", 9, json!({"name": "Ann", "phone": "", "firstName": "Ann", "city": "Keene"})),
        ];
        let disagreeing = |rows: &[Row]| {
            let contributors = contributors(rows);
            json!(rules().fold(&contributors).disagreeing(&contributors))
        };
        assert_eq!(disagreeing(&rows), json!(["city"]), "the group comes from home delivery, without a city");
        rows[1].attributes.insert("name".to_owned(), json!("Annie"));
        assert_eq!(disagreeing(&rows), json!(["city", "name"]));
        rows[0].edits.insert("phone".to_owned(), edit("2", "1"));
        assert_eq!(disagreeing(&rows), json!(["city", "name", "phone"]), "the system itself says what it said");
    }

    #[test]
    fn the_preferred_system_wins_and_no_value_never_does() {
        let rows = [
            row("loyalty", "27", 9, json!({"name": "Matt Groves", "loyaltyPoints": "47", "firstName": "Matt"})),
            row("home_delivery", "1029", 1, json!({"name": "Matthew Groves", "firstName": "", "phone": null})),
            row("other", "1", 99, json!({"name": "M", "loyaltyPoints": 1})),
        ];
        assert_eq!(fold(&rows), json!({"name": "Matthew Groves", "firstName": "Matt", "loyaltyPoints": "47"}));
    }

    #[test]
    fn in_one_rank_the_newest_wins_then_system_and_id_by_bytes() {
        let name = |name: &str| json!({ "name": name });
        assert_eq!(fold(&[row("b", "1", 5, name("x")), row("a", "9", 6, name("y"))]), name("y"));
        assert_eq!(fold(&[row("b", "1", 5, name("x")), row("a", "9", 5, name("y"))]), name("y"));
        assert_eq!(fold(&[row("a", "2", 5, name("x")), row("a", "10", 5, name("y"))]), name("y"));
    }

    #[test]
    fn a_group_comes_whole_from_one_cross_reference() {
        let rows = [
            row("loyalty", "27", 9, json!({"address1": "Old Road 1", "city": "Bern"})),
            row("home_delivery", "1029", 1, json!({"address1": null, "city": "Keene"})),
        ];
        assert_eq!(fold(&rows), json!({"city": "Keene"}));
    }

    #[test]
    fn an_edit_stands_until_the_source_changes_the_value() {
        let mut loyal = row("loyalty", "27", 9, json!({"name": "Matt"}));
        loyal.edits.insert("name".into(), edit("Matty", "Matt"));
        let home = || row("home_delivery", "1", 1, json!({"name": "Matthew"}));
        assert_eq!(fold(&[row("loyalty", "27", 9, json!({"name": "Matt"})), home()]), json!({"name": "Matthew"}));
        assert_eq!(fold(&[loyal, home()]), json!({"name": "Matty"}));
        let mut changed = row("loyalty", "27", 10, json!({"name": "Mathew"}));
        changed.edits.insert("name".into(), edit("Matty", "Matt"));
        assert_eq!(fold(&[changed.clone(), home()]), json!({"name": "Matthew"}));
        // What it says is what an earlier edit has told it.
        changed.edits.insert("name".into(), Edit { superseded: vec!["Mathew".into()], ..edit("Matty", "Matt") });
        assert_eq!(fold(&[changed, home()]), json!({"name": "Matty"}));
    }
}
