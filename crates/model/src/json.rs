//! The look at raw JSON before anything parses it, so that poison costs a scan and never a failed transaction.

use crate::order::{MAX_FRACTION_DIGITS, MAX_INTEGER_DIGITS};
use crate::{Reason, Reject};

/// Caps on one raw record.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest raw record in bytes.
    pub max_record_bytes: usize,
    /// Deepest nesting of arrays and objects.
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_record_bytes: 1 << 20, max_depth: 64 }
    }
}

/// Appends a text as a JSON string. Most texts need no escape.
#[inline]
pub fn push_string(json: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        json.push_str(&serde_json::Value::from(text).to_string());
    } else {
        json.push('"');
        json.push_str(text);
        json.push('"');
    }
}

/// Checks size, UTF-8, depth, NUL and lone surrogates, and that every number fits Postgres. What passes may still not be
/// JSON, but parsing it cannot overflow the stack and storing it as text or jsonb cannot fail.
pub fn inspect(bytes: &[u8], limits: Limits) -> Result<&str, Reject> {
    if bytes.len() > limits.max_record_bytes {
        return Err(Reject::new(
            Reason::TooLarge,
            format!("{} bytes, the limit is {}", bytes.len(), limits.max_record_bytes),
        ));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Reject::new(Reason::NotUtf8, format!("invalid at byte {}", error.valid_up_to())))?;
    if memchr::memchr(0, bytes).is_some() {
        return Err(Reject::new(Reason::Nul, "contains a raw 0x00"));
    }
    scan(bytes, limits.max_depth)?;
    Ok(text)
}

fn scan(bytes: &[u8], max_depth: usize) -> Result<(), Reject> {
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = skip_string(bytes, at + 1)?;
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > max_depth {
                    return Err(Reject::new(Reason::TooDeep, format!("nested deeper than {max_depth}")));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'0'..=b'9' => {
                at = skip_number(bytes, at)?;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Returns the place behind the closing quote.
fn skip_string(bytes: &[u8], mut at: usize) -> Result<usize, Reject> {
    loop {
        match memchr::memchr2(b'"', b'\\', &bytes[at.min(bytes.len())..]) {
            None => return Ok(bytes.len()),
            Some(found) if bytes[at + found] == b'"' => return Ok(at + found + 1),
            Some(found) => {
                at += found + 1;
                if bytes.get(at) == Some(&b'u') {
                    at = skip_unicode_escape(bytes, at)?;
                } else {
                    at += 1;
                }
            }
        }
    }
}

/// `at` is on the `u`. Refuses `\u0000` and surrogates without their other half.
fn skip_unicode_escape(bytes: &[u8], at: usize) -> Result<usize, Reject> {
    match hex4(bytes, at + 1) {
        Some(0) => Err(Reject::new(Reason::Nul, "contains \\u0000")),
        Some(0xD800..=0xDBFF) => {
            let low = (bytes.get(at + 5..at + 7) == Some(b"\\u")).then(|| hex4(bytes, at + 7)).flatten();
            if matches!(low, Some(0xDC00..=0xDFFF)) { Ok(at + 11) } else { Err(lone_surrogate()) }
        }
        Some(0xDC00..=0xDFFF) => Err(lone_surrogate()),
        _ => Ok(at + 1),
    }
}

fn lone_surrogate() -> Reject {
    Reject::new(Reason::LoneSurrogate, "contains half of a surrogate pair")
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = std::str::from_utf8(bytes.get(at..at + 4)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// Returns the place behind the number that starts at `start`.
fn skip_number(bytes: &[u8], start: usize) -> Result<usize, Reject> {
    let digits_from = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let integer = digits_from(start);
    let mut at = start + integer;
    let mut fraction = 0;
    if bytes.get(at) == Some(&b'.') {
        fraction = digits_from(at + 1);
        at += 1 + fraction;
    }
    let mut exponent = 0_i64;
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let digits = digits_from(at + 1 + sign);
        let text = std::str::from_utf8(&bytes[at + 1..at + 1 + sign + digits]).unwrap_or_default();
        if digits > 0 {
            exponent = text.trim_start_matches('+').parse().unwrap_or(i64::MAX / 4);
        }
        at += 1 + sign + digits;
    }
    let (integer, fraction) =
        (i64::try_from(integer).unwrap_or(i64::MAX / 4), i64::try_from(fraction).unwrap_or(i64::MAX / 4));
    // Beyond that it could not be cast to jsonb by whoever reads the payload.
    if integer + exponent > MAX_INTEGER_DIGITS || fraction - exponent > MAX_FRACTION_DIGITS {
        return Err(Reject::new(Reason::BadValue, "contains a number beyond what Postgres numeric can hold"));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(bytes: &[u8]) -> Option<Reason> {
        inspect(bytes, Limits::default()).err().map(|reject| reject.reason)
    }

    #[test]
    fn what_postgres_would_refuse_is_refused_first() {
        let deep = "[".repeat(129);
        let very_deep = "[".repeat(100_000);
        let large = vec![b' '; (1 << 20) + 1];
        for (bytes, expected) in [
            (&b"{\"a\":\"\\u0000\"}"[..], Reason::Nul),
            (b"{\"a\":\"x\0\"}", Reason::Nul),
            (b"{\"a\":\"\\ud83d\"}", Reason::LoneSurrogate),
            (b"{\"a\":\"\\ude00x\"}", Reason::LoneSurrogate),
            (b"{\"a\":\"\\ud83d\\u0041\"}", Reason::LoneSurrogate),
            (b"{\"a\":\"\xc0\xaf\"}", Reason::NotUtf8),
            (b"{\"a\":1e200000}", Reason::BadValue),
            (b"{\"a\":1e-20000}", Reason::BadValue),
            (b"{\"a\":1e99999999999999999999}", Reason::BadValue),
            (deep.as_bytes(), Reason::TooDeep),
            (very_deep.as_bytes(), Reason::TooDeep),
            (&large, Reason::TooLarge),
        ] {
            assert_eq!(reason(bytes), Some(expected), "{:.40}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_only_looks_odd_passes() {
        let long = format!("[{}]", "7".repeat(100_000));
        for text in [
            r#"{"a":"\ud83d\ude00","b":1e400,"c":-0,"d":9007199254740993,"e":true,"f":"\\u0000"}"#,
            r#"{"a":"[[[[","b":"\"{","c":"1e999999"}"#,
            &long,
        ] {
            assert_eq!(reason(text.as_bytes()), None, "{text:.60}");
        }
    }

    #[test]
    fn unfinished_text_never_panics() {
        for text in ["\"", "\"\\", "\"\\u", "\"\\ud83d\\u", "1e", "1.", "-", "1e+", "{\"a", "\"\\u00"] {
            let _ = reason(text.as_bytes());
        }
    }
}
