//! Erasure: the digests by which an erased person is recognised without being remembered.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{InstallationKey, MatchKey};

/// A keyed digest of a match key, or of an id of one system.
pub type Digest = [u8; 32];

/// The key of the digests. Without it nobody can try out which email one is of.
#[derive(Clone)]
pub struct ErasureKey(Hmac<Sha256>);

impl ErasureKey {
    /// The key of an installation.
    pub fn new(key: &InstallationKey) -> Self {
        Self(key.mac("erasures"))
    }

    /// The digest of an email, however a system writes it; `None` where it is no match key.
    pub fn of_email(&self, email: &str) -> Option<Digest> {
        Some(self.of_key(&MatchKey::of_any_email(email).ok()?))
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

/// So far an email reaches before its `@`, and behind it; none that is a match key does.
const REACH: usize = 4_000;
/// So many places nearest to the `@` are tried where an email may begin.
const BEGINNINGS: usize = 16;

/// Where in a text of any form (JSON, CSV, a URL, anything) emails stand that are sought: byte ranges. They may be written
/// with escapes, of JSON (`\u002b`) or of URLs (`%40`).
///
/// What may stand before the `@` of an email (`'`, `=`, `{`) may as well stand between it and something else; so of what stands
/// there the longest part counts that is sought. But a value in quotes that is an email as a whole is that one and no other.
pub fn find_emails(text: &[u8], mut is_sought: impl FnMut(&str) -> bool) -> Vec<Range<usize>> {
    let has_escapes = memchr::memchr2(b'\\', b'%', text).is_some();
    let (plain, origins) = if has_escapes {
        let (plain, origins) = unescape(text);
        (Cow::Owned(plain), Some(origins))
    } else {
        (Cow::Borrowed(text), None)
    };
    let origin = |at: usize| origins.as_ref().map_or(at, |origins| origins[at]);
    let mut found = Vec::new();
    let mut after = 0;
    for at in memchr::memchr_iter(b'@', &plain) {
        if at < after {
            continue;
        }
        let place = Place::of(&plain, at, after);
        after = place.end;
        let mut is_sought = |range: &Range<usize>| text_of(&plain, range).is_some_and(&mut is_sought);
        let email = if place.is_whole_email(&plain) {
            Some(place.range()).filter(&mut is_sought)
        } else {
            place.candidates(&plain).find(&mut is_sought)
        };
        found.extend(email.map(|range| origin(range.start)..origin(range.end)));
    }
    found
}

/// Whether a message in Avro, as registries frame it, has an email that is sought as one of its strings.
pub fn is_in_avro(message: &[u8], mut is_sought: impl FnMut(&str) -> bool) -> bool {
    if message.first() != Some(&0) {
        return false;
    }
    // A length is written twice as large; from 64 on its last byte is none of an email.
    let email_at = |start: usize| start..start + usize::from(message[start - 1] / 2);
    memchr::memchr_iter(b'@', message).any(|at| {
        (at.saturating_sub(63).max(1)..at)
            .map(email_at)
            .filter(|range| range.end > at && message[range.start - 1].is_multiple_of(2))
            .any(|range| text_of(message, &range).is_some_and(&mut is_sought))
    })
}

fn text_of<'t>(bytes: &'t [u8], range: &Range<usize>) -> Option<&'t str> {
    std::str::from_utf8(bytes.get(range.clone())?).ok()
}

/// The surroundings of an `@` that may be an email.
struct Place {
    start: usize,
    at: usize,
    end: usize,
}

impl Place {
    fn of(text: &[u8], at: usize, after: usize) -> Self {
        let earliest = after.max(at.saturating_sub(REACH));
        let before = text[earliest..at].iter().rposition(|byte| ends_email(*byte));
        let latest = text.len().min(at + 1 + REACH);
        let behind = text[at + 1..latest].iter().position(|byte| !is_of_domain(*byte));
        Self {
            start: before.map_or(earliest, |before| earliest + before + 1),
            at,
            end: behind.map_or(latest, |behind| at + 1 + behind),
        }
    }

    fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Whether it is the whole of a value, and that is an email, though a shorter one may begin within it.
    fn is_whole_email(&self, text: &[u8]) -> bool {
        let begins = self.start == 0 || text[self.start - 1] == b'"';
        let ends = text.get(self.end).is_none_or(|byte| *byte == b'"');
        let is_email = |email| MatchKey::of_any_email(email).is_ok();
        begins && ends && self.beginnings(text).next().is_some() && text_of(text, &self.range()).is_some_and(is_email)
    }

    /// Where a shorter email may begin, the nearest to the `@` first.
    fn beginnings(&self, text: &[u8]) -> impl Iterator<Item = usize> {
        (self.start + 1..self.at).rev().filter(|start| may_begin(text, *start)).take(BEGINNINGS)
    }

    /// What may be the email, the longest first: all of it, or from a beginning that is nearer; without dots that end a
    /// sentence, and without what is no ASCII in the end, be it letters or quotes.
    fn candidates(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let domain = &text[self.at + 1..self.end];
        let ascii = domain.iter().position(|byte| !byte.is_ascii()).unwrap_or(domain.len());
        let without_dots = |length: usize| {
            let dots = domain[..length].iter().rev().take_while(|byte| **byte == b'.').count();
            self.at + 1 + length - dots
        };
        let ends = [without_dots(domain.len()), without_dots(ascii)];
        let mut starts: Vec<usize> = self.beginnings(text).collect();
        starts.push(self.start);
        starts.into_iter().rev().flat_map(move |start| ends.map(|end| start..end))
    }
}

/// Bytes without escapes, each with where it stood, and where the last one ended. The letters of control characters of JSON
/// (`\n`) become spaces, and so do backslashes.
fn unescape(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut plain, mut origins) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let mut letter = [0; 4];
        let (bytes, length): (&[u8], usize) = match (byte, text.get(at + 1)) {
            (b'\\', Some(b'u')) => match escaped(text, at) {
                Some((character, length)) => (character.encode_utf8(&mut letter).as_bytes(), length),
                None => (b" ", 1),
            },
            (b'\\', Some(b'n' | b'r' | b't' | b'b' | b'f' | b'\\')) => (b" ", 2),
            (b'\\', Some(_)) => (b" ", 1),
            (b'%', Some(_)) => match hex(text, at + 1, 2) {
                Some(code) => {
                    letter[0] = code.to_le_bytes()[0];
                    (&letter[..1], 3)
                }
                None => (b"%", 1),
            },
            _ => (std::slice::from_ref(byte), 1),
        };
        plain.extend_from_slice(bytes);
        origins.extend(std::iter::repeat_n(at, bytes.len()));
        at += length;
    }
    origins.push(text.len());
    (plain, origins)
}

/// The character of `\u002b`, or of two such that are one, and how long that is.
fn escaped(text: &[u8], at: usize) -> Option<(char, usize)> {
    let first = hex(text, at + 2, 4)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = hex(text, at + 8, 4).filter(|_| text.get(at + 6..at + 8) == Some(b"\\u"))?;
    let character = char::decode_utf16([u16::try_from(first).ok()?, u16::try_from(second).ok()?]).next()?.ok()?;
    Some((character, 12))
}

fn hex(text: &[u8], at: usize, digits: usize) -> Option<u32> {
    let digits = text.get(at..at + digits)?;
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
}

fn ends_email(byte: u8) -> bool {
    byte <= b' ' || b"\"<>()[],;:".contains(&byte)
}

fn is_of_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"-._@".contains(&byte)
}

