//! Who asks for a page: what the request says of how it is to be read, and the key that its cookie leads to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{ACCEPT_LANGUAGE, COOKIE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::{Extension, Form};
use chrono::Utc;
use tokio::time::timeout;

use super::Dashboard;
use super::frame::Frame;
use super::kept::NotTaken;
use super::locale::Locale;
use super::session::Session;
use crate::api::Caller;
use crate::api::access::request_id;
use crate::problem::Problem;
use crate::routes::ANSWER_WITHIN;

/// Of somebody who signed in.
pub(super) const SIGNED_IN: &str = "c360_session";
/// Of somebody who looks at the form to sign in. Apart from the other, so that a link on another site, with which no cookie
/// is sent, signs nobody out.
pub(super) const VISITING: &str = "c360_visit";
pub(super) const THEME: &str = "c360_theme";
/// The name of a time zone: the script knows that of the browser.
const ZONE: &str = "c360_zone";

/// Anybody.
pub(super) struct Visitor {
    /// The path and query of the page; of a form that was sent, of the page that has it.
    pub(super) here: String,
    /// Whether that is what was asked for.
    pub(super) is_get: bool,
    /// dark or light; `None`: what the system says.
    pub(super) theme: Option<&'static str>,
    pub(super) locale: Locale,
    pub(super) request_id: String,
    is_https: bool,
    cookies: String,
}

impl Visitor {
    pub(super) fn of(parts: &Parts) -> Self {
        let header = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let cookies = header(&COOKIE).unwrap_or_default().to_owned();
        let theme = cookie(&cookies, THEME).unwrap_or_default();
        let asked = || parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let is_get = parts.method == Method::GET;
        Self {
            here: if is_get { asked() } else { page_of_form(parts.uri.path()) },
            is_get,
            theme: ["dark", "light"].into_iter().find(|known| *known == theme),
            locale: Locale::new(
                header(&ACCEPT_LANGUAGE).unwrap_or_default(),
                cookie(&cookies, ZONE).unwrap_or_default(),
                Utc::now(),
            ),
            request_id: request_id(parts),
            is_https: parts.headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https"),
            cookies,
        }
    }

    /// The session of a cookie.
    pub(super) fn session(&self, dashboard: &Dashboard, name: &str) -> Option<Session> {
        dashboard.sessions.open(cookie(&self.cookies, name)?, self.locale.now)
    }

    /// Sets a cookie; with no seconds, takes it away.
    pub(super) fn cookie(&self, name: &str, value: &str, seconds: i64) -> HeaderValue {
        let secure = if self.is_https { "; Secure" } else { "" };
        let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::from_str(&cookie).unwrap_or_else(|_| unreachable!("our cookies are headers' values"))
    }
}

fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    cookies.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

impl FromRequestParts<Arc<Dashboard>> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Dashboard>) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// Somebody who signed in.
pub(super) struct Reader {
    pub(super) visitor: Visitor,
    pub(super) caller: Caller,
    pub(super) session: Session,
}

impl FromRequestParts<Arc<Dashboard>> for Reader {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, dashboard: &Arc<Dashboard>) -> Result<Self, Response> {
        let visitor = Visitor::of(parts);
        let Some(session) = visitor.session(dashboard, SIGNED_IN) else { return Err(turned_away(parts, &visitor)) };
        let admitted = async {
            match dashboard.api.keyring.of_id(session.key_id, visitor.locale.now).await? {
                Some(key) => Caller::admit(&dashboard.api, key, parts).await.map(Some),
                None => Ok(None),
            }
        };
        match admitted.await {
            Ok(Some(caller)) => Ok(Self { visitor, caller, session }),
            Ok(None) => Err(turned_away(parts, &visitor)),
            Err(problem) => Err(Frame::visiting(&visitor).failure(&problem)),
        }
    }
}

/// Whoever has not signed in does that first, and comes back to the page. With a link on another site no cookie is sent: the
/// page asks for itself once more, and then it is.
fn turned_away(parts: &Parts, visitor: &Visitor) -> Response {
    let is_get = parts.method == Method::GET;
    if is_get && parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Html("<!doctype html><html lang=\"en\"><meta http-equiv=\"refresh\" content=\"0\"><title>c360</title>")
            .into_response();
    }
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", &visitor.here).finish();
    (Extension(NotTaken::signed_out()), Redirect::to(&format!("/sign-in?{query}"))).into_response()
}

/// The page that has the form that is sent to this path; the customers for those that are on many.
fn page_of_form(path: &str) -> String {
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("customers"), Some(customer)) => format!("/customers/{customer}"),
        (Some(page @ ("lists" | "operations")), _) => format!("/{page}"),
        _ => "/customers".to_owned(),
    }
}

/// What a form says.
pub(super) type Fields = BTreeMap<String, String>;

/// A form that somebody sent who signed in, and who was shown it by us.
pub(super) struct Posted {
    pub(super) reader: Reader,
    pub(super) fields: Fields,
}

impl FromRequest<Arc<Dashboard>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, dashboard: &Arc<Dashboard>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let reader = Reader::from_request_parts(&mut parts, dashboard).await?;
        // Nearly all requests end in time; one that may take as long as it does is to begin in time.
        let fields = timeout(ANSWER_WITHIN, Form::<Fields>::from_request(Request::from_parts(parts, body), &())).await;
        let Ok(fields) = fields else {
            let problem = Problem::new(StatusCode::REQUEST_TIMEOUT);
            return Err(Frame::of(dashboard, &reader).failure(&problem));
        };
        let problem = match fields {
            Ok(Form(fields)) if is_ours(dashboard, &reader.session, &fields) => {
                // Of line breaks browsers make carriage returns and line feeds, whatever they were.
                let fields = fields.into_iter().map(|(name, said)| (name, said.replace("\r\n", "\n"))).collect();
                return Ok(Self { reader, fields });
            }
            Ok(_) => Problem::new(StatusCode::FORBIDDEN)
                .with_detail("This form was not made for you, or is older than your sign-in: open the page again"),
            Err(rejection) => Problem::new(rejection.status()),
        };
        Err(Frame::of(dashboard, &reader).failure(&problem))
    }
}

/// Whether a form carries the token of the session.
pub(super) fn is_ours(dashboard: &Dashboard, session: &Session, fields: &Fields) -> bool {
    fields.get("token").is_some_and(|token| dashboard.sessions.is_token(session, token))
}
