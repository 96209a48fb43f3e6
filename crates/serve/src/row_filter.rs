//! Whom a key may see: `state in ('NH', 'VT') and list team-7`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use model::Limits;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{Postgres, QueryBuilder};

/// Combinations of values that a filter may ask for: each is compared with every profile.
const MAX_COMBINATIONS: usize = 1000;

/// Conditions on customers, all of which have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFilter {
    /// Attribute to the values of which it has to have one.
    attributes: BTreeMap<String, BTreeSet<String>>,
    /// Lists that the customer has to be on.
    lists: BTreeSet<String>,
}

/// Why a text is no row filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRowFilter {
    /// It does not follow the grammar.
    #[error("{0}; write for example: state in ('NH', 'VT') and list team-7")]
    Syntax(String),
    /// It asks for too many combinations of values.
    #[error("more than {MAX_COMBINATIONS} combinations of values: put the customers on a list instead")]
    TooLarge,
    /// Its conditions on an attribute contradict each other.
    #[error("no `{0}` is in all that it has to be in: nobody would be seen")]
    Nobody(String),
}

impl RowFilter {
    /// What `attribute` may be, besides what it may be already.
    pub(crate) fn allow(&mut self, attribute: &str, value: &str) {
        self.attributes.entry(attribute.to_owned()).or_default().insert(value.to_owned());
    }

    /// What `attribute` has to be, besides what it has to be already.
    fn require(&mut self, attribute: &str, mut values: BTreeSet<String>) -> Result<(), NoRowFilter> {
        if let Some(before) = self.attributes.get(attribute) {
            values.retain(|value| before.contains(value));
        }
        if values.is_empty() {
            return Err(NoRowFilter::Nobody(attribute.to_owned()));
        }
        self.attributes.insert(attribute.to_owned(), values);
        Ok(())
    }

    /// The attributes that it asks about.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.attributes.keys().map(String::as_str)
    }

    /// The names of its lists.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &str> {
        self.lists.iter().map(String::as_str)
    }

    /// Adds a condition on `c.customer_id` that says no more than the policy on customers does, so that an index leads to the
    /// few on a list instead of every customer to the policy.
    pub(crate) fn push_lists(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(list) = self.lists.first() {
            sql.push(" and c.customer_id in (select m.customer_id from customer360.list_members m where m.list = ");
            sql.push_bind(list.clone()).push(")");
        }
    }

    /// The profiles one of which a customer's has to contain: every combination of values, a number and a truth value also
    /// as what it looks like. Without conditions on attributes that is the empty one, which every profile contains.
    pub(crate) fn profiles(&self) -> Result<Vec<Value>, NoRowFilter> {
        let mut profiles = vec![Map::new()];
        for (attribute, values) in &self.attributes {
            let values: Vec<Value> = values.iter().flat_map(|value| spellings(value)).collect();
            if profiles.len() * values.len() > MAX_COMBINATIONS {
                return Err(NoRowFilter::TooLarge);
            }
            let with = |profile: &Map<String, Value>, value: &Value| {
                let mut profile = profile.clone();
                profile.insert(attribute.clone(), value.clone());
                profile
            };
            profiles = profiles.iter().flat_map(|profile| values.iter().map(|value| with(profile, value))).collect();
        }
        Ok(profiles.into_iter().map(Value::Object).collect())
    }

    /// The values of the settings that the policies of role `c360_limited` read: `c360.filter_lists`, and
    /// `c360.filter_profiles`, which is null without conditions on attributes.
    pub(crate) fn settings(&self) -> Result<(Vec<&str>, Option<Vec<Value>>), NoRowFilter> {
        let profiles = if self.attributes.is_empty() { None } else { Some(self.profiles()?) };
        Ok((self.lists().collect(), profiles))
    }
}

/// A value as text, and as the number or truth value that it spells: sources differ in what they send.
fn spellings(value: &str) -> Vec<Value> {
    // No profile has a number that Postgres cannot hold.
    let other =
        model::inspect(value.as_bytes(), Limits::default()).ok().and_then(|text| serde_json::from_str(text).ok());
    let other = other.filter(|value: &Value| value.is_number() || value.is_boolean());
    [Value::from(value)].into_iter().chain(other).collect()
}

impl fmt::Display for RowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |value: &String| format!("'{}'", value.replace('\'', "''"));
        let attributes = self.attributes.iter().map(|(attribute, values)| {
            format!("{attribute} in ({})", values.iter().map(quoted).collect::<Vec<_>>().join(", "))
        });
        let lists = self.lists.iter().map(|list| format!("list {list}"));
        f.write_str(&attributes.chain(lists).collect::<Vec<_>>().join(" and "))
    }
}

impl FromStr for RowFilter {
    type Err = NoRowFilter;

