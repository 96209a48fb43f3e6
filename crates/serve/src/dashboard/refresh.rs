//! Asking the REST sources about a customer now, from the customer's page.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use chrono::TimeDelta;
use sqlx::types::Uuid;

use super::Dashboard;
use super::frame::Frame;
use super::visitor::Posted;
use crate::api::params::Params;
use crate::api::refresh::{self, Outcome};
use crate::problem::Problem;

/// `POST /customers/{customer}/refresh`
pub(super) async fn ask(
    State(dashboard): State<Arc<Dashboard>>,
    Path(customer): Path<Uuid>,
    posted: Posted,
) -> Response {
    let asked = refresh::ask(&dashboard.api, &posted.reader.caller, &customer.to_string(), TimeDelta::zero()).await;
    match asked {
        Ok(asked) => {
            let silent = asked.sources.iter().filter(|source| source.outcome != Outcome::Answered);
            let silent = silent.map(|source| ("silent", source.system.as_str()));
            let did = if asked.sources.is_empty() { "unasked" } else { "asked" };
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("did", did)
                .extend_pairs(silent)
                .extend_pairs((!asked.has_followed).then_some(("waits", "1")))
                .finish();
            Redirect::to(&format!("/customers/{customer}?{query}")).into_response()
        }
        Err(refusal) => Frame::of(&dashboard, &posted.reader).refusal(&refusal, "/refresh"),
    }
}

/// What became of asking, as the page that follows says it.
pub(super) fn told(dashboard: &Dashboard, params: &mut Params) -> Result<String, Problem> {
    let systems: Vec<&str> = dashboard.systems.names().iter().map(String::as_str).collect();
    let silent = params.any_of("silent", &systems)?;
    Ok(match silent.len() {
        0 => "Sources asked.".to_owned(),
        _ => format!("Sources asked. No answer yet from {}; what it said before is shown.", silent.join(", ")),
    })
}
