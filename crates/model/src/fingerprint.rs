//! The fingerprint of rules: whether profiles that were made then would be made the same way now.

use sha2::{Digest, Sha256};

use crate::{Guards, MATCH_KEY_VERSION, Survivorship};

/// The same for rules that give the same profiles, whatever order patterns and attributes are written in.
pub fn fingerprint(survivorship: &Survivorship, guards: &Guards) -> String {
    let mut attributes: Vec<_> = survivorship.attributes.iter().collect();
    attributes.sort();
    let rules = serde_json::json!([
        MATCH_KEY_VERSION,
        guards.patterns(),
        guards.max_xrefs_per_system,
        survivorship.prefer,
        survivorship.groups,
        attributes,
    ]);
    hex::encode(Sha256::digest(rules.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn rules_that_give_other_profiles_have_another_fingerprint() {
        let guards = |blocked: &[&str], max| Guards::new(blocked, max).unwrap();
        let rules = Survivorship { prefer: words(&["a", "b"]), ..Survivorship::default() };
        let print = fingerprint(&rules, &guards(&["x@*", "none"], 10));
        assert_eq!(print, fingerprint(&rules, &guards(&["NONE", "x@*"], 10)));
        assert_ne!(print, fingerprint(&rules, &guards(&["none"], 10)));
        assert_ne!(print, fingerprint(&rules, &guards(&["x@*", "none"], 11)));
        let mut other = rules.clone();
        other.prefer.reverse();
        assert_ne!(print, fingerprint(&other, &guards(&["x@*", "none"], 10)));
        let other = Survivorship { attributes: HashMap::from([("name".to_owned(), words(&["b"]))]), ..rules };
        assert_ne!(print, fingerprint(&other, &guards(&["x@*", "none"], 10)));
    }
}
