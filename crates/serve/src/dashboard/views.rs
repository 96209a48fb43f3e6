//! Saved views: filters of the customers page that somebody comes back to. They belong to the name of a key, and nobody else
//! sees them: what they ask for may be nothing that others are to see.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::Dashboard;
use super::customers::Asked;
use super::frame::{Frame, page};
use super::visitor::{Posted, Reader};
use crate::api::views;
use crate::problem::Problem;

/// A view on the customers page.
pub(super) struct Tab {
    pub(super) name: String,
    pub(super) link: String,
    pub(super) is_current: bool,
}

/// The views of a reader.
pub(super) async fn tabs(dashboard: &Dashboard, reader: &Reader, asked: &Asked) -> Result<Vec<Tab>, Problem> {
    let views = views::of(&dashboard.api, &reader.caller).await?;
    let tab = |view: views::View| Tab {
        is_current: asked.is_same(&view.query),
        link: view_link(&view.query),
        name: view.name,
    };
    Ok(views.into_iter().map(tab).collect())
}

fn view_link(query: &[(String, String)]) -> String {
    format!("/customers?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish())
}

/// That there is a view of this name, which asks for something else.
#[derive(Template)]
#[template(path = "replace_view.html")]
struct Replace {
    frame: Frame,
    name: String,
    query: String,
    back: String,
}

/// `POST /views`: saves what a page of customers asks for; over another view of this name only with `replace`.
pub(super) async fn save(State(dashboard): State<Arc<Dashboard>>, posted: Posted) -> Response {
    let field = |name| posted.fields.get(name).map(String::as_str).unwrap_or_default();
    let asked = Asked::of(&format!("?{}", field("query")));
    let (query, name) = (asked.kept(), field("name").trim());
    if !posted.fields.contains_key("replace") {
        let views = views::of(&dashboard.api, &posted.reader.caller).await;
        let is_other = |view: &views::View| view.name == name && !asked.is_same(&view.query);
        if views.is_ok_and(|views| views.iter().any(is_other)) {
            let frame = Frame::of(&dashboard, &posted.reader);
            let replace =
                Replace { frame, name: name.to_owned(), query: field("query").to_owned(), back: view_link(&query) };
            return page(StatusCode::CONFLICT, &replace);
        }
    }
    let saved = views::save(&dashboard.api, &posted.reader.caller, name, &query).await;
    back(&dashboard, &posted.reader, saved.map(|()| view_link(&query)))
}

/// `POST /views/remove`
pub(super) async fn remove(State(dashboard): State<Arc<Dashboard>>, posted: Posted) -> Response {
    let name = posted.fields.get("name").map(String::as_str).unwrap_or_default();
    let removed = views::remove(&dashboard.api, &posted.reader.caller, name).await;
    back(&dashboard, &posted.reader, removed.map(|()| "/customers".to_owned()))
}

fn back(dashboard: &Dashboard, reader: &Reader, done: Result<String, Problem>) -> Response {
    match done {
        Ok(link) => Redirect::to(&link).into_response(),
        Err(problem) => Frame::of(dashboard, reader).failure(&problem),
    }
}
