//! A response that is written while it is sent.

use super::voice::Voice;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{self, HeaderName};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Pieces that wait for a client to read on.
const MAX_WAITING: usize = 16;

/// The writing end.
pub struct Writer(Sender<Bytes>);

/// The client has left.
#[derive(Debug, PartialEq, Eq)]
pub struct Left;

/// A response of a type, and who writes it.
pub fn stream(content_type: &'static str) -> (Writer, Response) {
    let (sender, receiver) = channel(MAX_WAITING);
    let headers =
        [(header::CONTENT_TYPE, content_type), (HeaderName::from_static("x-accel-buffering"), "no")];
    (Writer(sender), (headers, Body::new(Pieces(receiver))).into_response())
}

impl Writer {
    /// # Errors
    /// The client has left.
    pub async fn write(&self, text: String) -> Result<(), Left> {
        if text.is_empty() {
            return Ok(());
        }
        self.0.send(text.into()).await.map_err(|_| Left)
    }

    /// Says `text` as something that clients skip, if `voice` can.
    ///
    /// # Errors
    /// The client has left.
    pub async fn remark(&self, voice: &dyn Voice, text: &str) -> Result<(), Left> {
        self.write(voice.remark(text).unwrap_or_default()).await
    }

    /// Waits for the client to leave.
    pub async fn left(&self) {
        self.0.closed().await;
    }
}

/// The reading end.
struct Pieces(Receiver<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
