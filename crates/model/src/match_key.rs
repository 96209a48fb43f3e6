//! Match keys: the normalised email by which records of different systems find each other.

use std::fmt;

use regex::RegexSet;
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::Decisions;

/// Raised when the rule below changes for keys that tables hold, which makes a rebuild due.
pub const MATCH_KEY_VERSION: u32 = 1;

/// What indexes hold. No email that is delivered is nearly as long.
const MAX_BYTES: usize = 2_000;

/// A normalised email, or `#system:id` for a cross-reference that an operator split off. One customer per match key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatchKey(String);

/// Why a cross-reference belongs to no customer; the words of `xrefs.unmatched_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unmatched {
    /// The system knows no email.
    NoEmail,
    /// What it knows is no email.
    InvalidEmail,
    /// A placeholder or shared mailbox that configuration or an operator blocks.
    Blocked,
    /// One system has too many living cross-references under one match key.
    Crowded,
}

impl Unmatched {
    /// The word in `xrefs.unmatched_reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoEmail => "no_email",
            Self::InvalidEmail => "invalid_email",
            Self::Blocked => "blocked",
            Self::Crowded => "crowded",
        }
    }
}

/// What keeps a record away from profiles: blocked emails and crowded match keys.
#[derive(Clone, Debug)]
pub struct Guards {
    blocked: RegexSet,
    /// Most living cross-references of one system under one match key.
    pub max_xrefs_per_system: usize,
}

impl Guards {
    /// Blocked patterns are compared with the whole normalised email; `*` is the only wildcard.
    pub fn new<P: AsRef<str>>(blocked: &[P], max_xrefs_per_system: usize) -> Result<Self, regex::Error> {
        let patterns = blocked.iter().map(|pattern| {
            let literal: Vec<_> = fold(pattern.as_ref().trim()).split('*').map(regex::escape).collect();
            format!("(?s)^{}$", literal.join(".*"))
        });
        Ok(Self { blocked: RegexSet::new(patterns)?, max_xrefs_per_system })
    }

    /// No guards at all.
    pub fn none() -> Self {
        Self { blocked: RegexSet::empty(), max_xrefs_per_system: usize::MAX }
    }

    /// What is blocked, in an order of its own.
    pub(crate) fn patterns(&self) -> Vec<&str> {
        let mut patterns: Vec<&str> = self.blocked.patterns().iter().map(String::as_str).collect();
        patterns.sort_unstable();
        patterns
    }
}

impl MatchKey {
    /// The match key of an email as a system writes it, or why it has none.
    ///
    /// Trimmed, without display name and `mailto:`, NFC, lower case, the domain in punycode; at most 2,000 bytes. Nothing else is
    /// folded: dots and plus tags mean what their provider says, and we do not know it.
    pub fn of_email(email: &str, guards: &Guards, decisions: &Decisions) -> Result<Self, Unmatched> {
        let folded = fold(address(email));
        if guards.blocked.is_match(&folded) || decisions.is_blocked(&folded) {
            return Err(Unmatched::Blocked);
        }
        if folded.is_empty() {
            return Err(Unmatched::NoEmail);
        }
        let (local, domain) = folded.split_once('@').ok_or(Unmatched::InvalidEmail)?;
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if local.is_empty() || domain.is_empty() || domain.contains('@') || folded.contains(odd) {
            return Err(Unmatched::InvalidEmail);
        }
        match idna::domain_to_ascii(domain) {
            Ok(domain) if !domain.is_empty() && local.len() + 1 + domain.len() <= MAX_BYTES => {
                let key = format!("{local}@{domain}");
                // Operators block match keys, however a system writes the domain.
                if decisions.is_blocked(&key) { Err(Unmatched::Blocked) } else { Ok(Self(key)) }
            }
            _ => Err(Unmatched::InvalidEmail),
        }
    }

    /// The match key of an email, whatever is blocked.
    pub fn of_any_email(email: &str) -> Result<Self, Unmatched> {
        Self::of_email(email, &Guards::none(), &Decisions::default())
    }

    /// The match key of a cross-reference that an operator split off.
    pub fn of_split(system: &str, external_id: &str) -> Self {
        Self(format!("#{system}:{external_id}"))
    }

