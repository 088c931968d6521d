//! Anthropic's dialect: messages, and how many tokens they have.

mod ask;
mod reply;

use super::app::App;
use super::dialect::{Dialect, json_response, refusal};
use super::exchange;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;

/// `POST /v1/messages`
pub async fn messages(State(app): State<Arc<App>>, request: Request) -> Response {
    exchange::answer(app, Dialect::Anthropic, request, ask::messages).await
}

/// `POST /v1/messages/count_tokens`: positions of the prompt, pictures included.
pub async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Response {
    let counted = exchange::with_model(&app, request, |app, caller, fields| {
        Ok(ask::to_count(app, fields)?.prepare(app, caller)?.request.n_prompt())
    });
    match counted.await {
        Ok((.., n)) => json_response(&json!({"input_tokens": n})),
        Err(fault) => refusal(Dialect::Anthropic, &fault),
    }
}
