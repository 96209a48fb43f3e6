//! The document that describes the API, made from the handlers.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi as Document, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use crate::problem::Problem;

const ABOUT: &str =
    "Golden customer records. A key goes into the header `Authorization: Bearer c360_...`; `c360 keys add` makes one.

Every error is a problem of RFC 9457, `application/problem+json`, which says what is wrong and what to do:

* `400` a parameter, cursor or body cannot be read; `errors` says which, and what is allowed
* `401` no key, or one that is not valid any more
* `403` the role of the key, or its row filter, does not allow it
* `404` there is nothing, or nothing that the key may see
* `412` it has changed since: `If-Match` named another version
* `413`, `415` a body of more than a mebibyte, or one that is not JSON
* `422` a body or value that can be read and cannot be accepted; `errors` says why
* `429` more than 500 requests a second; `Retry-After` says when to try again
* `503` the database does not answer; `Retry-After` says when to try again";

/// What is the same for all operations.
#[derive(OpenApi)]
#[openapi(
    info(title = "c360", description = ABOUT),
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

/// The document with what is the same for all operations.
pub(super) fn finished(mut document: Document) -> Value {
    with_problems(&mut document);
    serde_json::to_value(&document).unwrap_or_else(|error| unreachable!("the document is JSON: {error}"))
}

/// `/openapi.json`, also among what it describes. Everybody may read how to ask.
pub(super) fn route(document: &Value) -> Router<Arc<Api>> {
    let json = document.to_string();
    let answer = async move || ([(CONTENT_TYPE, "application/json")], json.clone());
    Router::new().route("/openapi.json", get(answer.clone())).route("/api/v1/openapi.json", get(answer))
}
