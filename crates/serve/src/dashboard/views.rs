//! Saved views: filters of the customers page that somebody comes back to. They belong to the name of a key, and nobody else
//! sees them: what they ask for may be nothing that others are to see.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::Dashboard;
use super::customers::Asked;
use super::frame::Frame;
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

/// `POST /views`: saves what a page of customers asks for.
pub(super) async fn save(State(dashboard): State<Arc<Dashboard>>, posted: Posted) -> Response {
    let field = |name| posted.fields.get(name).map(String::as_str).unwrap_or_default();
    let query = Asked::of(&format!("?{}", field("query"))).kept();
    let saved = views::save(&dashboard.api, &posted.reader.caller, field("name").trim(), &query).await;
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
