//! OAuth 2 client credentials (RFC 6749, 4.4): a token is fetched when the first request needs it, shared by all, and
//! renewed before its time is over or when the source refuses it.

use std::time::Duration;

use percent_encoding::utf8_percent_encode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::body;
use crate::client::{failure_of, sensitive};
use crate::error::{ConfigError, Failure};
use crate::metrics;
use crate::settings::OAuth2;
use crate::template::RESERVED;

/// The label of its requests in metrics.
const REQUEST: &str = "token";
/// Longer answers hold no token.
const MAX_BODY_BYTES: usize = 64 << 10;
/// A token is renewed when so much of its time is left, or a tenth of it if that is less.
const RENEW_BEFORE: Duration = Duration::from_mins(1);

/// The tokens of one source.
pub(crate) struct Tokens {
    source: String,
    client: Client,
    url: Url,
    settings: OAuth2,
    /// Locked while a token is fetched: one request fetches it, the others wait for it.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// How often a token was fetched; the number of the last one.
    count: u64,
    /// The last failure, for those who waited for it.
    failed: Option<(Instant, Failure)>,
    /// Whether the client says who it is in the body: some endpoints only read it there.
    in_body: bool,
}

/// A token as it is sent.
#[derive(Clone)]
pub(crate) struct Token {
    pub header: HeaderValue,
    /// Tells it from others.
    pub number: u64,
    renew_at: Option<Instant>,
}

/// What a token endpoint answers.
#[derive(Deserialize)]
struct Answer {
    access_token: SecretString,
    token_type: Option<String>,
    /// Seconds; a string with some.
    expires_in: Option<Value>,
}

impl Tokens {
    /// `client` must follow no redirects and send no header of the source's own.
    pub(crate) fn new(source: &str, settings: &OAuth2, client: Client) -> Result<Self, ConfigError> {
        let url = token_url(settings)?;
        Ok(Self { source: source.to_owned(), client, url, settings: settings.clone(), held: Mutex::default() })
    }

