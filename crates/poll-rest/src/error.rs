//! What stops polling, and why one request failed. Neither ever shows a URL, a header's value or a body.

use std::time::Duration;

use model::Reject;

/// An error of polling. What the source does wrong is never one: it is noted on the poll, and in health.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot work.
    #[error("source {source_name}: {error}")]
    Config {
        /// The source.
        source_name: String,
        /// What is wrong.
        error: ConfigError,
    },
    /// The database.
    #[error(transparent)]
    Staging(#[from] staging::Error),
}

impl Error {
    /// Whether the program was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Staging(staging::Error::Cancelled))
    }
}

/// What is wrong with the settings; names keys, never values.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not an HTTP URL.
    #[error("base_url is not an http or https URL without query and fragment")]
    BaseUrl,
    /// Neither a customer's request nor a list.
    #[error("customer.request is missing, and there is no list: there is nothing to ask for")]
    NothingToAsk,
    /// What belongs to a customer is asked for, and no customer is.
    #[error("{0}.request asks for what belongs to a customer: customer.request, which finds the customer, is missing")]
    NoCustomerRequest(&'static str),
    /// What lies in the records of customers, of whom there are none.
    #[error("{0}.records without {0}.request is where a customer's record has them, and there are no customers")]
    NoCustomers(&'static str),
    /// A request cannot be made from its template.
    #[error("{key}.request {problem}")]
    Request {
        /// The section that it stands in.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What is sent cannot be made from its template.
    #[error("{key}.body {problem}")]
    Body {
        /// The section that it stands in.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// What the source says now has to be asked before anything is sent.
    #[error("{0}.request writes to the source: customer.request, which asks what it says, is missing")]
    NoCustomerToWrite(&'static str),
    /// A time that nothing is compared with.
    #[error("{0}.modified is for customer.update: who is made has not changed before")]
    Modified(&'static str),
    /// Not a header.
    #[error("headers: {0:?} is no header name, or its value has characters that headers cannot have")]
    Header(String),
    /// The bearer token cannot be sent.
    #[error("bearer_token has characters that headers cannot have")]
    BearerToken,
    /// The token endpoint is no HTTP URL.
    #[error("oauth2.token_url is not an http or https URL without user and password")]
    TokenUrl,
    /// A list without the mapping of its records.
    #[error("list.{0} needs the mapping {0}")]
    NoMapping(&'static str),
    /// How `{since}` is to be written makes no time.
    #[error("list.{0}.since_format is no strftime format")]
    SinceFormat(&'static str),
    /// An address that nobody's source has.
    #[error("{0} is a link-local, multicast or unspecified address")]
    Address(&'static str),
    /// A number that makes no sense.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    /// The HTTP client could not be made (no trusted certificates, mostly).
    #[error("the HTTP client cannot be made: {0}")]
    Client(String),
}

impl ConfigError {
    /// The key that it is about, below the source's section.
    pub fn key(&self) -> String {
        match self {
            Self::BaseUrl => "base_url".to_owned(),
            Self::NothingToAsk => "customer.request".to_owned(),
            Self::NoCustomerRequest(entity) => format!("{entity}.request"),
            Self::NoCustomers(entity) => format!("{entity}.records"),
            Self::Request { key, .. } => format!("{key}.request"),
            Self::Body { key, .. } => format!("{key}.body"),
            Self::NoCustomerToWrite(key) => format!("{key}.request"),
            Self::Modified(key) => format!("{key}.modified"),
            Self::Header(_) => "headers".to_owned(),
            Self::BearerToken => "bearer_token".to_owned(),
            Self::TokenUrl => "oauth2.token_url".to_owned(),
            Self::NoMapping(entity) => format!("list.{entity}"),
            Self::SinceFormat(entity) => format!("list.{entity}.since_format"),
            Self::Address(key) | Self::Zero(key) => (*key).to_owned(),
            Self::Client(_) => String::new(),
        }
    }
}

/// Why a request brought no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection.
    #[error("no connection")]
    Connect,
    /// The source's name leads to an address where it must not be.
    #[error("its name leads to a private address; if it is meant to be there, set private_addresses = true")]
    Address,
    /// One of the timeouts.
    #[error("timed out")]
    Timeout,
    /// The connection broke, or what came was no HTTP.
    #[error("the connection broke")]
    Broken,
    /// A status that is no answer.
    #[error("status {status}")]
    Status {
        /// The status.
        status: u16,
        /// How long the source asks us to wait.
        retry_after: Option<Duration>,
    },
    /// A redirect, which is not followed.
    #[error("status {0}: redirects are not followed")]
    Redirect(u16),
    /// 401 or 403.
    #[error("status {0}: the source refuses our credentials")]
    Refused(u16),
    /// The token endpoint answered, and not with a token.
    #[error("the answer holds no bearer token")]
    NoToken,
    /// The same of the token endpoint.
    #[error("no token: {0}")]
    Token(Box<Failure>),
    /// The answer is no JSON by its own account.
    #[error("the answer's content type is not JSON")]
    ContentType,
    /// The answer is larger than `max_body_bytes`.
    #[error("the answer is too large")]
    TooLarge {
        /// The word and the numbers.
        reject: Reject,
        /// How it begins.
        beginning: Vec<u8>,
    },
    /// The list goes on where it does not: on another host, at a page that was had, at one that is not there.
    #[error("the answer names a next page that is not asked for")]
    Page,
    /// Not asked: the breaker is open, and the caller does not wait.
    #[error("not asked: the breaker is open")]
    NotAsked,
}

impl Failure {
    /// Whether asking again may help at once.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Connect => true,
            Self::Token(failure) => failure.is_retryable(),
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether it says that the source is in trouble, rather than this one answer.
    pub(crate) fn is_the_sources(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::NotAsked | Self::Page => false,
            // It does not like this question; the next one may be fine.
            Self::Status { status, .. } => !matches!(status, 400..=499) || self.is_retryable(),
            _ => true,
        }
    }

    /// The pause that the source asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Token(failure) => failure.retry_after(),
            _ => None,
        }
    }

    /// How our credentials are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(status) => Some(Refusal { status: *status, by_token_endpoint: false }),
            Self::Token(failure) => failure.refusal().map(|refusal| Refusal { by_token_endpoint: true, ..refusal }),
            _ => None,
        }
    }

    /// Whether it says nothing about what was asked: the poll stays as it was.
    pub(crate) fn leaves_the_poll(&self) -> bool {
        matches!(self, Self::NotAsked) || self.refusal().is_some()
    }

    /// The label `outcome` of the metric.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Address => "address",
            Self::NoToken | Self::Token(_) => "no_token",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Status { status: 429, .. } => "throttled",
            Self::Status { status: 500..=599, .. } => "server_error",
            Self::Status { .. } => "status",
            Self::Redirect(_) => "redirect",
            Self::Refused(_) => "refused",
            Self::ContentType => "content_type",
            Self::TooLarge { .. } => "too_large",
            Self::Page => "page",
            Self::NotAsked => "not_asked",
        }
    }
}

/// Somebody refuses our credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// With this status.
    pub status: u16,
    /// The token endpoint, not the source.
    pub by_token_endpoint: bool,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = if self.by_token_endpoint { "token endpoint" } else { "source" };
        write!(f, "the {who} answers {}: it refuses our credentials", self.status)
    }
}
