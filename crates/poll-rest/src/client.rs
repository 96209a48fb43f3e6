//! One request: what is sent, what counts as an answer, and no word about where it went.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use crate::error::{ConfigError, Failure};
use crate::gate::Gate;
use crate::guard::{Guard, RefusedAddress};
use crate::token::{Token, Tokens, token_url};
use crate::{Auth, Settings, body, metrics};

/// How often a request that may be retried is retried...
const RETRIES: usize = 3;
/// ... unless it has taken this long already.
const RETRY_WITHIN: Duration = Duration::from_secs(20);

/// By which a source knows what comes again; as the IETF's draft has it.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// An answer of the source.
#[derive(Debug)]
pub(crate) struct Reply {
    /// When it began to come.
    pub at: DateTime<Utc>,
    /// When it was made, by the source's clock.
    pub date: Option<DateTime<Utc>>,
    /// What it says about other pages (RFC 8288).
    pub link: Option<String>,
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
    /// The source has nothing to say (204).
    Nothing,
}

/// What is asked, or sent.
struct Call<'a> {
    method: Method,
    url: &'a Url,
    /// The validator of the answer that we have.
    etag: Option<&'a str>,
    /// What is sent, and what it is called however often it is.
    body: Option<(&'a Value, &'a str)>,
}

/// Makes the requests of one source.
pub(crate) struct Requester {
    source: String,
    client: Client,
    auth: Option<Auth>,
    tokens: Option<Tokens>,
    gate: Gate,
    max_body_bytes: usize,
}

impl Requester {
    /// `waits`: whether requests wait while the breaker is open, or fail. `database` is where processes share their rate.
    pub(crate) fn new(settings: &Settings, database: PgPool, waits: bool) -> Result<Self, ConfigError> {
        check(settings)?;
        let base_url = Url::parse(settings.base_url.expose_secret()).map_err(|_| ConfigError::BaseUrl)?;
        let client = client(settings, &base_url, default_headers(settings)?)?;
        let tokens = match &settings.auth {
            Some(Auth::OAuth2(oauth2)) => {
                let url = token_url(oauth2)?;
                // The source's headers are the source's: the token endpoint gets none of them.
                let client = self::client(settings, &url, HeaderMap::new())?;
                Some(Tokens::new(&settings.source, oauth2, client)?)
            }
            _ => None,
        };
        Ok(Self {
            source: settings.source.clone(),
            client,
            auth: settings.auth.clone(),
            tokens,
            gate: Gate::new(settings, database, waits),
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
            // Without one of its own everybody pauses alike.
            .with_jitter_seed(rand::random())
            .build();
        let asked_at = Instant::now();
        let call = Call { method: Method::GET, url, etag, body: None };
        loop {
            match self.once(request, &call).await {
                Err(failure) if failure.is_retryable() && asked_at.elapsed() < RETRY_WITHIN => match pauses.next() {
                    // What the source asks for is waited for at the gate, by all requests.
                    Some(pause) => sleep(pause).await,
                    None => return Err(failure),
                },
                outcome => return outcome,
            }
        }
    }

    /// Sends something, once: whether it has arrived is for the source to say when it is asked. `key` is what the source may
    /// know it by, should it come again.
    pub(crate) async fn send(
        &self,
        request: &'static str,
        method: Method,
        url: &Url,
        body: &Value,
        key: &str,
    ) -> Result<(), Failure> {
        let call = Call { method, url, etag: None, body: Some((body, key)) };
        match self.once(request, &call).await?.content {
            Content::NotFound => Err(Failure::Status { status: 404, retry_after: None }),
            _ => Ok(()),
        }
    }

    async fn once(&self, request: &'static str, call: &Call<'_>) -> Result<Reply, Failure> {
        self.gate.enter().await?;
        let started = Instant::now();
        let outcome = self.attempt(call).await;
        let word = match &outcome {
            Ok(Reply { content: Content::NotModified, .. }) => "not_modified",
            Ok(Reply { content: Content::NotFound, .. }) => "not_found",
            Ok(Reply { content: Content::Nothing, .. }) if call.body.is_none() => "not_found",
            Ok(_) => "ok",
            Err(failure) => failure.outcome(),
        };
        metrics::requested(&self.source, request, word, started.elapsed());
        self.gate.note(outcome.as_ref().err()).await;
        outcome
    }

    /// With a token where one is wanted: a token that the source refuses is renewed, once.
    async fn attempt(&self, call: &Call<'_>) -> Result<Reply, Failure> {
        let Some(tokens) = &self.tokens else { return self.ask(call, None).await };
        let token = tokens.get(None).await?;
        match self.ask(call, Some(&token)).await {
            Err(Failure::Refused(401)) => {
                let token = tokens.get(Some(token.number)).await?;
                self.gate.turn().await;
                self.ask(call, Some(&token)).await
            }
            outcome => outcome,
        }
    }

    async fn ask(&self, call: &Call<'_>, token: Option<&Token>) -> Result<Reply, Failure> {
        let mut request = self.client.request(call.method.clone(), call.url.clone());
        request = match &self.auth {
            // The token is a default header, marked as sensitive.
            None | Some(Auth::Bearer(_) | Auth::OAuth2(_)) => request,
            Some(Auth::Basic { user, password }) => request.basic_auth(user, Some(password.expose_secret())),
        };
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.header.clone());
        }
        if let Some(etag) = call.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some((body, key)) = call.body {
            request = request.header(IDEMPOTENCY_KEY, key).json(body);
        }
        let response = request.send().await.map_err(|error| failure_of(&error))?;
        let at = Utc::now();
        let (date, link) = (body::date(response.headers()), body::link(response.headers()));
        let content = match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Content::NotFound,
            StatusCode::NO_CONTENT => Content::Nothing,
            StatusCode::NOT_MODIFIED if call.etag.is_some() => Content::NotModified,
            // Who may not write may read all the same.
            status if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN && call.body.is_none() => {
                return Err(Failure::Refused(status.as_u16()));
            }
            status if status.is_redirection() => return Err(Failure::Redirect(status.as_u16())),
            status if !status.is_success() => {
                let retry_after = body::retry_after(response.headers(), at);
                return Err(Failure::Status { status: status.as_u16(), retry_after });
            }
            // What it says to that is asked for afterwards.
            _ if call.body.is_some() => Content::Nothing,
            _ => self.content(response).await?,
        };
        Ok(Reply { at, date, link, content })
    }

    async fn content(&self, response: Response) -> Result<Content, Failure> {
        if !body::is_json(response.headers()) {
            return Err(Failure::ContentType);
        }
        let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Content::Body { bytes: body::read(response, self.max_body_bytes).await?, etag })
    }
}

