//! Anthropic's dialect: messages, and how many tokens they have.

mod ask;
mod reply;

#[cfg(test)]
pub use ask::{messages as read_messages, to_count as read_count};

use super::app::App;
use super::dialect::{Dialect, json_response, refusal};
use super::exchange;
use super::ready::with_model;
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
    let counted = with_model(&app, request, ask::to_count, |app, caller, question| {
        Ok(question.prepare(app, caller)?.request.n_prompt())
    });
    match counted.await {
        Ok((.., n)) => json_response(&json!({"input_tokens": n})),
        Err(fault) => refusal(Dialect::Anthropic, &fault),
    }
}
