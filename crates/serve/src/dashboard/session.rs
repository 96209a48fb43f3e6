//! Cookies that say who signed in, and the tokens of forms.
//!
//! A cookie holds the id of a key and until when it counts, sealed with the installation key; never the key itself. Whoever
//! asks with it is looked up again each time, so that a key that is revoked or expires signs out at once. A form carries a
//! token that belongs to the cookie: what another site sends has none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, Mac as _};
use model::InstallationKey;
use rand::RngCore as _;
use sha2::Sha256;
use sqlx::types::Uuid;

/// Whoever signed in does so again after this time.
pub(super) const LASTS: TimeDelta = TimeDelta::hours(12);
const SEAL_LENGTH: usize = 32;

/// What was in a cookie.
#[derive(Clone)]
pub(super) struct Session {
    /// The key of whoever signed in; the nil id for somebody who is about to.
    pub(super) key_id: Uuid,
    /// The cookie.
    pub(super) sealed: String,
}

/// Seals cookies, and makes the tokens of forms.
pub(super) struct Sessions {
    cookies: Hmac<Sha256>,
    tokens: Hmac<Sha256>,
}

impl Sessions {
    pub(super) fn new(key: &InstallationKey) -> Self {
        Self { cookies: key.mac("dashboard-cookie"), tokens: key.mac("dashboard-form") }
    }

    /// One that begins now.
    pub(super) fn begin(&self, key_id: Uuid, now: DateTime<Utc>) -> Session {
        let mut nonce = [0; 16];
        rand::rng().fill_bytes(&mut nonce);
        let mut bytes = key_id.as_bytes().to_vec();
        bytes.extend((now + LASTS).timestamp().to_be_bytes());
        bytes.extend(nonce);
        let seal = self.cookies.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend(seal);
        Session { key_id, sealed: URL_SAFE_NO_PAD.encode(bytes) }
    }

    /// That of a cookie, if it is one of ours and not over.
    pub(super) fn open(&self, sealed: &str, now: DateTime<Utc>) -> Option<Session> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (said, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL_LENGTH)?)?;
        self.cookies.clone().chain_update(said).verify_slice(seal).ok()?;
        let (key_id, rest) = said.split_first_chunk::<16>()?;
        let (until, _) = rest.split_first_chunk::<8>()?;
        let is_over = i64::from_be_bytes(*until) <= now.timestamp();
        (!is_over).then(|| Session { key_id: Uuid::from_bytes(*key_id), sealed: sealed.to_owned() })
    }

    /// What forms of this session carry.
    pub(super) fn token(&self, session: &Session) -> String {
        URL_SAFE_NO_PAD.encode(self.tokens.clone().chain_update(&session.sealed).finalize().into_bytes())
    }

    /// Whether a form is one of this session, in constant time.
    pub(super) fn is_token(&self, session: &Session, token: &str) -> bool {
        let Ok(token) = URL_SAFE_NO_PAD.decode(token) else { return false };
        self.tokens.clone().chain_update(&session.sealed).verify_slice(&token).is_ok()
    }
}

/// Something to put into a form that is the same only if the form is sent again.
pub(super) fn once() -> String {
    let mut random = [0; 16];
    rand::rng().fill_bytes(&mut random);
    URL_SAFE_NO_PAD.encode(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_opens_unchanged_for_twelve_hours_and_forms_belong_to_it() {
        let sessions = Sessions::new(&InstallationKey::new([7; 32]));
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let session = sessions.begin(Uuid::from_u128(1), now);
        let opened = sessions.open(&session.sealed, now + LASTS - TimeDelta::seconds(1)).unwrap();
        assert_eq!(opened.key_id, Uuid::from_u128(1));
        assert!(sessions.open(&session.sealed, now + LASTS).is_none());
        for at in 0..session.sealed.len() {
            let mut other = session.sealed.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert!(sessions.open(std::str::from_utf8(&other).unwrap(), now).is_none(), "{at}");
        }
        for nothing in ["", "AAAA", &"A".repeat(96)] {
            assert!(sessions.open(nothing, now).is_none());
        }
        let other = sessions.begin(Uuid::from_u128(1), now);
        assert!(sessions.is_token(&session, &sessions.token(&session)));
        assert!(!sessions.is_token(&other, &sessions.token(&session)));
        assert!(!sessions.is_token(&session, ""));
        let elsewhere = Sessions::new(&InstallationKey::new([8; 32]));
        assert!(elsewhere.open(&session.sealed, now).is_none());
    }
}
