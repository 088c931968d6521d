//! Getting a request ready: its body is read, a place found, the model held, and what takes memory and time is done on threads of their
//! own, few at a time. What was asked for may have to be fetched first, which waits elsewhere, so that nobody waits for a slow server
//! but who named it.

use super::app::App;
use super::body;
use super::caller::Caller;
use super::fault::{Fault, Kind, Result};
use super::fields::Fields;
use super::gate::Place;
use super::keeper::Held;
use super::picture::{Pictures, fetch_all};
use axum::extract::Request;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

/// A request that was read: what it asks for, and what it takes of this server.
pub struct Read<A> {
    pub asked: A,
    pub caller: Caller,
    place: Place,
    /// Its body's share of the memory.
    room: Option<OwnedSemaphorePermit>,
}

/// Reads a request, finds it a place, lets `parse` read off what is asked, and fetches pictures that are elsewhere.
///
/// # Errors
/// What is wrong with it; `Busy`, `Leaving`.
pub async fn read<A: Pictures + Send + 'static>(
    app: &Arc<App>,
    request: Request,
    parse: impl FnOnce(&App, &Caller, Fields) -> Result<A> + Send + 'static,
) -> Result<Read<A>> {
    if app.is_leaving() {
        return Err(leaving());
    }
    let (head, body) = request.into_parts();
    let caller = head.extensions.get::<Caller>().cloned();
    let caller =
        caller.ok_or_else(|| Fault::new(Kind::Internal, "internal error: a request without an id"))?;
    let held = body::read(app, &head.headers, body).await?;
    let place = app.gate.enter(caller.key)?;
    let with = Arc::clone(app);
    // The place goes with the work, which goes on when its client has left.
    let parsed = apart(&app.preparing, move || {
        let fields = Fields::of_body(&held.bytes)?;
        let room = held.into_room();
        let mut asked = parse(&with, &caller, fields)?;
        let pictures = asked.pictures();
        let (n, max) = (pictures.len(), with.limits().n_pictures as usize);
        if n > max {
            return Err(Fault::of("pictures", format_args!("at most {max} in a request, found {n}")));
        }
        let is_elsewhere = pictures.iter().any(|picture| picture.is_elsewhere());
        Ok((Read { asked, caller, place, room }, is_elsewhere))
    });
    let (mut read, is_elsewhere) = parsed.await?;
    if !is_elsewhere {
        return Ok(read);
    }
    let with = Arc::clone(app);
    let fetched = apart(&app.fetching, move || {
        if let Some(policy) = &with.options.urls {
            fetch_all(read.asked.pictures(), policy, with.limits().max_body_bytes)?;
        }
        Ok(read)
    });
    fetched.await
}

/// [Reads](read) a request, waits for the model and holds it, and lets `prepare` make of what is asked what the engine can take.
///
/// # Errors
/// As [`read`]; `NoModel`.
pub async fn with_model<A: Pictures + Send + 'static, T: Send + 'static>(
    app: &Arc<App>,
    request: Request,
    parse: impl FnOnce(&App, &Caller, Fields) -> Result<A> + Send + 'static,
    prepare: impl FnOnce(&App, &Caller, A) -> Result<T> + Send + 'static,
) -> Result<((Place, Arc<Held>), Caller, T)> {
    let Read { asked, caller, place, room } = read(app, request, parse).await?;
    let model = Arc::new(app.keeper.hold().await?);
    let with = Arc::clone(app);
    let prepared = apart(&app.preparing, move || {
        let prepared = prepare(&with, &caller, asked)?;
        drop(room);
        Ok(((place, model), caller, prepared))
    });
    prepared.await
}

/// Does `work` on a thread, once `few` lets it.
async fn apart<T: Send + 'static>(
    few: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let Ok(permit) = Arc::clone(few).acquire_owned().await else { return Err(leaving()) };
    let done = spawn_blocking(move || {
        let done = work();
        drop(permit);
        done
    });
    done.await.unwrap_or_else(|_| Err(Fault::new(Kind::Internal, "internal error: a request was dropped")))
}

pub fn leaving() -> Fault {
    Fault::new(Kind::Leaving, "this server is about to end")
}
