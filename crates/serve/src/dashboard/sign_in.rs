//! Signing in and out, and the choice of light and dark.

use std::num::NonZeroU32;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use sqlx::types::Uuid;

use super::Dashboard;
use super::frame::{Frame, page};
use super::session::{LASTS, Session};
use super::visitor::{Fields, Posted, SIGNED_IN, THEME, VISITING, Visitor, is_ours};
use crate::api::params::Params;
use crate::keys::Presented;

/// Wrong keys of all visitors together: in a minute, and how many may come at once.
const PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
const AT_ONCE: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// How long the choice of light and dark is kept.
const A_YEAR_SECONDS: i64 = 365 * 24 * 60 * 60;

/// How often somebody has come with a wrong key lately. A right one opens all the same: nobody locks others out.
pub(super) struct Failures(DefaultDirectRateLimiter);

impl Failures {
    pub(super) fn new() -> Self {
        Self(RateLimiter::direct(Quota::per_minute(PER_MINUTE).allow_burst(AT_ONCE)))
    }
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    frame: Frame,
    token: String,
    next: String,
    error: Option<&'static str>,
}

/// `GET /sign-in`
pub(super) async fn show(State(dashboard): State<Arc<Dashboard>>, visitor: Visitor, params: Params) -> Response {
    let mut params = params;
    let next = params.one("next").ok().flatten().unwrap_or_default();
    form(&dashboard, &visitor, &next, StatusCode::OK, None)
}

fn form(
    dashboard: &Dashboard,
    visitor: &Visitor,
    next: &str,
    status: StatusCode,
    error: Option<&'static str>,
) -> Response {
    let visiting = visitor.session(dashboard, VISITING);
    let visiting = visiting.unwrap_or_else(|| dashboard.sessions.begin(Uuid::nil(), visitor.locale.now));
    let sign_in = SignIn {
        frame: Frame::visiting(visitor),
        token: dashboard.sessions.token(&visiting),
        next: local(next).to_owned(),
        error,
    };
    let cookie = visitor.cookie(VISITING, &visiting.sealed, LASTS.num_seconds());
    ([(SET_COOKIE, cookie)], page(status, &sign_in)).into_response()
}

/// A path of ours to go on to; anything else leads to the customers.
fn local(next: &str) -> &str {
    let is_local = next.starts_with('/') && !next.starts_with("//") && next.bytes().all(|byte| byte.is_ascii_graphic());
    if is_local && !next.contains('\\') { next } else { "/customers" }
}

/// `POST /sign-in`
pub(super) async fn sign_in(
    State(dashboard): State<Arc<Dashboard>>,
    visitor: Visitor,
    Form(fields): Form<Fields>,
) -> Response {
    let field = |name| fields.get(name).map(String::as_str).unwrap_or_default();
    let again = |status, error| form(&dashboard, &visitor, field("next"), status, Some(error));
    let is_shown = |visiting: Session| is_ours(&dashboard, &visiting, &fields);
    if !visitor.session(&dashboard, VISITING).is_some_and(is_shown) {
        return again(StatusCode::FORBIDDEN, "This form was open for too long, or cookies are off. Sign in again");
    }
    let error = match dashboard.api.keyring.find(field("key").trim(), visitor.locale.now).await {
        Ok(Presented::Valid(key)) => {
            tracing::info!(key = %key.prefix, "signed in");
            let session = dashboard.sessions.begin(key.key_id, visitor.locale.now);
            let cookies = AppendHeaders([
                (SET_COOKIE, visitor.cookie(SIGNED_IN, &session.sealed, LASTS.num_seconds())),
                (SET_COOKIE, visitor.cookie(VISITING, "", 0)),
            ]);
            return (cookies, Redirect::to(local(field("next")))).into_response();
        }
        Ok(Presented::Expired) => "This key has expired. Ask an operator for a new one",
        Ok(Presented::Unknown) => "This key is not valid. Copy all of it, from c360_ to the last letter",
        Err(problem) => return Frame::visiting(&visitor).failure(&problem),
    };
    if dashboard.failures.0.check().is_err() {
        return again(StatusCode::TOO_MANY_REQUESTS, "Too many wrong keys. Wait a minute, then try again");
    }
    tracing::warn!("somebody came with a key that is not valid");
    again(StatusCode::FORBIDDEN, error)
}

/// `POST /sign-out`
pub(super) async fn sign_out(posted: Posted) -> Response {
    let cookie = posted.reader.visitor.cookie(SIGNED_IN, "", 0);
    ([(SET_COOKIE, cookie)], Redirect::to("/sign-in")).into_response()
}

/// `POST /theme`
pub(super) async fn theme(posted: Posted) -> Response {
    let field = |name| posted.fields.get(name).map(String::as_str).unwrap_or_default();
    let visitor = &posted.reader.visitor;
    let cookie: HeaderValue = match field("theme") {
        theme @ ("dark" | "light") => visitor.cookie(THEME, theme, A_YEAR_SECONDS),
        _ => visitor.cookie(THEME, "", 0),
    };
    ([(SET_COOKIE, cookie)], Redirect::to(local(field("next")))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_of_ours_is_gone_on_to() {
        for next in ["/", "/customers?q=a", "/customers/ann@x.example"] {
            assert_eq!(local(next), next);
        }
        for next in
            ["", "//x.example", "/\\x.example", "https://x.example", "customers", "/a\r\nb", "/\u{e4}", "javascript:1"]
        {
            assert_eq!(local(next), "/customers", "{next}");
        }
    }
}
