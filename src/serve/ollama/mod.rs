//! Ollama's dialect: chat, generate, and what its clients ask about a server.

mod ask;
mod reply;

#[cfg(test)]
pub use ask::{chat as read_chat, generate as read_generate, show as read_show};

use super::app::App;
use super::dialect::{Dialect, json_response, refusal};
use super::keeper::Condition;
use super::{exchange, ready, time};
use axum::extract::{Request, State};
use axum::response::Response;
use owlet_format::hex;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// `POST /api/chat`
pub async fn chat(State(app): State<Arc<App>>, request: Request) -> Response {
    exchange::answer(app, Dialect::Ollama, request, ask::chat).await
}

/// `POST /api/generate`
pub async fn generate(State(app): State<Arc<App>>, request: Request) -> Response {
    exchange::answer(app, Dialect::Ollama, request, ask::generate).await
}

/// `GET /api/tags`
pub async fn tags(State(app): State<Arc<App>>) -> Response {
    json_response(&json!({"models": [description(&app)]}))
}

/// `GET /api/ps`: the model, as long as it is in memory.
pub async fn ps(State(app): State<Arc<App>>) -> Response {
    if !matches!(app.keeper.kept().condition, Condition::Testing | Condition::Loaded) {
        return json_response(&json!({"models": []}));
    }
    let expires_at = match app.keeper.rests_at() {
        Some(at) => time::rfc3339(time::now_s() + at.saturating_duration_since(Instant::now()).as_secs()),
        None => "9999-12-31T23:59:59Z".into(),
    };
    let mut model = description(&app);
    model["expires_at"] = json!(expires_at);
    model["size_vram"] = json!(0);
    model["context_length"] = json!(app.facts().n_ctx);
    json_response(&json!({"models": [model]}))
}

/// `POST /api/show`
pub async fn show(State(app): State<Arc<App>>, request: Request) -> Response {
    let shown = ready::read(&app, request, ask::show).await.map(|_| {
        let loaded = app.facts();
        let sees = if loaded.n_image_tokens().is_some() {
            &["completion", "vision"][..]
        } else {
            &["completion"][..]
        };
        json!({
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": details(&app),
            "model_info": {
                "general.architecture": "owlet",
                "general.name": loaded.config.name,
                "owlet.family": loaded.config.family,
                "owlet.context_length": loaded.text.n_ctx_train,
                "owlet.embedding_length": loaded.text.n_embd,
                "owlet.block_count": loaded.text.n_layer,
            },
            "capabilities": sees,
        })
    });
    shown.map_or_else(|fault| refusal(Dialect::Ollama, &fault), |shown| json_response(&shown))
}

/// `GET /api/version`
pub async fn version() -> Response {
    json_response(&json!({"version": env!("CARGO_PKG_VERSION")}))
}

fn description(app: &App) -> Value {
    let loaded = app.facts();
    let name = format!("{}:latest", loaded.config.name);
    json!({
        "name": name,
        "model": name,
        "modified_at": time::rfc3339(app.started_s),
        "size": loaded.n_file_bytes,
        "digest": hex(&loaded.digest),
        "details": details(app),
    })
}

fn details(app: &App) -> Value {
    let family = &app.facts().config.family;
    json!({"parent_model": "", "format": "gguf", "family": family, "families": [family], "parameter_size": "", "quantization_level": ""})
}
