//! The way from a path to who answers there.

use super::app::App;
use super::dialect::{Dialect, refusal};
use super::fault::{Fault, Kind};
use super::{anthropic, document, entry, health, ollama, openai, page, slots};
use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
use std::sync::Arc;

/// Who answers where, for those who look at figures.
pub fn observers_router(app: &Arc<App>) -> Router {
    health_router().route("/metrics", get(health::metrics)).with_state(Arc::clone(app))
}

fn health_router() -> Router<Arc<App>> {
    Router::new().route("/livez", get(health::live)).route("/readyz", get(health::ready))
}

/// Who answers where.
pub fn router(app: &Arc<App>) -> Router {
    let mut router = health_router();
    if app.options.metrics.is_none() {
        router = router.route("/metrics", get(health::metrics));
    }
    if app.options.slot_dir.is_some() {
        router = router.route("/slots", get(slots::list)).route("/slots/{id}", post(slots::act));
    }
    router
        .route("/", get(page::page))
        .route("/openapi.json", get(document::openapi))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*name}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::complete))
        .route("/v1/embeddings", post(openai::embed))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/api/version", get(ollama::version))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(app), entry::enter))
        .with_state(Arc::clone(app))
}

async fn nothing(request: Request) -> Response {
    let fault = Fault::new(Kind::NotFound, "there is nothing at this path");
    refusal(Dialect::of(request.uri().path()), &fault)
}

async fn wrong_method(request: Request) -> Response {
    let fault = Fault::new(Kind::Method, "this path takes another method");
    refusal(Dialect::of(request.uri().path()), &fault)
}
