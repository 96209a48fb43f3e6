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

/// An operator's edit of one attribute. It stands as long as the cross-reference still says what the edit replaced; once
/// the source changes the value, the source wins again.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// What the operator wrote.
    pub value: Value,
    /// What the cross-reference said then; null for nothing.
    pub replaced: Value,
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
        let grouped: BTreeSet<&str> = self.groups.iter().flatten().map(String::as_str).collect();
        let names = contributors.iter().flat_map(|c| c.attributes.keys().chain(c.edits.keys())).map(String::as_str);
        let alone: BTreeSet<&str> = names.filter(|name| !grouped.contains(name)).collect();
        for name in alone {
            self.choose(&[name], contributors, &mut profile);
        }
        for group in &self.groups {
            let group: Vec<&str> = group.iter().map(String::as_str).collect();
            self.choose(&group, contributors, &mut profile);
        }
        profile
    }

    /// Contributors of one attribute (or of the group that it leads), best first.
    pub fn ranked<'c, 'a>(&self, group: &[&str], contributors: &'c [Contributor<'a>]) -> Vec<&'c Contributor<'a>> {
        let mut ranked: Vec<_> = contributors.iter().collect();
        ranked.sort_by_cached_key(|c| {
            let edited = group.iter().any(|name| c.standing_edit(name).is_some());
            (!edited, self.rank(group, c.system), Reverse(c.observed_at), (c.system, c.external_id))
        });
        ranked
    }

    /// Takes a group of attributes whole from the best contributor that has any of it.
    fn choose(&self, group: &[&str], contributors: &[Contributor<'_>], profile: &mut Profile) {
        let having: Vec<_> =
            contributors.iter().filter(|c| group.iter().any(|name| c.value(name).is_some())).cloned().collect();
        let Some(winner) = self.ranked(group, &having).first().copied() else { return };
        for name in group {
            if let Some(value) = winner.value(name) {
                let origin = Origin { system: winner.system.to_owned(), external_id: winner.external_id.to_owned() };
                profile.attributes.insert((*name).to_owned(), value.clone());
                profile.provenance.insert((*name).to_owned(), origin);
            }
        }
    }

    /// The attribute's own list, then `prefer`, then all other systems alike.
    fn rank(&self, group: &[&str], system: &str) -> usize {
        let own = group.first().and_then(|name| self.attributes.get(*name)).map_or(&[][..], Vec::as_slice);
        let place = |systems: &[String]| systems.iter().position(|name| name == system);
        place(own).unwrap_or_else(|| own.len() + place(&self.prefer).unwrap_or(self.prefer.len()))
    }
}

impl Contributor<'_> {
    /// The value that this cross-reference contributes.
    pub fn value(&self, name: &str) -> Option<&Value> {
        let own = self.attributes.get(name);
        let value = self.standing_edit(name).map_or(own, |edit| Some(&edit.value));
        value.filter(|value| has_value(value))
    }

    /// The operator's edit of an attribute, while the cross-reference still says what it replaced.
    pub fn standing_edit(&self, name: &str) -> Option<&Edit> {
        self.edits.get(name).filter(|edit| self.attributes.get(name).unwrap_or(&Value::Null) == &edit.replaced)
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

    fn rules() -> Survivorship {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Survivorship {
            prefer: list(&["home_delivery", "online_store", "loyalty"]),
            groups: vec![list(&["address1", "city"])],
            attributes: HashMap::from([("loyaltyPoints".to_owned(), list(&["loyalty"]))]),
        }
    }

    fn fold(rows: &[Row]) -> Value {
        let contributors: Vec<_> = rows
            .iter()
            .map(|row| Contributor {
                system: row.system,
                external_id: row.external_id,
                observed_at: DateTime::from_timestamp(row.observed_at, 0).unwrap(),
                attributes: &row.attributes,
                edits: &row.edits,
            })
            .collect();
        json!(rules().fold(&contributors).attributes)
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
        loyal.edits.insert("name".into(), Edit { value: "Matty".into(), replaced: "Matt".into() });
        let home = || row("home_delivery", "1", 1, json!({"name": "Matthew"}));
        assert_eq!(fold(&[row("loyalty", "27", 9, json!({"name": "Matt"})), home()]), json!({"name": "Matthew"}));
        assert_eq!(fold(&[loyal, home()]), json!({"name": "Matty"}));
        let mut changed = row("loyalty", "27", 10, json!({"name": "Mathew"}));
        changed.edits.insert("name".into(), Edit { value: "Matty".into(), replaced: "Matt".into() });
        assert_eq!(fold(&[changed, home()]), json!({"name": "Matthew"}));
    }
}
