//! `ETag`s of answers: the same answer has the same, and whoever has it already gets 304.

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use sqlx::types::Uuid;

use crate::problem::Problem;

/// Making the tag of a longer answer would hold up others.
const MAX_TAGGED_BYTES: u64 = 64 << 20;

/// The version of the customer that is answered, which the tag begins with: `If-Match` takes it from there.
#[derive(Clone, Copy)]
pub(super) struct Version {
    pub(super) of: Uuid,
    pub(super) version: i64,
}

/// The versions that a change is meant for; none: any.
pub(crate) struct IfMatch(Vec<Meant>);

/// A version, and of whom it is if that is said: versions of two customers who are merged may have the same number.
struct Meant {
    version: i64,
    of: Option<Uuid>,
}

impl IfMatch {
    /// One version; `None`: one that nothing has.
    pub(crate) fn only(version: Option<i64>, of: Option<Uuid>) -> Self {
        Self(vec![Meant { version: version.unwrap_or_default(), of }])
    }

    /// As numbers, whomever they are of.
    pub(crate) fn versions(&self) -> Vec<i64> {
        self.0.iter().map(|meant| meant.version).collect()
    }

    /// As numbers of versions of this customer: 0, which none has, for those of somebody else.
    pub(crate) fn versions_of(&self, customer: Uuid) -> Vec<i64> {
        let is_of = |meant: &Meant| meant.of.is_none_or(|of| of == customer);
        self.0.iter().map(|meant| if is_of(meant) { meant.version } else { 0 }).collect()
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(tags) = parts.headers.get(IF_MATCH).filter(|tags| *tags != "*") else { return Ok(Self(Vec::new())) };
        let versions: Vec<Meant> = tags.to_str().unwrap_or_default().split(',').filter_map(meant).collect();
        if versions.is_empty() {
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED)
                .with_detail("If-Match takes the ETag of a customer or an entry"));
        }
        Ok(Self(versions))
    }
}

/// The version that a tag begins with: also of a weak one, as proxies that compress make them.
fn meant(tag: &str) -> Option<Meant> {
    let tag = tag.trim().trim_start_matches("W/").strip_prefix('"')?.strip_suffix('"')?;
    let mut parts = tag.split('.');
    let (version, of) = (parts.next()?.parse().ok()?, parts.next());
    Some(Meant { version, of: of.and_then(|of| of.parse().ok()) })
}

/// Gives an answer to a GET its tag, unless it has one. What is answered belongs to one key, so nobody else may keep it. Nobody
/// at all keeps any other answer: caches may keep that somebody is known elsewhere or does not exist, and both can be undone.
pub(super) async fn tagged(request: Request, next: Next) -> Response {
    let is_get = request.method() == Method::GET;
    let known = request.headers().get(IF_NONE_MATCH).cloned();
    let mut response = next.run(request).await;
    if !is_get || response.status() != StatusCode::OK {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return response;
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    // Answers are made as a whole, so how long they are is known.
    if response.body().size_hint().upper().is_none_or(|bytes| bytes > MAX_TAGGED_BYTES) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "an answer broke off");
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR).into_response();
        }
    };
    let tag = parts.headers.get(ETAG).cloned().unwrap_or_else(|| tag_of(&bytes, parts.extensions.get()));
    let has_it = known.as_ref().is_some_and(|known| names(known, &tag));
    parts.headers.insert(ETAG, tag);
    if has_it {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_TYPE);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn tag_of(bytes: &Bytes, version: Option<&Version>) -> HeaderValue {
    let version = version.map(|Version { of, version }| format!("{version}.{of}.")).unwrap_or_default();
    let digest = Sha256::digest(bytes);
    let tag = format!("\"{version}{}\"", hex::encode(&digest[..16]));
    HeaderValue::from_str(&tag).unwrap_or_else(|_| unreachable!("digits and a dot are a header's value"))
}

/// Whether `If-None-Match` names a tag: weak ones, too, as proxies that compress make them.
fn names(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(known), Ok(tag)) = (known.to_str(), tag.to_str()) else { return false };
    known == "*" || known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn what_is_too_long_for_a_tag_is_answered_without_one() {
        let of = |bytes: u64| get(async move || "a".repeat(usize::try_from(bytes).unwrap()));
        let router =
            Router::new().route("/short", of(1)).route("/long", of(MAX_TAGGED_BYTES + 1)).layer(from_fn(tagged));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        for (path, is_tagged) in [("/short", true), ("/long", false)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: c360\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, _) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200") && head.contains("cache-control: private"), "{head}");
            assert_eq!(head.contains("etag: "), is_tagged, "{head}");
        }
    }
}