    /// Whether it can be stored; a split of a very long id cannot.
    pub fn fits(&self) -> bool {
        self.0.len() <= MAX_BYTES
    }

    /// A match key as stored.
    pub fn from_stored(key: String) -> Self {
        Self(key)
    }

    /// The key by its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an operator made this key by a split; it is no email then. An email may begin with `#`, but has no colon
    /// before its `@`.
    pub fn is_split(&self) -> bool {
        let before_at = self.0.split('@').next().unwrap_or_default();
        before_at.starts_with('#') && before_at.contains(':')
    }

    /// The customer's id: stable over rebuilds, and not to be guessed without the installation's namespace.
    pub fn customer_id(&self, namespace: Uuid) -> Uuid {
        Uuid::new_v5(&namespace, self.0.as_bytes())
    }
}

impl fmt::Display for MatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes display name and `mailto:` off.
fn address(email: &str) -> &str {
    let mut address = email.trim();
    if let Some(inner) = address.strip_suffix('>')
        && let Some((_, inner)) = inner.rsplit_once('<')
    {
        address = inner.trim();
    }
    if let Some((scheme, rest)) = address.split_at_checked("mailto:".len())
        && scheme.eq_ignore_ascii_case("mailto:")
    {
        address = rest.split_once('?').map_or(rest, |(path, _)| path);
    }
    address.trim()
}

fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfc().collect::<String>().to_lowercase().nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(email: &str) -> Result<String, Unmatched> {
        let guards = Guards::new(&["n/a", "none", "test@*", "NoReply@*"], 10).unwrap();
        MatchKey::of_email(email, &guards, &Decisions::default()).map(|key| key.0)
    }

    #[test]
    fn emails_that_mean_the_same_have_one_key() {
        for (email, expected) in [
            ("matthew.groves@couchbase.com", "matthew.groves@couchbase.com"),
            ("  Matthew.Groves@Couchbase.COM\u{a0}", "matthew.groves@couchbase.com"),
            ("Matthew Groves <matthew.groves@couchbase.com>", "matthew.groves@couchbase.com"),
            ("\"<a>\" < MAILTO:m@x.com?subject=hi >", "m@x.com"),
            ("m+tag@x.com", "m+tag@x.com"),
            ("m@BÜCHER.example", "m@xn--bcher-kva.example"),
            ("M@b\u{75}\u{308}cher.example", "m@xn--bcher-kva.example"),
            ("m@straße.example", "m@xn--strae-oqa.example"),
            ("I\u{307}@x.com", "i\u{307}@x.com"),
        ] {
            assert_eq!(key(email).as_deref(), Ok(expected), "{email}");
        }
    }

    #[test]
    fn unusable_emails_say_why() {
        for (email, expected) in [
            ("", Unmatched::NoEmail),
            ("   ", Unmatched::NoEmail),
            ("<>", Unmatched::NoEmail),
            ("N/A", Unmatched::Blocked),
            ("test@example.com", Unmatched::Blocked),
            ("Shop <noreply@shop.example>", Unmatched::Blocked),
            ("matthew", Unmatched::InvalidEmail),
            ("@x.com", Unmatched::InvalidEmail),
            ("m@", Unmatched::InvalidEmail),
            ("a@b@c", Unmatched::InvalidEmail),
            ("a b@x.com", Unmatched::InvalidEmail),
            ("a\u{7}@x.com", Unmatched::InvalidEmail),
            ("m@xn--\u{fc}", Unmatched::InvalidEmail),
        ] {
            assert_eq!(key(email), Err(expected), "{email:?}");
        }
    }

    #[test]
    fn a_wildcard_is_the_only_thing_special_in_a_pattern() {
        let guards = Guards::new(&["a.b@*", "*@spam.example"], 10).unwrap();
        let blocked = |email| MatchKey::of_email(email, &guards, &Decisions::default()).is_err();
        assert!(blocked("a.b@x.com") && blocked("who@spam.example"));
        assert!(!blocked("axb@x.com") && !blocked("who@spamxexample"));
    }
}
