//! What goes wrong with a request, by whose fault it is, and how that is said in HTTP.

use crate::error::Error;
use axum::http::StatusCode;

pub type Result<T> = std::result::Result<T, Fault>;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub message: String,
    /// The part of the request that is wrong.
    pub param: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense.
    Request,
    /// The prompt is longer than the context.
    Context,
    Key,
    Forbidden,
    NotFound,
    Method,
    /// The peer was too slow, or its answer took too long.
    Timeout,
    TooLarge,
    /// Others are served first.
    Busy,
    /// The model is not to be had.
    NoModel,
    /// The program is about to end.
    Leaving,
    /// Our fault.
    Internal,
}

/// Seconds after which a client may try again when all places are taken.
pub const RETRY_AFTER_S: u32 = 5;

impl Kind {
    pub fn status(self) -> StatusCode {
        match self {
            Kind::Request | Kind::Context => StatusCode::BAD_REQUEST,
            Kind::Key => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Timeout => StatusCode::REQUEST_TIMEOUT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
            Kind::NoModel | Kind::Leaving => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Fault {
    pub fn new(kind: Kind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), param: None }
    }

    pub fn request(message: impl Into<String>) -> Fault {
        Fault::new(Kind::Request, message)
    }

    /// What is wrong with the part `param`; the message begins with its name.
    pub fn of(param: &str, problem: impl std::fmt::Display) -> Fault {
        Fault { param: Some(param.into()), ..Fault::request(format!("{param}: {problem}")) }
    }

    /// What was found before anything was computed: all of it stands in the request.
    pub fn of_request(error: Error) -> Fault {
        let kind = match &error {
            Error::Limit { what, .. } if what.starts_with("prompt") => Kind::Context,
            Error::Request(_) | Error::Limit { .. } | Error::Format { .. } | Error::Unsupported { .. } => {
                Kind::Request
            }
            _ => Kind::Internal,
        };
        Fault::new(kind, error.to_string())
    }

    /// What happened while something was computed.
    pub fn of_engine(error: Error) -> Fault {
        let kind = match &error {
            Error::Request(_) | Error::Limit { .. } => Kind::Request,
            Error::Cancelled => Kind::Leaving,
            _ => Kind::Internal,
        };
        Fault::new(kind, error.to_string())
    }

    pub fn busy(message: &str) -> Fault {
        Fault::new(Kind::Busy, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is() {
        let limit = |what: &str| Error::limit(what, 1, 2);
        for (fault, kind) in [
            (Fault::of_request(Error::request("no")), Kind::Request),
            (Fault::of_request(limit("prompt: tokens in this context")), Kind::Context),
            (Fault::of_request(limit("picture 1: pixels of a picture")), Kind::Request),
            (Fault::of_request(Error::format("picture 1", "broken PNG")), Kind::Request),
            (Fault::of_request(Error::internal("the engine has stopped")), Kind::Internal),
            (Fault::of_engine(Error::format("m.gguf", "no numbers")), Kind::Internal),
            (Fault::of_engine(Error::request("picture: another size")), Kind::Request),
            (Fault::of_engine(Error::Cancelled), Kind::Leaving),
        ] {
            assert_eq!(fault.kind, kind, "{fault:?}");
        }
    }
}
