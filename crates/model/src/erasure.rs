//! Erasure: the digests by which an erased person is recognised without being remembered.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{Decisions, Guards, InstallationKey, MatchKey};

/// A keyed digest of a match key, or of an id of one system.
pub type Digest = [u8; 32];

/// The key of the digests. Without it nobody can try out which email one is of.
#[derive(Clone)]
pub struct ErasureKey(Hmac<Sha256>);

impl ErasureKey {
    /// The key of an installation.
    pub fn new(key: &InstallationKey) -> Self {
        let key = key.subkey("erasures");
        // HMAC takes keys of any length.
        Self(Hmac::new_from_slice(&key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length")))
    }

    /// The digest of an email, however a system writes it; `None` where it is no match key.
    pub fn of_email(&self, email: &str) -> Option<Digest> {
        let key = MatchKey::of_email(email, &Guards::none(), &Decisions::default()).ok()?;
        Some(self.of_key(&key))
    }

    /// The digest of a match key.
    pub fn of_key(&self, key: &MatchKey) -> Digest {
        self.digest(&[b"key", key.as_str().as_bytes()])
    }

    /// The digest of an id of one system.
    pub fn of_id(&self, system: &str, external_id: &str) -> Digest {
        self.digest(&[b"id", system.as_bytes(), external_id.as_bytes()])
    }

    fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
            // A source's name has no NUL, nor has anything that Postgres stores.
            mac.update(&[0]);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for ErasureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErasureKey(..)")
    }
}

/// Where in a text of any form (JSON, CSV, anything) something stands that looks like an email: byte ranges, none of which
/// holds a quote, a backslash or white space.
pub fn emails_in(text: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut after = 0;
    memchr::memchr_iter(b'@', text).filter_map(move |at| {
        if at < after {
            return None;
        }
        let start = text[..at].iter().rposition(|byte| ends_email(*byte)).map_or(0, |before| before + 1);
        let end = text[at + 1..].iter().position(|byte| ends_email(*byte)).map_or(text.len(), |length| at + 1 + length);
        after = end;
        // In JSON the letter behind a backslash belongs to it.
        let escaped = start > 0 && text[start - 1] == b'\\' && b"nrtbf".contains(&text[start]);
        let start = start + usize::from(escaped);
        let dots = text[start..end].iter().rev().take_while(|byte| **byte == b'.').count();
        Some(start..end - dots)
    })
}

fn ends_email(byte: u8) -> bool {
    byte <= b' '
        || matches!(
            byte,
            b'"' | b'\''
                | b'\\'
                | b'<'
                | b'>'
                | b'('
                | b')'
                | b'['
                | b']'
                | b'{'
                | b'}'
                | b','
                | b';'
                | b':'
                | b'|'
                | b'?'
                | b'='
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_has_one_digest_however_it_is_written_under_one_key_only() {
        let key = ErasureKey::new(&InstallationKey::new([1; 32]));
        let other = ErasureKey::new(&InstallationKey::new([2; 32]));
        let digest = key.of_email("m@bücher.example");
        assert!(digest.is_some());
        assert_eq!(digest, key.of_email(" M <mailto:M@BÜCHER.example>"));
        assert_eq!(digest, key.of_email("m@xn--bcher-kva.example"));
        assert_ne!(digest, other.of_email("m@bücher.example"));
        assert_eq!(key.of_email("n/a"), None);
        assert_ne!(key.of_id("a", "bc"), key.of_id("ab", "c"));
        assert_eq!(format!("{key:?}"), "ErasureKey(..)");
    }

    #[test]
    fn emails_are_found_in_texts_of_any_form() {
        for (text, expected) in [
            (r#"{"email":"Ann@x.example","to":["b@x.example"]}"#, &["Ann@x.example", "b@x.example"][..]),
            ("27,pw,Ann,Groves,ann@x.example,47", &["ann@x.example"]),
            ("Ann <ann@x.example>; see ann+b@x.example.", &["ann@x.example", "ann+b@x.example"]),
            (r#"{"a":"line\nann@x.example\n"}"#, &["ann@x.example"]),
            ("a@b@c nobody", &["a@b@c"]),
            ("mailto:ann@x.example?subject=hi", &["ann@x.example"]),
            ("", &[]),
        ] {
            let found: Vec<&str> = emails_in(text.as_bytes()).map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
