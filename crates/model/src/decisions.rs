//! Operators' decisions in force: what a profile depends on beside cross-references and rules.

use std::collections::{HashMap, HashSet};

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::MatchKey;

/// What an operator has decided. Stored and written as a kind, which is a word, and a subject, which is a list of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// `from` leads to the customer of `into`.
    Merge {
        /// The match key that leads elsewhere.
        from: MatchKey,
        /// Where it leads.
        into: MatchKey,
    },
    /// The cross-reference has a customer of its own.
    Split {
        /// The source system.
        system: String,
        /// The id that it has there.
        external_id: String,
    },
    /// This match key, a normalised email, is nobody's.
    Block(MatchKey),
    /// This match key may be crowded.
    Allow(MatchKey),
}

impl Ruling {
    /// `None` for what this version does not know.
    pub fn from_stored(kind: &str, subject: &[String]) -> Option<Self> {
        let key = |word: &String| MatchKey::from_stored(word.clone());
        match (kind, subject) {
            ("merge", [from, into]) => Some(Self::Merge { from: key(from), into: key(into) }),
            ("split", [system, external_id]) => {
                Some(Self::Split { system: system.clone(), external_id: external_id.clone() })
            }
            ("block", [word]) => Some(Self::Block(key(word))),
            ("allow", [word]) => Some(Self::Allow(key(word))),
            _ => None,
        }
    }

    /// `merge`, `split`, `block` or `allow`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Merge { .. } => "merge",
            Self::Split { .. } => "split",
            Self::Block(_) => "block",
            Self::Allow(_) => "allow",
        }
    }

    /// merge: from and into match key; split: system and external id; block, allow: match key.
    pub fn subject(&self) -> Vec<&str> {
        match self {
            Self::Merge { from, into } => vec![from.as_str(), into.as_str()],
            Self::Split { system, external_id } => vec![system, external_id],
            Self::Block(key) | Self::Allow(key) => vec![key.as_str()],
        }
    }

    /// The match keys that it is about.
    pub fn keys(&self) -> Vec<MatchKey> {
        match self {
            Self::Merge { from, into } => vec![from.clone(), into.clone()],
            Self::Split { system, external_id } => vec![MatchKey::of_split(system, external_id)],
            Self::Block(key) | Self::Allow(key) => vec![key.clone()],
        }
    }
}

impl Serialize for Ruling {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut stored = serializer.serialize_struct("Ruling", 2)?;
        stored.serialize_field("kind", self.kind())?;
        stored.serialize_field("subject", &self.subject())?;
        stored.end()
    }
}

/// The decisions that stand, collected in the order made.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    merged_into: HashMap<MatchKey, MatchKey>,
    /// The same from the other end.
    merged_from: HashMap<MatchKey, Vec<MatchKey>>,
    split: HashSet<(String, String)>,
    blocked: HashSet<String>,
    allowed: HashSet<MatchKey>,
}

impl FromIterator<Ruling> for Decisions {
    fn from_iter<I: IntoIterator<Item = Ruling>>(rulings: I) -> Self {
        let mut decisions = Self::default();
        for ruling in rulings {
            match ruling {
                Ruling::Merge { from, into } => {
                    if let Some(before) = decisions.merged_into.insert(from.clone(), into.clone()) {
                        decisions.merged_from.entry(before).or_default().retain(|other| *other != from);
                    }
                    decisions.merged_from.entry(into).or_default().push(from);
                }
                Ruling::Split { system, external_id } => {
                    decisions.split.insert((system, external_id));
                }
                Ruling::Block(key) => {
                    decisions.blocked.insert(key.as_str().to_owned());
                }
                Ruling::Allow(key) => {
                    decisions.allowed.insert(key);
                }
            }
        }
        decisions
    }
}

impl Decisions {
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
        let mut leading = vec![key];
        let mut seen = 0;
        while let Some(into) = leading.get(seen) {
            // Who is on a circle leads nowhere.
            let merged = self.merged_from.get(*into).into_iter().flatten();
            leading.extend(merged.filter(|from| *from != key && self.resolve(from) == key));
            seen += 1;
        }
        leading.into_iter().cloned().collect()
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
        let merge = |from, into| Ruling::Merge { from: key(from), into: key(into) };
        let decisions: Decisions = [merge("a@x", "b@x"), merge("b@x", "c@x")].into_iter().collect();
        assert_eq!(decisions.resolve(&key("a@x")), &key("c@x"));
        let mut leading = decisions.leading_to(&key("c@x"));
        leading.sort();
        assert_eq!(leading, [key("a@x"), key("b@x"), key("c@x")]);
        let circle = [merge("a@x", "b@x"), merge("b@x", "c@x"), merge("c@x", "a@x"), merge("d@x", "a@x")];
        let circle: Decisions = circle.into_iter().collect();
        assert_eq!(circle.resolve(&key("a@x")), &key("a@x"));
        assert_eq!(circle.leading_to(&key("a@x")), [key("a@x")]);
        let itself: Decisions = [merge("a@x", "a@x")].into_iter().collect();
        assert_eq!(itself.leading_to(&key("a@x")), [key("a@x")]);
        let again: Decisions = [merge("a@x", "b@x"), merge("a@x", "c@x")].into_iter().collect();
        assert_eq!(again.leading_to(&key("b@x")), [key("b@x")], "the later one counts");
        assert_eq!(again.leading_to(&key("c@x")), [key("c@x"), key("a@x")]);
    }

    #[test]
    fn a_ruling_is_stored_as_kind_and_subject() {
        let (from, into, word) = (key("a@x"), key("b@x"), key("c@x"));
        let split = Ruling::Split { system: "loyalty".to_owned(), external_id: "2".to_owned() };
        for ruling in [Ruling::Merge { from, into }, split, Ruling::Block(word.clone()), Ruling::Allow(word)] {
            let subject: Vec<String> = ruling.subject().into_iter().map(str::to_owned).collect();
            assert_eq!(Ruling::from_stored(ruling.kind(), &subject), Some(ruling));
        }
        assert_eq!(Ruling::from_stored("merge", &["a@x".to_owned()]), None);
        assert_eq!(Ruling::from_stored("forget", &["a@x".to_owned()]), None);
    }
}
