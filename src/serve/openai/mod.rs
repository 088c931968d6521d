//! OpenAI's dialect: models, chat completions, completions, embeddings of pictures.

mod ask;
mod completion;
mod embedding;
mod reply;
mod settings;

#[cfg(test)]
pub use {ask::parse as read_chat, completion::parse as read_completion, embedding::parse as read_embedding};

use super::app::App;
use super::dialect::{Dialect, json_response, refusal};
use super::fault::Result;
use super::ready::with_model;
use super::{exchange, looking};
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

/// `POST /v1/completions`
pub async fn complete(State(app): State<Arc<App>>, request: Request) -> Response {
    exchange::answer(app, Dialect::OpenAi, request, completion::parse).await
}

/// `POST /v1/embeddings`
pub async fn embed(State(app): State<Arc<App>>, request: Request) -> Response {
    embedded(&app, request).await.unwrap_or_else(|fault| refusal(Dialect::OpenAi, &fault))
}

async fn embedded(app: &Arc<App>, request: Request) -> Result<Response> {
    let (held, caller, ready) = with_model(app, request, embedding::parse, embedding::prepare).await?;
    let rows = looking::pooled(app, held, app.scope(&caller), ready.pictures.clone()).await?;
    let n_positions = app.facts().n_image_tokens().unwrap_or(0);
    Ok(json_response(&ready.response(&rows, n_positions)))
}

fn description(name: &str, created_s: u64) -> Value {
    json!({"id": name, "object": "model", "created": created_s, "owned_by": "owlet"})
}
