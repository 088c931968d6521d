//! Whether the server lives, whether it takes requests, and what it has done.

use super::app::App;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

pub async fn live() -> &'static str {
    "alive\n"
}

/// Ready is a server whose model was loaded and has computed here what its file says, if that says it; also while it is given
/// back, since the next request loads it. Kernels that do not pass their self-check are not used.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    let (is_ready, why) = app.readiness();
    match is_ready {
        true => format!("ready: {why}\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics_text()).into_response()
}
