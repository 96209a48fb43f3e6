//! One GET: what is sent, what counts as an answer, and no word about where it went.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep};

use crate::error::{ConfigError, Failure};
use crate::gate::Gate;
use crate::{Auth, Settings, body, metrics};

/// How often a request that may be retried is retried...
const RETRIES: usize = 3;
/// ... unless it has taken this long already.
const RETRY_WITHIN: Duration = Duration::from_secs(20);

/// An answer of the source.
#[derive(Debug)]
pub(crate) struct Reply {
    /// When it began to come.
    pub at: DateTime<Utc>,
    /// What it is.
    pub content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// A body, with its validator.
    Body { bytes: Vec<u8>, etag: Option<String> },
    /// The same as the one whose `ETag` was sent.
    NotModified,
    /// The source does not have it.
    NotFound,
}

/// Makes the requests of one source.
pub(crate) struct Requester {
    source: String,
    client: Client,
    auth: Option<Auth>,
    gate: Gate,
    max_body_bytes: usize,
}

impl Requester {
    /// `waits`: whether requests wait while the breaker is open, or fail.
    pub(crate) fn new(settings: &Settings, waits: bool) -> Result<Self, ConfigError> {
        let positive = [
            ("concurrency", settings.concurrency > 0),
            ("requests_per_second", settings.requests_per_second > 0.0 && settings.requests_per_second.is_finite()),
            ("breaker_failures", settings.breaker_failures > 0),
            ("refresh_every", !settings.refresh_every.is_zero()),
            ("timeout", !settings.timeout.is_zero()),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, is_positive)| !is_positive) {
            return Err(ConfigError::Zero(key));
        }
        // An error means that the program has chosen a provider before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("c360/", env!("CARGO_PKG_VERSION")))
            .default_headers(default_headers(settings)?)
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(settings.connect_timeout)
            .read_timeout(settings.read_timeout)
            .timeout(settings.timeout)
            .build()
            .map_err(|error| ConfigError::Client(error.without_url().to_string()))?;
        Ok(Self {
            source: settings.source.clone(),
            client,
            auth: settings.auth.clone(),
            gate: Gate::new(settings, waits),
            max_body_bytes: settings.max_body_bytes,
        })
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Asks, and asks again a few times where that can help. `request` is the label of the metric.
    pub(crate) async fn get(&self, request: &'static str, url: &Url, etag: Option<&str>) -> Result<Reply, Failure> {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(RETRIES)
            .with_jitter()
            .build();
        let asked_at = Instant::now();
        loop {
            self.gate.enter().await?;
            let started = Instant::now();
            let outcome = self.attempt(url, etag).await;
            let word = match &outcome {
                Ok(Reply { content: Content::Body { .. }, .. }) => "ok",
                Ok(Reply { content: Content::NotModified, .. }) => "not_modified",
                Ok(Reply { content: Content::NotFound, .. }) => "not_found",
                Err(failure) => failure.outcome(),
            };
            metrics::requested(&self.source, request, word, started.elapsed());
            self.gate.note(outcome.as_ref().err());
            match outcome {
                Err(failure) if failure.is_retryable() && asked_at.elapsed() < RETRY_WITHIN => match pauses.next() {
                    // What the source asks for is waited for at the gate, by all requests.
                    Some(pause) => sleep(pause).await,
                    None => return Err(failure),
                },
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self, url: &Url, etag: Option<&str>) -> Result<Reply, Failure> {
        let mut request = self.client.get(url.clone());
        request = match &self.auth {
            // The token is a default header, marked as sensitive.
            None | Some(Auth::Bearer(_)) => request,
            Some(Auth::Basic { user, password }) => request.basic_auth(user, Some(password.expose_secret())),
        };
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(|error| failure_of(&error))?;
        let at = Utc::now();
        let content = match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::NO_CONTENT => Content::NotFound,
            StatusCode::NOT_MODIFIED if etag.is_some() => Content::NotModified,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Failure::Refused(response.status().as_u16()));
            }
            status if status.is_redirection() => return Err(Failure::Redirect(status.as_u16())),
            status if !status.is_success() => {
                let retry_after = body::retry_after(response.headers(), at);
                return Err(Failure::Status { status: status.as_u16(), retry_after });
            }
            _ => self.content(response).await?,
        };
        Ok(Reply { at, content })
    }

    async fn content(&self, response: Response) -> Result<Content, Failure> {
        if !body::is_json(response.headers()) {
            return Err(Failure::ContentType);
        }
        let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Content::Body { bytes: body::read(response, self.max_body_bytes).await?, etag })
    }
}

/// What an error of reqwest means. Its text is never shown: it has the URL, and the URL has the email.
pub(crate) fn failure_of(error: &reqwest::Error) -> Failure {
    match error {
        // A timeout while connecting is both.
        error if error.is_connect() => Failure::Connect,
        error if error.is_timeout() => Failure::Timeout,
        _ => Failure::Broken,
    }
}

fn default_headers(settings: &Settings) -> Result<HeaderMap, ConfigError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    for (name, value) in &settings.headers {
        let refused = || ConfigError::Header(name.clone());
        let header = HeaderName::try_from(name.as_str()).map_err(|_| refused())?;
        headers.insert(header, sensitive(value).ok_or_else(refused)?);
    }
    if let Some(Auth::Bearer(token)) = &settings.auth {
        let value = SecretString::from(format!("Bearer {}", token.expose_secret()));
        headers.insert(AUTHORIZATION, sensitive(&value).ok_or(ConfigError::BearerToken)?);
    }
    Ok(headers)
}

fn sensitive(value: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}
