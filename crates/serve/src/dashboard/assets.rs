//! The files that pages load, under names that change with what is in them: a browser keeps them for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

/// A file.
pub(super) struct Asset {
    content: &'static str,
    media_type: &'static str,
    /// Where it is.
    pub(super) path: String,
}

impl Asset {
    fn new(stem: &str, extension: &str, media_type: &'static str, content: &'static str) -> Self {
        let digest = hex::encode(&Sha256::digest(content)[..8]);
        Self { content, media_type, path: format!("/assets/{stem}.{digest}.{extension}") }
    }
}

pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("dashboard", "css", "text/css; charset=utf-8", include_str!("assets/dashboard.css")));
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("dashboard", "js", "text/javascript; charset=utf-8", include_str!("assets/dashboard.js"))
});
pub(super) static MARK: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("mark", "svg", "image/svg+xml", include_str!("assets/mark.svg")));

/// `GET /assets/{file}`: what somebody who has not signed in sees, too.
pub(super) async fn file(Path(name): Path<String>) -> Response {
    let assets = [&*STYLE, &*SCRIPT, &*MARK];
    match assets.into_iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(&name)) {
        Some(asset) => {
            let headers = [(CONTENT_TYPE, asset.media_type), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
            (headers, asset.content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
