//! The configuration in force, for eyes that must not see its secrets.

use std::borrow::Cow;

use chrono_tz::Tz;
use secrecy::{ExposeSecret, SecretString};
use serde::ser::{SerializeMap, Serializer};
use toml::Value;

use super::Config;
use super::source::Properties;

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";
/// Parts of the names of librdkafka properties and query parameters whose values are secrets.
const SECRET_WORDS: [&str; 9] =
    ["password", "passwd", "secret", "token", "key", "jaas", "oauthbearer.config", "credential", "auth"];

/// The configuration as TOML, in order of name.
pub(super) fn redacted_toml(config: &Config) -> String {
    let mut value = Value::try_from(config).unwrap_or_else(|error| unreachable!("a configuration is TOML: {error}"));
    redact_urls(&mut value);
    toml::to_string_pretty(&value).unwrap_or_else(|error| unreachable!("a configuration is TOML: {error}"))
}

#[expect(clippy::ref_option, reason = "serde gives a reference")]
pub(super) fn secret<S: Serializer>(_: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(REDACTED)
}

pub(super) fn secret_value<S: Serializer>(_: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(REDACTED)
}

#[expect(clippy::ref_option, reason = "serde gives a reference")]
pub(super) fn secret_url<S: Serializer>(url: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    let url = url.as_ref().map(|url| redact_url(url.expose_secret()).into_owned());
    serializer.serialize_str(&url.unwrap_or_default())
}

/// All values are secrets: a header may carry anything.
pub(super) fn secrets<S: Serializer>(properties: &Properties, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(properties.keys().map(|name| (name, REDACTED)))
}

/// The values whose names sound like secrets are.
pub(super) fn properties<S: Serializer>(properties: &Properties, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(properties.len()))?;
    for (name, value) in properties {
        let value = if sounds_secret(name) { REDACTED } else { value.expose_secret() };
        map.serialize_entry(name, value)?;
    }
    map.end()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(super) fn time_zone<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

/// The password in a URL: `user:password@`, or a parameter `password`.
pub(super) fn url_password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let in_authority = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, secret)| secret);
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    in_authority.or_else(|| query.split('&').find_map(|pair| pair.strip_prefix("password=")))
}

/// Without the password, and without the values of parameters that sound like secrets. A text that is no URL stays.
pub(super) fn redact_url(url: &str) -> Cow<'_, str> {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = if scheme.is_empty() { ("", rest) } else { rest.split_at(end) };
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:{REDACTED}@{host}"),
            None => authority.to_owned(),
        },
        None => authority.to_owned(),
    };
    let tail = match tail.split_once('?') {
        Some((path, query)) => format!("{path}?{}", query.split('&').map(redact_pair).collect::<Vec<_>>().join("&")),
        None => tail.to_owned(),
    };
    let separator = if scheme.is_empty() { "" } else { "://" };
    Cow::Owned(format!("{scheme}{separator}{authority}{tail}"))
}

fn redact_pair(pair: &str) -> Cow<'_, str> {
    match pair.split_once('=') {
        // `{email}` is a place for a value, not one.
        Some((name, value)) if sounds_secret(name) && !value.starts_with('{') => format!("{name}={REDACTED}").into(),
        _ => pair.into(),
    }
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    // `ssl.key.location` and the like say where a secret is.
    !name.ends_with(".location") && SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn redact_urls(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") || text.contains('?') => *text = redact_url(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(redact_urls),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| redact_urls(value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_passwords() {
        let cases = [
            ("postgres://c360:pw@host/db", "postgres://c360:[redacted]@host/db"),
            ("postgres://c360@host/db?password=pw&host=/run", "postgres://c360@host/db?password=[redacted]&host=/run"),
            ("http://u:p@h:1/p?api_key=k&q={email}", "http://u:[redacted]@h:1/p?api_key=[redacted]&q={email}"),
            ("/path?customerEmail={email}", "/path?customerEmail={email}"),
            ("/path?token=t", "/path?token=[redacted]"),
            ("http://host/@at:home", "http://host/@at:home"),
        ];
        for (url, redacted) in cases {
            assert_eq!(redact_url(url), redacted);
        }
    }

    #[test]
    fn finds_the_password_of_a_url() {
        assert_eq!(url_password("postgres://u:pw@h/d"), Some("pw"));
        assert_eq!(url_password("postgres://u@h/d?password=pw"), Some("pw"));
        assert_eq!(url_password("postgres://u@h/d"), None);
    }
}
