//! Errors as problems of RFC 9457.

use std::borrow::Cow;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// The body of every answer with an error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status says which problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What the status is called.
    pub(crate) title: &'static str,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    pub(crate) status: u16,
    /// What is wrong, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<Cow<'static, str>>,
    /// What is wrong with which part of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
    /// Seconds, as a header.
    #[serde(skip)]
    pub(crate) retry_after: Option<u64>,
}

/// What is wrong with one part of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The name of the parameter, header or member.
    pub(crate) field: String,
    /// What is allowed.
    pub(crate) detail: String,
}

impl Problem {
    /// The problem that a status code says all about, but for how much a body may have.
    pub(crate) fn new(status: StatusCode) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self {
            kind: "about:blank",
            title,
            status: status.as_u16(),
            detail: (status == StatusCode::PAYLOAD_TOO_LARGE)
                .then_some(Cow::Borrowed("a body has at most one mebibyte")),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// Says more. Never a value of the request: answers end up in the logs of proxies.
    pub(crate) fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says when to try again.
    pub(crate) fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Something that does not exist, or that the caller may not see: nobody can tell which.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND)
    }

    /// A parameter, header or member that cannot be used, with what is allowed.
    pub(crate) fn bad(field: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).and(field, allowed)
    }

    /// A body that can be read and cannot be accepted, with what is allowed.
    pub(crate) fn unprocessable(field: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY).and(field, allowed)
    }

    /// The database gives no connection, whatever it says: it is starting, or being moved, or somebody is to see to it.
    pub(crate) fn no_connection(error: sqlx::Error) -> Self {
        Self::unanswered(&staging::Error::database("connecting for a request")(error))
    }

    /// The database does not answer, or not now.
    pub(crate) fn unanswered(error: &staging::Error) -> Self {
        tracing::warn!(%error, "a request was not answered");
        Self::new(StatusCode::SERVICE_UNAVAILABLE)
            .with_detail("the database does not answer, or needed too long: try again")
            .after(1)
    }

    fn and(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), detail: detail.into() });
        self
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        staging::Error::database("answering a request")(error).into()
    }
}

impl From<staging::Error> for Problem {
    fn from(error: staging::Error) -> Self {
        if error.is_transient() {
            return Self::unanswered(&error);
        }
        // What no check has found the database does. Its error says nothing of the value.
        if is_of_a_value(&error) {
            tracing::warn!(%error, "the database refused a value of a request");
            return Self::new(StatusCode::UNPROCESSABLE_ENTITY)
                .with_detail("the database cannot hold or compare one of the values");
        }
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR).with_detail("this is a bug: the log of c360 says more")
    }
}

/// Numbers, times, characters, texts and escapes that the database cannot take, and what is too much for it. A violated
/// constraint is a bug, and so is whatever else of a statement fails.
const OF_A_VALUE: [&str; 7] = ["22003", "22008", "22021", "22P02", "22P05", "54000", "54001"];

fn is_of_a_value(error: &staging::Error) -> bool {
    let staging::Error::Database { error, .. } = error else { return false };
    error.code().is_some_and(|code| OF_A_VALUE.contains(&code.as_ref()))
}

impl From<consolidate::Error> for Problem {
    fn from(error: consolidate::Error) -> Self {
        match error {
            consolidate::Error::Database(error) => error.into(),
            // It names no personal value.
            consolidate::Error::Refused(refusal) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY).with_detail(refusal.to_string())
            }
            error if error.is_transient() => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE).with_detail(error.to_string()).after(1)
            }
            error => {
                tracing::error!(%error, "a request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR).with_detail("this is a bug: the log of c360 says more")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For whoever draws it.
        response.extensions_mut().insert(self);
        response
    }
}

/// Turns errors that layers and routing answer in plain text, or without a body, into problems. Pages say what is wrong
/// themselves.
pub(crate) async fn from_plain(response: Response) -> Response {
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let is_said = |kind: &HeaderValue| kind.as_bytes().ends_with(b"json") || kind.as_bytes().starts_with(b"text/html");
    if !is_error || response.headers().get(CONTENT_TYPE).is_some_and(is_said) {
        return response;
    }
    let mut problem = Problem::new(response.status()).into_response();
    for name in [ALLOW, CACHE_CONTROL, RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}
