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
    /// There is no customer mapping, or it lacks the request.
    #[error("customer.request is missing")]
    NoCustomerRequest,
    /// A request cannot be made from its template.
    #[error("{entity}.request {problem}")]
    Request {
        /// The mapping.
        entity: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Not a header.
    #[error("headers: {0:?} is no header name, or its value has characters that headers cannot have")]
    Header(String),
    /// The bearer token cannot be sent.
    #[error("bearer_token has characters that headers cannot have")]
    BearerToken,
    /// A number that makes no sense.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    /// The HTTP client could not be made (no trusted certificates, mostly).
    #[error("the HTTP client cannot be made: {0}")]
    Client(String),
}

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection.
    #[error("no connection")]
    Connect,
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
    /// Not asked: the breaker is open, and the caller does not wait.
    #[error("not asked: the breaker is open")]
    NotAsked,
}

impl Failure {
    /// Whether asking again may help at once.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Connect => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether it says that the source is in trouble, rather than this one answer.
    pub(crate) fn is_the_sources(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::NotAsked => false,
            // It does not like this question; the next one may be fine.
            Self::Status { status, .. } => !matches!(status, 400..=499) || self.is_retryable(),
            _ => true,
        }
    }

    /// The pause that the source asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The label `outcome` of the metric.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Status { status: 429, .. } => "throttled",
            Self::Status { status: 500..=599, .. } => "server_error",
            Self::Status { .. } => "status",
            Self::Redirect(_) => "redirect",
            Self::Refused(_) => "refused",
            Self::ContentType => "content_type",
            Self::TooLarge { .. } => "too_large",
            Self::NotAsked => "not_asked",
        }
    }
}
