//! A look into JSON objects that borrows everything: members by the text of their name and value.

use std::borrow::Cow;

/// One member of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    /// What stands between the quotes of the name, escapes and all.
    pub(super) raw_name: &'a str,
    /// Whether there are escapes in it.
    is_escaped: bool,
    /// The text of the value.
    pub(super) value: &'a str,
}

impl<'a> Member<'a> {
    /// The name, escapes resolved.
    pub(super) fn name(&self) -> Cow<'a, str> {
        if self.is_escaped {
            Cow::Owned(serde_json::from_str(&format!("\"{}\"", self.raw_name)).unwrap_or_default())
        } else {
            Cow::Borrowed(self.raw_name)
        }
    }
}

/// The members of an object, in order, repeated names included. The text must have been validated: of anything that is no
/// JSON object the iterator just ends somewhere.
pub(super) fn members(object: &str) -> Members<'_> {
    let start = object.find('{').map_or(object.len(), |at| at + 1);
    Members { text: object, at: start }
}

/// See [`members`].
#[derive(Debug)]
pub(super) struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let bytes = self.text.as_bytes();
        let mut at = skip_space(bytes, self.at);
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
        if bytes.get(at) != Some(&b'"') {
            return None;
        }
        let (name_end, is_escaped) = string_end(bytes, at);
        let raw_name = self.text.get(at + 1..name_end - 1)?;
        at = skip_space(bytes, name_end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        at = skip_space(bytes, at + 1);
        let end = value_end(bytes, at);
        self.at = end;
        Some(Member { raw_name, is_escaped, value: self.text.get(at..end)? })
    }
}

/// Where `part`, a piece of `text`, begins in it.
pub(super) fn offset_in(text: &str, part: &str) -> usize {
    part.as_ptr().addr().wrapping_sub(text.as_ptr().addr())
}

/// White space of JSON around a value taken off.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// The string that a JSON value is, if it is one.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The integer that a JSON value is, also where it is written as a string.
pub(super) fn integer<T: std::str::FromStr>(raw: &str) -> Option<T> {
    raw.trim_matches('"').parse().ok()
}

pub(super) fn is_object(raw: &str) -> bool {
    raw.starts_with('{')
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// `at` is on the opening quote; returns the place behind the closing one, and whether there are escapes before it.
/// Strings are short here: eight bytes at a time beat a call to memchr.
fn string_end(bytes: &[u8], at: usize) -> (usize, bool) {
    const LOWS: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = LOWS << 7;
    let zeros = |word: u64| word.wrapping_sub(LOWS) & !word & HIGHS;
    let (mut at, mut escaped) = (at + 1, false);
    loop {
        while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*chunk);
            let found = zeros(word ^ (LOWS * u64::from(b'"'))) | zeros(word ^ (LOWS * u64::from(b'\\')));
            if found != 0 {
                at += found.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        match bytes.get(at) {
            None => return (bytes.len().max(2), escaped),
            Some(b'"') => return (at + 1, escaped),
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(_) => at += 1,
        }
    }
}

fn value_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        None => at,
        Some(b'"') => string_end(bytes, at).0,
        Some(b'{' | b'[') => container_end(bytes, at),
        Some(_) => {
            let scalar = bytes[at..]
                .iter()
                .take_while(|byte| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'));
            at + scalar.count()
        }
    }
}

fn container_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at).0;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_found_with_their_exact_text() {
        let text = r#" { "a" : 1 , "b\u0063":"x\"}" ,"d":{"e":[1,"]"]}, "f":null,"a":-2.5e3 } "#;
        let found: Vec<_> = members(text).map(|member| (member.name().into_owned(), member.value)).collect();
        let expected = [("a", "1"), ("bc", r#""x\"}""#), ("d", r#"{"e":[1,"]"]}"#), ("f", "null"), ("a", "-2.5e3")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[{}\\[\\]\",:\\\\ au0-9é]{0,40}") {
            for member in members(&text) {
                let _ = (member.name(), string(member.value), integer::<i64>(member.value));
            }
        }
    }
}
