//! Getting a request ready: its body is read, a place found, and what takes memory and time is done on threads of their own, few at a
//! time. What was asked for may have to be fetched first, which waits elsewhere, so that nobody waits for a slow server but who named it.

use super::app::App;
use super::body;
use super::entry::Caller;
use super::fault::{Fault, Kind, Result};
use super::fields::Fields;
use super::gate::Place;
use super::picture::{Pictures, fetch_all};
use axum::extract::Request;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

/// Where a request stands behind the first of its two halves.
enum Stage<A, T, P> {
    Ready(T),
    /// Pictures are to be fetched before it can be prepared; its body's share of the memory stays with it.
    Fetch(A, P, Option<OwnedSemaphorePermit>),
}

/// Reads a request, finds it a place, lets `parse` read off what is asked, and `prepare` make of it what the engine can take.
///
/// # Errors
/// What is wrong with it; `Busy`, `Leaving`.
pub async fn get_ready<A: Pictures + Send + 'static, T: Send + 'static>(
    app: &Arc<App>,
    request: Request,
    parse: impl FnOnce(&App, &Caller, Fields) -> Result<A> + Send + 'static,
    prepare: impl FnOnce(&App, A) -> Result<T> + Send + 'static,
) -> Result<(Place, Caller, T)> {
    if !app.is_ready() {
        return Err(leaving());
    }
    let (head, body) = request.into_parts();
    let caller = head.extensions.get::<Caller>().cloned();
    let caller =
        caller.ok_or_else(|| Fault::new(Kind::Internal, "internal error: a request without an id"))?;
    let held = body::read(app, &head.headers, body).await?;
    let place = app.gate.enter(caller.key)?;
    let (with, by) = (Arc::clone(app), caller.clone());
    // The place goes with the work, which goes on when its client has left.
    let first = apart(&app.preparing, move || {
        let fields = Fields::of_body(&held.bytes)?;
        let room = held.into_room();
        let mut asked = parse(&with, &by, fields)?;
        let pictures = asked.pictures();
        let (n, max) = (pictures.len(), with.limits().n_pictures as usize);
        if n > max {
            return Err(Fault::of("pictures", format_args!("at most {max} in a request, found {n}")));
        }
        let is_elsewhere = pictures.iter().any(|picture| picture.is_elsewhere());
        let stage = match is_elsewhere && with.options.urls.is_some() {
            true => Stage::Fetch(asked, prepare, room),
            false => Stage::Ready(prepare(&with, asked)?),
        };
        Ok((place, stage))
    });
    let (place, asked, prepare, room) = match first.await? {
        (place, Stage::Ready(ready)) => return Ok((place, caller, ready)),
        (place, Stage::Fetch(asked, prepare, room)) => (place, asked, prepare, room),
    };
    let with = Arc::clone(app);
    let fetched = apart(&app.fetching, move || {
        let (mut asked, place) = (asked, place);
        if let Some(policy) = &with.options.urls {
            fetch_all(asked.pictures(), policy, with.limits().max_body_bytes)?;
        }
        Ok((place, asked))
    });
    let (place, asked) = fetched.await?;
    let with = Arc::clone(app);
    let prepared = apart(&app.preparing, move || {
        let prepared = prepare(&with, asked)?;
        drop(room);
        Ok((place, prepared))
    });
    let (place, prepared) = prepared.await?;
    Ok((place, caller, prepared))
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