/// What can be said against the settings of requests before any is made.
pub(crate) fn check(settings: &Settings) -> Result<(), ConfigError> {
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
    let base_url = Url::parse(settings.base_url.expose_secret()).map_err(|_| ConfigError::BaseUrl)?;
    if Guard::refuses(&base_url) {
        return Err(ConfigError::Address("base_url"));
    }
    if let Some(Auth::OAuth2(oauth2)) = &settings.auth
        && Guard::refuses(&token_url(oauth2)?)
    {
        return Err(ConfigError::Address("oauth2.token_url"));
    }
    default_headers(settings).map(drop)
}

/// What an error of reqwest means. Its text is never shown: it has the URL, and the URL has the email.
pub(crate) fn failure_of(error: &reqwest::Error) -> Failure {
    match error {
        error if is_caused_by_address(error) => Failure::Address,
        // A timeout while connecting is both.
        error if error.is_connect() => Failure::Connect,
        error if error.is_timeout() => Failure::Timeout,
        _ => Failure::Broken,
    }
}

fn is_caused_by_address(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<RefusedAddress>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A client for requests to one host. It follows no redirect: whoever answers with one does not decide where our
/// credentials and questions go.
fn client(settings: &Settings, url: &Url, headers: HeaderMap) -> Result<Client, ConfigError> {
    // An error means that the program has chosen a provider before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("c360/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .dns_resolver(Guard::new(url, settings.private_addresses))
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.read_timeout)
        .timeout(settings.timeout)
        .build()
        .map_err(|error| ConfigError::Client(error.without_url().to_string()))
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

/// A header's value that no log shows.
pub(crate) fn sensitive(value: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}
