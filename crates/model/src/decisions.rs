//! Operators' decisions in force: what a profile depends on beside cross-references and rules.

use std::collections::{HashMap, HashSet};

use crate::MatchKey;

/// The decisions that stand. Built from `customer360.decisions`, undone ones left out.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    merged_into: HashMap<MatchKey, MatchKey>,
    split: HashSet<(String, String)>,
    blocked: HashSet<String>,
    allowed: HashSet<MatchKey>,
}

impl Decisions {
    /// `merge from into`: `from` leads to the customer of `into` from now on.
    pub fn merge(&mut self, from: MatchKey, into: MatchKey) {
        self.merged_into.insert(from, into);
    }

    /// `split system id`: the cross-reference has a customer of its own.
    pub fn split(&mut self, system: String, external_id: String) {
        self.split.insert((system, external_id));
    }

    /// `block value`: this normalised email matches nobody.
    pub fn block(&mut self, value: String) {
        self.blocked.insert(value);
    }

    /// `allow key`: this match key may be crowded.
    pub fn allow(&mut self, key: MatchKey) {
        self.allowed.insert(key);
    }

    /// Where a match key leads: through all merges to the last one. Commands refuse cycles; should the table hold one all
    /// the same, the key stays where it is.
    pub fn resolve<'a>(&'a self, key: &'a MatchKey) -> &'a MatchKey {
        let mut at = key;
        for _ in 0..=self.merged_into.len() {
            match self.merged_into.get(at) {
                Some(next) => at = next,
                None => return at,
            }
        }
        key
    }

    /// All match keys that lead to this one, itself included.
    pub fn leading_to(&self, key: &MatchKey) -> Vec<MatchKey> {
        let merged = self.merged_into.keys().filter(|from| *from != key && self.resolve(from) == key);
        std::iter::once(key).chain(merged).cloned().collect()
    }

    /// Whether a cross-reference was split off.
    pub fn is_split(&self, system: &str, external_id: &str) -> bool {
        !self.split.is_empty() && self.split.contains(&(system.to_owned(), external_id.to_owned()))
    }

    /// Whether a normalised email is blocked by an operator.
    pub fn is_blocked(&self, email: &str) -> bool {
        self.blocked.contains(email)
    }

    /// Whether a match key may be crowded.
    pub fn is_allowed(&self, key: &MatchKey) -> bool {
        self.allowed.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> MatchKey {
        MatchKey::from_stored(text.to_owned())
    }

    #[test]
    fn merges_are_transitive_and_a_cycle_moves_nobody() {
        let mut decisions = Decisions::default();
        decisions.merge(key("a@x"), key("b@x"));
        decisions.merge(key("b@x"), key("c@x"));
        assert_eq!(decisions.resolve(&key("a@x")), &key("c@x"));
        let mut leading = decisions.leading_to(&key("c@x"));
        leading.sort();
        assert_eq!(leading, [key("a@x"), key("b@x"), key("c@x")]);
        decisions.merge(key("c@x"), key("a@x"));
        assert_eq!(decisions.resolve(&key("a@x")), &key("a@x"));
    }
}