/// Whether an email may begin behind what may also be part of it: a quote that is no apostrophe, a mark of URLs and templates,
/// a letter or a quote of other scripts.
fn may_begin(text: &[u8], start: usize) -> bool {
    let before = text[start - 1];
    let is_quote = before == b'\'' && !(start > 1 && text[start - 2].is_ascii_alphanumeric());
    is_quote || b"=?&/{}|!*`#".contains(&before) || !before.is_ascii() && text[start].is_ascii()
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
            (
                r#"{"a":"ann\u002Bb\u0040x.example","b":"m@b\u00fccher.example"}"#,
                &[r"ann\u002Bb\u0040x.example", r"m@b\u00fccher.example"],
            ),
            ("https://x.example/?a=1&to=ann%2Bb%40x.example&b=2", &["//x.example/?a=1&to=ann%2Bb%40x.example"]),
            ("100%@x 5%zz @ . @.", &["100%@x", "@", "@"]),
            ("", &[]),
        ] {
            let found = find_emails(text.as_bytes(), |_| true);
            let found: Vec<&str> = found.into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn an_email_is_found_behind_what_could_be_part_of_it_and_nobody_else_is() {
        for (sought, text, expected) in [
            ("o'neil@x.example", "to o'neil@x.example", "o'neil@x.example"),
            ("neil@x.example", "to o'neil@x.example", ""),
            ("neil@x.example", "to 'neil@x.example'", "neil@x.example"),
            ("neil@x.example", "?to=neil@x.example&a", "neil@x.example"),
            ("a=neil@x.example", "x?a=neil@x.example y", "a=neil@x.example"),
            ("neil@x.example", "{{neil@x.example}}", "neil@x.example"),
            ("neil@x.example", "oneil@x.example", ""),
            ("neil@x.example.com", "neil@x.example", ""),
            ("smith@north-example.com", "ann.smith@north-example.com", ""),
            ("smith@x.example", r#"{"email":"o=smith@x.example"}"#, ""),
            ("smith@x.example", "o=smith@x.example", ""),
            ("smith@x.example", "to o=smith@x.example", "smith@x.example"),
            ("neil@x.example", "“neil@x.example”, »neil@x.example«", "neil@x.example"),
            ("neil@x.example", "地址 请联系neil@x.example。", "neil@x.example"),
            ("neil@bücher.example", "“neil@bücher.example”", ""),
            ("neil@bücher.example", "to neil@bücher.example.", "neil@bücher.example"),
            ("neil+😀@x.example", r#""neil+\ud83d\ude00@x.example""#, r"neil+\ud83d\ude00@x.example"),
        ] {
            let found = find_emails(text.as_bytes(), |email| email == sought);
            let mut found: Vec<&str> = found.into_iter().map(|range| &text[range]).collect();
            found.dedup();
            assert_eq!(found, Vec::from_iter(Some(expected).filter(|text| !text.is_empty())), "{text}");
        }
    }
    #[test]
    fn an_email_is_found_in_a_message_in_avro_by_its_length() {
        let long = format!("{}@x.example", "a".repeat(70));
        for (message, email, expected) in [
            (&b"\0\0\0\0\x01\x020matthew.groves@x.example"[..], "matthew.groves@x.example", true),
            (b"\0\0\0\0\x01\x06Ann0matthew.groves@x.example\x06NHx", "matthew.groves@x.example", true),
            (b"\0\0\0\0\x01\x022amatthew.groves@x.example", "matthew.groves@x.example", false),
            (b"0matthew.groves@x.example", "matthew.groves@x.example", false),
            (b"\0@", "@", false),
        ] {
            assert_eq!(is_in_avro(message, |found| found == email), expected, "{message:?}");
        }
        let message = [b"\0\0\0\0\x01\x02\xa2\x01", long.as_bytes()].concat();
        assert!(!find_emails(&message, |found| found == long).is_empty());
    }

    /// Whoever writes them has to wait for as long as this takes.
    #[test]
    fn texts_that_could_be_emails_in_many_ways_are_looked_at_a_few_times() {
        for text in [
            "=".repeat(1 << 20) + "@x",
            "@=".repeat(1 << 19),
            format!("a@{}", "x".repeat(1 << 20)),
            "é@".repeat(1 << 18),
        ] {
            let mut bytes = 0;
            assert!(
                find_emails(text.as_bytes(), |email| {
                    bytes += email.len();
                    false
                })
                .is_empty()
            );
            assert!(bytes < 40 * text.len() + 40 * 2 * REACH, "{bytes}");
        }
    }
}
