//! What was asked, for the log of a server whose operator wants it there (`--log-prompts`): texts as they are; of a picture how many
//! bytes its file has and their SHA-256, and never the picture itself. A key is no part of a question.

use super::picture::Seen;
use crate::engine::Request;
use crate::prompt::{Message, Part, Role};
use owlet_format::hex;
use serde_json::{Value, json};

/// What the log says when the server starts.
pub const WARNING: &str = "--log-prompts: this log holds what is asked and answered";

/// `request`, about `pictures`.
pub fn question(request: &Request, pictures: &[Seen]) -> Value {
    let part = |part: &Part| match part {
        Part::Text(text) => json!({"text": text}),
        Part::Image(at) => {
            let file = pictures.get(*at).and_then(|seen| seen.file);
            json!({"picture": file.map(|file| json!({"bytes": file.n_bytes, "sha256": hex(&file.sha256)}))})
        }
    };
    let message = |message: &Message| {
        let role = if message.role == Role::User { "user" } else { "assistant" };
        json!({"role": role, "content": message.parts.iter().map(part).collect::<Vec<_>>()})
    };
    let messages: Vec<Value> = request.messages.iter().map(message).collect();
    json!({"system": request.system, "messages": messages})
}
