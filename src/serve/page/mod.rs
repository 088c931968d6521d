//! The page at `/`: one file, put together from its parts when the program starts, that asks this server as any other client does. It
//! fetches nothing from elsewhere and may not: its policy names the digests of its one script and its one style sheet, and this
//! server as the only place to talk to.

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// One script: each part knows those before it.
const SCRIPT: &str = concat!(
    include_str!("keep.js"),
    include_str!("words.js"),
    include_str!("turns.js"),
    include_str!("ask.js"),
    include_str!("composer.js"),
    include_str!("export.js"),
    include_str!("main.js"),
);

/// The page, and what a browser may do for it.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = FRAME.replace("/* style */", STYLE).replace("/* script */", SCRIPT);
    let digest = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data: blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    (page, policy)
});

/// `GET /`
pub async fn page() -> Response {
    let (page, policy) = &*PAGE;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ];
    (headers, page.as_str()).into_response()
}
