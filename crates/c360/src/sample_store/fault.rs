//! Misbehaviour on purpose, for tests of whoever polls the store.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::Endpoint;

/// One way in which the store misbehaves, for one key or for all keys of an endpoint.
///
/// Without a status and a body the true answer comes, only late. In a data file:
///
/// ```json
/// {"endpoint": "orders", "key": "7", "status": 503, "headers": {"retry-after": "1"}, "times": 2}
/// {"endpoint": "customer", "body": "<html>it works</html>", "delay_ms": 200}
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    endpoint: Endpoint,
    key: Option<String>,
    #[serde(default, deserialize_with = "status")]
    pub(super) status: Option<StatusCode>,
    pub(super) body: Option<String>,
    #[serde(default, deserialize_with = "headers")]
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    #[serde(default)]
    delay_ms: u64,
    pub(super) times: Option<u32>,
}

impl Fault {
    /// Strikes every request to `endpoint`.
    pub fn on(endpoint: Endpoint) -> Self {
        Self { endpoint, key: None, status: None, body: None, headers: Vec::new(), delay_ms: 0, times: None }
    }

    /// Only for this key: an email or an id, known to the store or not.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Answers with this status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Answers with this text, whatever it is, still called JSON.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    /// Adds or replaces a header of the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Waits before it answers.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Ends after so many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// How long it keeps the caller waiting.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    /// What this fault does to a request, if it is for it and not used up; counts the request.
    pub(super) fn strike(&mut self, endpoint: Endpoint, key: &str) -> Option<Self> {
        let meant = self.endpoint == endpoint && self.key.as_ref().is_none_or(|own| endpoint.key(own) == key);
        if !meant || self.times == Some(0) {
            return None;
        }
        self.times = self.times.map(|times| times - 1);
        Some(self.clone())
    }
}

fn status<'de, D: Deserializer<'de>>(from: D) -> Result<Option<StatusCode>, D::Error> {
    let number = u16::deserialize(from)?;
    StatusCode::from_u16(number).map(Some).map_err(D::Error::custom)
}

fn headers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(HeaderName, HeaderValue)>, D::Error> {
    let texts = BTreeMap::<String, String>::deserialize(from)?;
    let parse = |(name, value): (String, String)| {
        Ok((
            HeaderName::try_from(name).map_err(D::Error::custom)?,
            HeaderValue::try_from(value).map_err(D::Error::custom)?,
        ))
    };
    texts.into_iter().map(parse).collect()
}
