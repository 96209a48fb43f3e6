//! The document that describes the API, made from the handlers.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi as Document, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use crate::problem::Problem;

/// What is the same for all operations.
#[derive(OpenApi)]
#[openapi(
    info(title = "c360", description = "Golden customer records. Every error is a problem of RFC 9457."),
    components(schemas(Problem)),
    security(("key" = [])),
    modifiers(&Key),
)]
struct Described;

/// The scheme of the keys.
struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key: `c360 keys add` makes one"))
            .build();
        document
            .components
            .get_or_insert_with(Components::new)
            .add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

/// A router whose routes describe themselves.
pub(super) fn documented() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Described::openapi())
}

/// What every operation may answer besides what it says itself.
fn with_problems(document: &mut Document) {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new()
        .description("What is wrong, and what to do")
        .content("application/problem+json", problem)
        .build();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), response.clone().into());
        }
    }
}

/// `/openapi.json`. Everybody may read how to ask.
pub(super) fn route(mut document: Document) -> Router<Arc<Api>> {
    with_problems(&mut document);
    let json = document.to_json().unwrap_or_else(|error| unreachable!("the document is JSON: {error}"));
    let answer = async move || ([(CONTENT_TYPE, "application/json")], json.clone());
    Router::new().route("/openapi.json", get(answer))
}
