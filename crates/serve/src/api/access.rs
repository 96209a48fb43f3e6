//! Who asks: the key in a request, and how often it may ask.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use chrono::Utc;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sqlx::types::Uuid;

use super::Api;
use crate::keys::{Key, Presented, Role};
use crate::problem::Problem;

/// A database that takes longer to give a connection is as good as away.
pub(super) const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// Requests of one key: a second's worth of them, and how many may come at once.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(500).unwrap();
const AT_ONCE: NonZeroU32 = NonZeroU32::new(1000).unwrap();
/// Ours are shorter; a proxy may have sent another.
const MAX_REQUEST_ID_CHARS: usize = 100;

/// Whoever has the key that came with a request.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) key: Arc<Key>,
    pub(crate) request_id: String,
}

impl Caller {
    /// Whoever has this key, unless it asks too often.
    pub(crate) async fn admit(api: &Api, key: Arc<Key>, parts: &Parts) -> Result<Self, Problem> {
        api.rates.check(key.key_id)?;
        let caller = Self { key, request_id: request_id(parts) };
        api.audit.used(&caller).await;
        Ok(caller)
    }

    /// Refuses whoever may less.
    pub(crate) fn at_least(&self, role: Role) -> Result<(), Problem> {
        if self.key.role >= role {
            return Ok(());
        }
        Err(Problem::new(StatusCode::FORBIDDEN)
            .with_detail(format!("this needs a key with role {role}; yours is {}", self.key.role)))
    }

    /// Whether this is somebody who writes what is about everybody.
    pub(crate) fn writes_for_everybody(&self) -> bool {
        self.key.role >= Role::Agent && self.key.only.is_none()
    }

    /// Refuses whoever may not write, or sees only some customers; says what it needs that for.
    pub(crate) fn sees_everybody(&self, because: &str) -> Result<(), Problem> {
        self.at_least(Role::Agent)?;
        if self.key.only.is_none() {
            return Ok(());
        }
        Err(Problem::new(StatusCode::FORBIDDEN)
            .with_detail(format!("{because}: this needs a key without a row filter")))
    }
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let refused = |detail| Err(Problem::new(StatusCode::UNAUTHORIZED).with_detail(detail));
        let Some(secret) = parts.headers.get(AUTHORIZATION).and_then(bearer) else {
            return refused("send an API key: `Authorization: Bearer c360_...`; `c360 keys add` makes one");
        };
        match api.keyring.find(secret, Utc::now()).await? {
            Presented::Valid(key) => Self::admit(api, key, parts).await,
            Presented::Expired => refused("this API key has expired"),
            Presented::Unknown => refused("this API key is not valid"),
        }
    }
}

/// As a layer made it.
pub(crate) fn request_id(parts: &Parts) -> String {
    let id = parts.headers.get("x-request-id").and_then(|id| id.to_str().ok());
    id.unwrap_or_default().chars().take(MAX_REQUEST_ID_CHARS).collect()
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// How often each key has asked lately.
pub(super) struct Rates(DefaultKeyedRateLimiter<Uuid>);

impl Rates {
    pub(super) fn new() -> Self {
        Self(RateLimiter::keyed(Quota::per_second(PER_SECOND).allow_burst(AT_ONCE)))
    }

    fn check(&self, key_id: Uuid) -> Result<(), Problem> {
        let Err(not_until) = self.0.check_key(&key_id) else { return Ok(()) };
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS)
            .with_detail(format!("a key may send {PER_SECOND} requests a second, {AT_ONCE} at once"))
            .after(wait.as_secs() + 1))
    }
}