    fn from_str(text: &str) -> Result<Self, NoRowFilter> {
        let mut words = Words { rest: text };
        let mut filter = Self::default();
        loop {
            let name = words.name()?;
            if name.eq_ignore_ascii_case("list") {
                filter.lists.insert(words.name()?.to_owned());
            } else {
                words.keyword("in")?;
                words.sign('(')?;
                let mut values = BTreeSet::from([words.value()?]);
                while words.is_next(',') {
                    values.insert(words.value()?);
                }
                words.sign(')')?;
                filter.require(name, values)?;
            }
            if words.is_at_end() {
                filter.profiles()?;
                return Ok(filter);
            }
            words.keyword("and")?;
        }
    }
}

/// What is left of a filter to read.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn is_at_end(&mut self) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.is_empty()
    }

    fn is_next(&mut self, sign: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sign(&mut self, sign: char) -> Result<(), NoRowFilter> {
        if self.is_next(sign) { Ok(()) } else { Err(self.expected(&format!("`{sign}`"))) }
    }

    /// An attribute or a list: letters, digits, `_`, `-` and `.`.
    fn name(&mut self) -> Result<&'a str, NoRowFilter> {
        self.rest = self.rest.trim_start();
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err(self.expected("a name"));
        }
        self.rest = rest;
        Ok(name)
    }

    fn keyword(&mut self, word: &str) -> Result<(), NoRowFilter> {
        let here = Self { rest: self.rest };
        match self.name() {
            Ok(name) if name.eq_ignore_ascii_case(word) => Ok(()),
            _ => Err(here.expected(&format!("`{word}`"))),
        }
    }

    /// In single quotes, which are doubled inside; a number may stand bare.
    fn value(&mut self) -> Result<String, NoRowFilter> {
        if !self.is_next('\'') {
            let bare = self.name().map_err(|_| self.expected("a value in single quotes"))?;
            return if bare.parse::<f64>().is_ok() {
                Ok(bare.to_owned())
            } else {
                Err(NoRowFilter::Syntax(format!("`{bare}` has to stand in single quotes")))
            };
        }
        let mut value = String::new();
        loop {
            let Some((part, rest)) = self.rest.split_once('\'') else {
                return Err(NoRowFilter::Syntax("a single quote is missing".to_owned()));
            };
            value.push_str(part);
            self.rest = rest;
            match rest.strip_prefix('\'') {
                Some(rest) => {
                    value.push('\'');
                    self.rest = rest;
                }
                None => return Ok(value),
            }
        }
    }

    fn expected(&self, what: &str) -> NoRowFilter {
        let rest = self.rest.trim_start();
        let found = if rest.is_empty() { "the end".to_owned() } else { format!("`{rest}`") };
        NoRowFilter::Syntax(format!("expected {what}, found {found}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(text: &str) -> RowFilter {
        text.parse().unwrap()
    }

    #[test]
    fn attributes_and_lists_are_read_and_written_alike() {
        let read = filter(" state in ('NH','VT')  AND list team-7 and name in ('O''Neil') ");
        assert_eq!(read.to_string(), "name in ('O''Neil') and state in ('NH', 'VT') and list team-7");
        assert_eq!(filter(&read.to_string()), read);
    }

    #[test]
    fn every_combination_is_a_profile_and_numbers_are_looked_for_both_ways() {
        let read = filter("state in ('NH', 'VT') and points in (47)");
        let profiles = [
            json!({"points": "47", "state": "NH"}),
            json!({"points": "47", "state": "VT"}),
            json!({"points": 47, "state": "NH"}),
            json!({"points": 47, "state": "VT"}),
        ];
        assert_eq!(read.settings().unwrap(), (vec![], Some(profiles.to_vec())));
        let beyond = filter("points in ('1e200000')");
        assert_eq!(beyond.profiles().unwrap(), [json!({"points": "1e200000"})]);
        assert_eq!(filter("list a").settings().unwrap(), (vec!["a"], None));
    }

    #[test]
    fn conditions_on_one_attribute_leave_what_all_of_them_allow() {
        let read = filter("state in ('NH', 'VT') and list a and state in ('VT', 'ME')");
        assert_eq!(read.to_string(), "state in ('VT') and list a");
        let nobody = "state in ('NH') and state in ('ME')".parse::<RowFilter>().unwrap_err();
        assert_eq!(nobody.to_string(), "no `state` is in all that it has to be in: nobody would be seen");
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_place() {
        for (text, reason) in [
            ("", "expected a name, found the end"),
            ("state = 'NH'", "expected `in`, found `= 'NH'`"),
            ("state in ()", "expected a value in single quotes, found `)`"),
            ("state in ('NH'", "expected `)`, found the end"),
            ("state in ('NH", "a single quote is missing"),
            ("state in (NH)", "`NH` has to stand in single quotes"),
            ("state in ('NH') or list x", "expected `and`, found `or list x`"),
            ("list", "expected a name, found the end"),
        ] {
            let refused = text.parse::<RowFilter>().unwrap_err().to_string();
            assert!(refused.starts_with(reason), "{text}: {refused}");
        }
        let many =
            |name: &str| format!("{name} in ({})", (0..40).map(|n| format!("'v{n}'")).collect::<Vec<_>>().join(", "));
        let text = format!("{} and {}", many("a"), many("b"));
        assert_eq!(text.parse::<RowFilter>(), Err(NoRowFilter::TooLarge));
    }
}
