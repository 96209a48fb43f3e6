//! Badges of systems: two letters made from the name, no two alike.

use std::collections::HashMap;

use consolidate::edit::BY_HAND;

use super::locale::Locale;
use crate::api::written_through::WrittenThrough;

/// A system's letters, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Badge {
    pub(super) letters: String,
    pub(super) system: String,
}

/// The badges of the systems of the configuration, in its order.
pub(super) struct Systems {
    names: Vec<String>,
    letters: HashMap<String, String>,
}

impl Systems {
    pub(super) fn new(names: &[String]) -> Self {
        let mut letters: HashMap<String, String> = HashMap::new();
        for name in names {
            let free = spellings(name).find(|spelling| !letters.values().any(|taken| taken == spelling));
            letters.insert(name.clone(), free.unwrap_or_else(|| initials(name)));
        }
        Self { names: names.to_vec(), letters }
    }

    /// The names, in the order of the configuration.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Those that customers can be filtered by.
    pub(super) fn filters(&self) -> impl Iterator<Item = &str> {
        let by_hand = Some(BY_HAND).filter(|by_hand| !self.names.iter().any(|name| name == by_hand));
        self.names.iter().map(String::as_str).chain(by_hand)
    }

    /// The badge of any system, also of one that is not configured any more.
    pub(super) fn badge(&self, system: &str) -> Badge {
        let letters = self.letters.get(system).cloned().unwrap_or_else(|| initials(system));
        Badge { letters, system: system.to_owned() }
    }

    /// One slot for each system of the configuration, empty if it is not among these; then whatever else is.
    pub(super) fn slots(&self, systems: &[String]) -> Vec<Option<Badge>> {
        let slot = |name: &String| systems.contains(name).then(|| self.badge(name));
        let others = systems.iter().filter(|name| !self.names.contains(name));
        self.names.iter().map(slot).chain(others.map(|name| Some(self.badge(name)))).collect()
    }
}

/// The first letters of the first two words, or the first two of the only one.
fn initials(name: &str) -> String {
    spellings(name).next().unwrap_or_else(|| "?".to_owned())
}

/// What the letters may be, best first.
fn spellings(name: &str) -> impl Iterator<Item = String> {
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let all: Vec<char> = words.concat().chars().collect();
    let first = all.first().copied();
    let second = words.get(1).and_then(|word| word.chars().next());
    let others = all.into_iter().skip(1).chain('1'..='9');
    let seconds = second.into_iter().chain(others);
    seconds.filter_map(move |second| Some(format!("{}{second}", first?).to_uppercase()))
}

/// What an attribute is called on a page: `loyaltyPoints` is Loyalty points.
pub(super) fn label(attribute: &str) -> String {
    let mut label = String::new();
    let mut before = ' ';
    for char in attribute.chars() {
        let begins = char.is_uppercase() && before.is_lowercase() || char.is_ascii_digit() && before.is_alphabetic();
        match char {
            '_' | '-' | '.' => label.push(' '),
            _ if label.is_empty() => label.extend(char.to_uppercase()),
            _ if begins => {
                label.push(' ');
                label.extend(char.to_lowercase());
            }
            _ => label.push(char),
        }
        before = char;
    }
    label
}

/// How many there are, with the right form of the word.
pub(super) fn counted(locale: &Locale, count: i64, one: &str, many: &str) -> String {
    format!("{} {}", locale.count(count), if count == 1 { one } else { many })
}

/// What of the edits on a cross-reference its source has yet to take, or does not.
pub(super) fn unsent(locale: &Locale, edits: &[&WrittenThrough]) -> Vec<String> {
    let mut lines = Vec::new();
    for edit in edits.iter().filter(|edit| edit.creates()) {
        let reason = edit.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let waits = if edit.waits() { "Waits to be made in" } else { "Is refused by" };
        lines.push(format!("{waits} {}{reason}", edit.system));
    }
    let changes = || edits.iter().filter(|edit| !edit.creates());
    let waiting: Vec<&str> =
        changes().filter(|edit| edit.waits()).flat_map(|edit| &edit.attributes).map(String::as_str).collect();
    if !waiting.is_empty() {
        let number = i64::try_from(waiting.len()).unwrap_or(i64::MAX);
        let waits = counted(locale, number, "edit waits", "edits wait");
        lines.push(format!("{waits} to be sent: {}", waiting.join(", ")));
    }
    for edit in changes().filter(|edit| !edit.waits()) {
        let number = i64::try_from(edit.attributes.len()).unwrap_or(i64::MAX);
        let refused = counted(locale, number, "edit is refused", "edits are refused");
        let reason = edit.reason.as_deref().unwrap_or_default();
        lines.push(format!("{refused}: {} ({reason})", edit.attributes.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_come_from_the_words_and_no_two_systems_share_them() {
        let names = ["home_delivery", "loyalty", "online_store", "crm", "home_decor", "hd", "x"].map(str::to_owned);
        let systems = Systems::new(&names);
        let letters: Vec<String> = names.iter().map(|name| systems.badge(name).letters).collect();
        assert_eq!(letters, ["HD", "LO", "OS", "CR", "HO", "H1", "X1"]);
        assert_eq!(systems.badge("gone_system").letters, "GS");
        let slots = systems.slots(&["crm".to_owned(), "gone_system".to_owned()]);
        let shown: Vec<&str> = slots.iter().map(|slot| slot.as_ref().map_or(".", |badge| &badge.letters)).collect();
        assert_eq!(shown, [".", ".", ".", "CR", ".", ".", ".", "GS"]);
    }

    #[test]
    fn attributes_are_written_as_words() {
        for (attribute, written) in [
            ("loyaltyPoints", "Loyalty points"),
            ("address1", "Address 1"),
            ("first_name", "First name"),
            ("VAT", "VAT"),
        ] {
            assert_eq!(label(attribute), written);
        }
    }
}