    /// The token to send; another one than that with the number `refused`.
    pub(crate) async fn get(&self, refused: Option<u64>) -> Result<Token, Failure> {
        let asked_at = Instant::now();
        let mut held = self.held.lock().await;
        let now = Instant::now();
        if let Some(token) = &held.token
            && Some(token.number) != refused
            && token.renew_at.is_none_or(|at| now < at)
        {
            return Ok(token.clone());
        }
        if let Some((at, failure)) = &held.failed
            && *at >= asked_at
        {
            return Err(failure.clone());
        }
        match self.fetch(&mut held).await {
            Ok(token) => {
                held.failed = None;
                held.token = Some(token.clone());
                Ok(token)
            }
            Err(failure) => {
                let failure = Failure::Token(Box::new(failure));
                held.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// A new token. An endpoint that does not take the client's name and secret as the standard wants it (in a header) is
    /// tried with both in the body, and what it takes is remembered.
    async fn fetch(&self, held: &mut Held) -> Result<Token, Failure> {
        let mut outcome = self.ask(held.in_body).await;
        if matches!(outcome, Err(Failure::Refused(400 | 401))) {
            let other = self.ask(!held.in_body).await;
            if other.is_ok() {
                held.in_body = !held.in_body;
                outcome = other;
            }
        }
        let (answer, asked_at) = outcome?;
        held.count += 1;
        answer.token(held.count, asked_at).ok_or(Failure::NoToken)
    }

    async fn ask(&self, in_body: bool) -> Result<(Answer, Instant), Failure> {
        let asked_at = Instant::now();
        let outcome = self.attempt(in_body).await;
        let word = outcome.as_ref().map_or_else(Failure::outcome, |_| "ok");
        metrics::requested(&self.source, REQUEST, word, asked_at.elapsed());
        outcome.map(|answer| (answer, asked_at))
    }

    async fn attempt(&self, in_body: bool) -> Result<Answer, Failure> {
        let response = self.request(in_body).send().await.map_err(|error| failure_of(&error))?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(Failure::Refused(status.as_u16()));
            }
            status if status.is_redirection() => return Err(Failure::Redirect(status.as_u16())),
            status => {
                let retry_after = body::retry_after(response.headers(), chrono::Utc::now());
                return Err(Failure::Status { status: status.as_u16(), retry_after });
            }
        }
        // What it says of its type does not matter: it is JSON with a token, or of no use.
        let bytes = match body::read(response, MAX_BODY_BYTES).await {
            Err(Failure::TooLarge { .. }) => return Err(Failure::NoToken),
            bytes => bytes?,
        };
        serde_json::from_slice(&bytes).map_err(|_| Failure::NoToken)
    }

    fn request(&self, in_body: bool) -> RequestBuilder {
        let OAuth2 { client_id, client_secret, scope, .. } = &self.settings;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(scope.as_deref().map(|scope| ("scope", scope)));
        if in_body {
            form.extend([("client_id", client_id.as_str()), ("client_secret", client_secret.expose_secret())]);
        }
        let form: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = self
            .client
            .post(self.url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.join("&"));
        if in_body {
            return request;
        }
        request.basic_auth(encoded(client_id), Some(encoded(client_secret.expose_secret())))
    }
}

/// Where tokens are had.
pub(crate) fn token_url(settings: &OAuth2) -> Result<Url, ConfigError> {
    let url = Url::parse(settings.token_url.expose_secret()).map_err(|_| ConfigError::TokenUrl)?;
    let fits = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if fits { Ok(url) } else { Err(ConfigError::TokenUrl) }
}

impl Answer {
    fn token(&self, number: u64, asked_at: Instant) -> Option<Token> {
        let is_bearer = self.token_type.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        let token = self.access_token.expose_secret();
        if !is_bearer || token.is_empty() {
            return None;
        }
        let header = sensitive(&SecretString::from(format!("Bearer {token}")))?;
        // Without a time it is good until it is refused; so is one that is good for longer than time can tell.
        let lives = self.expires_in.as_ref().and_then(seconds);
        let good_for = lives.map(|lives| lives.saturating_sub(RENEW_BEFORE.min(lives / 10)));
        let renew_at = good_for.and_then(|good_for| asked_at.checked_add(good_for));
        Some(Token { header, number, renew_at })
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// As a form wants it; what it leaves alone needs no escape anywhere.
fn encoded(value: &str) -> String {
    utf8_percent_encode(value, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Option<Token> {
        serde_json::from_str::<Answer>(text).ok()?.token(1, Instant::now())
    }

    #[test]
    fn a_token_is_renewed_a_minute_or_a_tenth_of_its_time_before_the_end() {
        let renewed_in = |expires_in: &str| {
            let now = Instant::now();
            let token = answer(&format!(r#"{{"access_token":"t","token_type":"bearer","expires_in":{expires_in}}}"#));
            token.unwrap().renew_at.map(|at| (at - now).as_secs())
        };
        assert_eq!(renewed_in("3600"), Some(3540));
        assert_eq!(renewed_in("\"100\""), Some(90));
        assert_eq!(renewed_in("0"), Some(0));
        assert_eq!(renewed_in("null"), None);
        assert_eq!(renewed_in("-5"), None);
        assert_eq!(renewed_in("1e300"), None);
    }

    #[test]
    fn what_is_no_bearer_token_is_none() {
        assert_eq!(answer(r#"{"access_token":"t"}"#).unwrap().header, "Bearer t");
        for text in [
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":5}"#,
            r#"{"access_token":"a\nb"}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"error":"invalid_client"}"#,
        ] {
            assert!(answer(text).is_none(), "{text}");
        }
        assert!(answer(r#"{"access_token":"t","token_type":"Bearer"}"#).unwrap().header.is_sensitive());
    }
}
