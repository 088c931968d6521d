//! The body of a request: all of it, within its limits of bytes and time, and within what all bodies together may take.

use super::app::{App, BODY_STEP};
use super::fault::{Fault, Kind, Result};
use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// A body, and its share of the memory of bodies.
pub struct Held {
    pub bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Gives the bytes up, and what they take of the memory of bodies to whoever made something of them.
    pub fn into_room(self) -> Option<OwnedSemaphorePermit> {
        self.room
    }
}

/// Reads `body`, whose request has `headers`.
///
/// # Errors
/// `TooLarge`, `Timeout`, `Busy`; `Request` where it breaks off.
pub async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<Held> {
    let max = app.limits().max_body_bytes;
    let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|n| n > max) {
        return Err(too_large(max));
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        return Err(Fault::of("content-encoding", "expected none, this server unpacks nothing"));
    }
    let read = timeout(app.limits().peer, take(app, body, max)).await;
    read.unwrap_or_else(|_| Err(Fault::new(Kind::Timeout, "the request's body took too long to arrive")))
}

async fn take(app: &App, mut body: Body, max: u64) -> Result<Held> {
    let mut bytes = Vec::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Fault::request("the request's body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        let n_bytes = (bytes.len() + data.len()) as u64;
        if n_bytes > max {
            return Err(too_large(max));
        }
        let n_held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        let n_more = n_bytes.div_ceil(BODY_STEP).saturating_sub(n_held) as u32;
        if n_more > 0 {
            let more = Arc::clone(&app.room).try_acquire_many_owned(n_more);
            let more =
                more.map_err(|_| Fault::busy("there is no memory for another request now; try again later"))?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Held { bytes, room })
}

fn too_large(max: u64) -> Fault {
    Fault::new(Kind::TooLarge, format!("the request's body: at most {max} bytes"))
}
