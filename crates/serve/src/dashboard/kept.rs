//! What somebody typed into a form that could not be taken: because the sign-in has ended, too much is asked for, or the
//! database is away. It is shown with the reason, to be sent again.

use std::sync::Arc;

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Dashboard;
use super::frame::{Frame, page};
use super::systems::label;
use super::visitor::{Fields, SIGNED_IN, Visitor};

/// With a response: that it is not what the form asked for, and why.
#[derive(Clone)]
pub(super) struct NotTaken {
    pub(super) title: &'static str,
    pub(super) detail: String,
}

impl NotTaken {
    pub(super) fn signed_out() -> Self {
        Self { title: "You are signed out", detail: "Sign in on another page, then send this again.".to_owned() }
    }
}

#[derive(Template)]
#[template(path = "kept.html")]
struct Kept {
    frame: Frame,
    not_taken: NotTaken,
    action: String,
    /// Of whoever is signed in by now.
    token: String,
    /// What the form knew by itself.
    known: Vec<(String, String)>,
    typed: Vec<Typed>,
}

struct Typed {
    name: String,
    label: String,
    value: String,
}

/// Draws what was typed in place of an answer that a form was not taken. Only for a form that a page of ours sent, which no other
/// site can say of its own: what is drawn carries the token with which it counts.
pub(super) async fn kept(State(dashboard): State<Arc<Dashboard>>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !is_from_here(request.headers()) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let bytes = match Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await {
        Ok(bytes) => bytes,
        Err(rejection) => return rejection.into_response(),
    };
    let response = next.run(Request::from_parts(parts.clone(), Body::from(bytes.clone()))).await;
    let Some(not_taken) = response.extensions().get::<NotTaken>().cloned() else { return response };
    let Some(kept) = Kept::of(&dashboard, &parts, &bytes, not_taken) else { return response };
    // A page, also where the answer leads to the form to sign in.
    let status = if response.status().is_redirection() { StatusCode::FORBIDDEN } else { response.status() };
    let mut shown = page(status, &kept);
    if let Some(seconds) = response.headers().get(RETRY_AFTER) {
        shown.headers_mut().insert(RETRY_AFTER, seconds.clone());
    }
    shown
}

fn is_from_here(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin")
}

impl Kept {
    /// `None` where nothing was typed.
    fn of(dashboard: &Dashboard, parts: &Parts, body: &[u8], not_taken: NotTaken) -> Option<Self> {
        let mut fields: Fields = form_urlencoded::parse(body).into_owned().collect();
        fields.remove("token");
        let of_the_form = |name: &str| {
            let is_hidden = ["once", "version", "customer", "query"].contains(&name);
            is_hidden || name.starts_with("was:") || name.starts_with("back:")
        };
        let (known, typed): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| of_the_form(name));
        if typed.iter().all(|(_, value)| value.trim().is_empty()) {
            return None;
        }
        let visitor = Visitor::of(parts);
        let typed = typed.into_iter().map(|(name, value)| {
            let label = label(name.split_once(':').map_or(name.as_str(), |(_, attribute)| attribute));
            Typed { name, label, value }
        });
        Some(Self {
            frame: Frame::visiting(&visitor),
            not_taken,
            action: parts.uri.path().to_owned(),
            token: visitor
                .session(dashboard, SIGNED_IN)
                .map_or_else(String::new, |session| dashboard.sessions.token(&session)),
            known,
            typed: typed.collect(),
        })
    }
}
