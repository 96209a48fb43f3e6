//! What is around every page.

use askama::Template;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse as _, Redirect, Response};

use super::Dashboard;
use super::assets::{MARK, SCRIPT, STYLE};
use super::kept::NotTaken;
use super::operations::may_operate;
use super::visitor::{Reader, Visitor};
use crate::api::customer::Refusal;
use crate::keys::Role;
use crate::problem::Problem;

/// The head, the bar on top and the foot of a page.
pub(super) struct Frame {
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    pub(super) mark: &'static str,
    pub(super) theme: Option<&'static str>,
    /// Where forms that change how pages look lead back to.
    pub(super) here: String,
    /// Whether the page was asked for, so that it can be asked for again.
    is_get: bool,
    pub(super) zone: &'static str,
    pub(super) version: &'static str,
    pub(super) request_id: String,
    pub(super) signed_in: Option<SignedIn>,
    /// For who may see operations: how much needs attention, as far as that is known at the moment.
    pub(super) operations: Option<usize>,
}

/// The key of whoever reads.
pub(super) struct SignedIn {
    pub(super) name: String,
    pub(super) prefix: String,
    pub(super) role: Role,
    /// Whom it shows, in words.
    pub(super) sees: String,
    /// What forms carry.
    pub(super) token: String,
}

impl Frame {
    /// Of a page for anybody.
    pub(super) fn visiting(visitor: &Visitor) -> Self {
        Self {
            style: &STYLE.path,
            script: &SCRIPT.path,
            mark: &MARK.path,
            theme: visitor.theme,
            here: visitor.here.clone(),
            is_get: visitor.is_get,
            zone: visitor.locale.zone.name(),
            version: env!("CARGO_PKG_VERSION"),
            request_id: visitor.request_id.clone(),
            signed_in: None,
            operations: None,
        }
    }

    /// Of a page for somebody who signed in.
    pub(super) fn of(dashboard: &Dashboard, reader: &Reader) -> Self {
        let key = &reader.caller.key;
        let sees =
            key.only.as_ref().map_or_else(|| "all customers".to_owned(), |only| format!("customers with {only}"));
        let signed_in = SignedIn {
            name: key.name.clone(),
            prefix: key.prefix.clone(),
            role: key.role,
            sees,
            token: dashboard.sessions.token(&reader.session),
        };
        let attention = || dashboard.watch.glance().map_or(0, |known| known.report.looks.len());
        let operations = may_operate(&reader.caller).is_ok().then(attention);
        Self { signed_in: Some(signed_in), operations, ..Self::visiting(&reader.visitor) }
    }

    /// What forms carry; nothing where nobody signed in.
    pub(super) fn token(&self) -> &str {
        self.signed_in.as_ref().map_or("", |signed_in| &signed_in.token)
    }

    /// What forms that write carry; nothing where none is shown.
    pub(super) fn writing_token(&self) -> &str {
        if self.may_write() { self.token() } else { "" }
    }

    /// Whether forms that write are shown.
    pub(super) fn may_write(&self) -> bool {
        self.signed_in.as_ref().is_some_and(|signed_in| signed_in.role >= Role::Agent)
    }

    /// A page that says what is wrong, and what to do.
    pub(super) fn failure(self, problem: &Problem) -> Response {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (title, mut detail) = match status {
            StatusCode::NOT_FOUND => ("Not found", "There is no such page, or your key does not show it.".to_owned()),
            StatusCode::PAYLOAD_TOO_LARGE => (said(problem.title, status), "What was sent is too large.".to_owned()),
            _ => (said(problem.title, status), details(problem)),
        };
        let not_taken = NotTaken { title, detail: detail.clone() };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            detail.push_str(" Nothing is lost: sources wait.");
        }
        let next = if status.is_server_error() && self.is_get {
            Next { label: "Try now", link: self.here.clone(), is_button: true }
        } else {
            Next { label: "Customers", link: "/customers".to_owned(), is_button: false }
        };
        let mut response = page(status, &Failure { frame: self, title, detail, next });
        response.extensions_mut().insert(not_taken);
        if let Some(seconds) = problem.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// Where to go instead, or what is wrong. The rest is what follows the customer's id in the path.
    pub(super) fn refusal(self, refusal: &Refusal, rest: &str) -> Response {
        let is_of_customer = !rest.starts_with('/');
        match refusal {
            // What leads there may end, so nobody is to remember it; a form is sent once more.
            Refusal::Elsewhere(customer_id) => {
                Redirect::temporary(&format!("/customers/{customer_id}{rest}")).into_response()
            }
            Refusal::Problem(problem) if problem.status == StatusCode::NOT_FOUND && is_of_customer => {
                let detail = "Nobody is known by this, or your key does not show them.".to_owned();
                let next = Next { label: "Search customers", link: "/customers".to_owned(), is_button: true };
                page(StatusCode::NOT_FOUND, &Failure { frame: self, title: "No such customer", detail, next })
            }
            Refusal::Problem(problem) => self.failure(problem),
        }
    }
}

fn said(title: &'static str, status: StatusCode) -> &'static str {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => "No answer at the moment",
        StatusCode::PAYLOAD_TOO_LARGE => "Too much at once",
        StatusCode::INTERNAL_SERVER_ERROR => "Something went wrong",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        StatusCode::BAD_REQUEST => "This cannot be asked for",
        StatusCode::METHOD_NOT_ALLOWED => "This page has no such step",
        StatusCode::REQUEST_TIMEOUT => "This took too long",
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => "Somebody was faster",
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::UNSUPPORTED_MEDIA_TYPE => "This cannot be done",
        _ => title,
    }
}

/// What is wrong with a request, as a sentence without the signs of code.
pub(super) fn details(problem: &Problem) -> String {
    let of_fields = problem.errors.iter().map(|error| format!("{}: {}", error.field, error.detail));
    let all: Vec<String> = problem.detail.iter().map(ToString::to_string).chain(of_fields).collect();
    let mut text = all.join(". ").replace('`', "");
    if let Some(first) = text.get(..1).map(str::to_uppercase) {
        text.replace_range(..1, &first);
        text.push('.');
    }
    text
}

#[derive(Template)]
#[template(path = "failure.html")]
struct Failure {
    frame: Frame,
    title: &'static str,
    detail: String,
    next: Next,
}

/// What to do where a page cannot be shown.
struct Next {
    label: &'static str,
    link: String,
    is_button: bool,
}

/// Draws a page.
pub(super) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page cannot be drawn");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
