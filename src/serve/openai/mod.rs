//! OpenAI's dialect: models and chat completions.

mod ask;
mod reply;

use super::app::App;
use super::dialect::{Dialect, json_response, refusal};
use super::exchange;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /v1/models`
pub async fn models(State(app): State<Arc<App>>) -> Response {
    let names = [app.facts().config.name.as_str(), "default"];
    let models: Vec<_> = names.iter().map(|name| description(name, app.started_s)).collect();
    json_response(&json!({"object": "list", "data": models}))
}

/// `GET /v1/models/{name}`
pub async fn model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    match app.check_model(&name) {
        Ok(()) => json_response(&description(&name, app.started_s)),
        Err(fault) => refusal(Dialect::OpenAi, &fault),
    }
}

/// `POST /v1/chat/completions`
pub async fn chat(State(app): State<Arc<App>>, request: Request) -> Response {
    exchange::answer(app, Dialect::OpenAi, request, ask::parse).await
}

fn description(name: &str, created_s: u64) -> Value {
    json!({"id": name, "object": "model", "created": created_s, "owned_by": "owlet"})
}
