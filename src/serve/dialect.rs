//! Whose words a path speaks, and how each says that something went wrong.

use super::fault::{Fault, Kind, RETRY_AFTER_S};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Dialect {
    /// Of those who ask at `path`.
    pub fn of(path: &str) -> Dialect {
        if path.starts_with("/api/") {
            Dialect::Ollama
        } else if path == "/v1/messages" || path.starts_with("/v1/messages/") {
            Dialect::Anthropic
        } else {
            Dialect::OpenAi
        }
    }

    /// `fault` as an object.
    pub fn shape(self, fault: &Fault) -> Value {
        match self {
            Dialect::OpenAi => {
                let (kind, code) = openai(fault.kind);
                json!({"error": {"message": fault.message, "type": kind, "param": fault.param, "code": code}})
            }
            Dialect::Anthropic => {
                json!({"type": "error", "error": {"type": anthropic(fault.kind), "message": fault.message}})
            }
            Dialect::Ollama => json!({"error": fault.message}),
        }
    }
}

/// Type and code.
fn openai(kind: Kind) -> (&'static str, Option<&'static str>) {
    match kind {
        Kind::Request | Kind::Method => ("invalid_request_error", None),
        Kind::Context => ("invalid_request_error", Some("context_length_exceeded")),
        Kind::Key => ("invalid_request_error", Some("invalid_api_key")),
        Kind::Forbidden => ("permission_error", None),
        Kind::NotFound => ("invalid_request_error", Some("not_found")),
        Kind::Timeout => ("timeout", None),
        Kind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        Kind::Busy => ("rate_limit_error", Some("rate_limit_exceeded")),
        Kind::NoModel | Kind::Leaving | Kind::Internal => ("server_error", None),
    }
}

fn anthropic(kind: Kind) -> &'static str {
    match kind {
        Kind::Request | Kind::Context | Kind::Method => "invalid_request_error",
        Kind::Key => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::Timeout => "timeout_error",
        Kind::TooLarge => "request_too_large",
        Kind::Busy => "rate_limit_error",
        Kind::NoModel | Kind::Leaving => "overloaded_error",
        Kind::Internal => "api_error",
    }
}

/// A response that says `fault`.
pub fn refusal(dialect: Dialect, fault: &Fault) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (fault.kind.status(), json, dialect.shape(fault).to_string()).into_response();
    let headers = response.headers_mut();
    match fault.kind {
        Kind::Busy | Kind::NoModel | Kind::Leaving => {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
        }
        Kind::Key => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // What the peer goes on sending is no request.
        Kind::TooLarge | Kind::Timeout => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

/// A response of JSON.
pub fn json_response(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
