//! The parts of a path. One that cannot be read is named, as everything else that is wrong with a request.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{self, FromRequestParts};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The parts that a route names.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.uri.path().contains("%00") {
            return Err(Problem::bad("path", "text without the character NUL"));
        }
        let extract::Path(named) = extract::Path::from_request_parts(parts, state).await.map_err(|rejection| {
            match &rejection {
                PathRejection::FailedToDeserializePathParams(failed) => match failed.kind() {
                    ErrorKind::InvalidUtf8InPathParam { key } => Problem::bad(key, "text in UTF-8"),
                    // Of all parts only ids have a form.
                    ErrorKind::DeserializeError { key, .. } => Problem::bad(key, "a UUID"),
                    _ => Problem::new(rejection.status()),
                },
                _ => Problem::new(rejection.status()),
            }
        })?;
        Ok(Self(named))
    }
}
