//! A request on its way through the engine. A thread follows it, since the engine's events come to threads, and holds the request's
//! turn until the engine is done with it: however slow its client is, and however it leaves.

use super::app::App;
use super::fault::{Fault, Kind, Result};
use super::gate::Turn;
use super::keeper::Held;
use crate::engine::{Checked, Event};
use ggml::Cancel;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

/// An answer as it is written. Dropping it cancels it.
pub struct Answering {
    /// As many as the answer has tokens and the prompt has pieces, at most.
    events: UnboundedReceiver<Event>,
    cancel: Cancel,
    deadline: Instant,
}

impl Answering {
    /// Has `request` answered by the model that it holds, in its turn, by `deadline`.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn begin(
        app: &Arc<App>,
        request: Checked,
        (turn, model): (Turn, Arc<Held>),
        deadline: Instant,
    ) -> Result<Answering> {
        let ticket = model.engine().answer(request).map_err(Fault::of_request)?;
        let cancel = ticket.cancel().clone();
        let (to, events) = unbounded_channel();
        let (app, stopped) = (Arc::clone(app), app.stop.clone());
        spawn_blocking(move || {
            loop {
                let event = ticket.next_event();
                match &event {
                    Event::Done(outcome) if ticket.cancel().is_cancelled() => {
                        app.metrics.saw_answer(outcome);
                        app.metrics.saw_cancelled();
                    }
                    Event::Done(outcome) => app.metrics.saw_answer(outcome),
                    _ if stopped.is_cancelled() => ticket.cancel().cancel(),
                    _ => {}
                }
                let is_over = matches!(event, Event::Done(_) | Event::Failed(_));
                if to.send(event).is_err() {
                    ticket.cancel().cancel();
                }
                if is_over {
                    break;
                }
            }
            drop((turn, model));
        });
        Ok(Answering { events, cancel, deadline })
    }

    /// The next thing that happens; nothing follows `Done`.
    ///
    /// # Errors
    /// `Timeout`; what the engine says.
    pub async fn next(&mut self) -> Result<Event> {
        match timeout_at(self.deadline, self.events.recv()).await {
            Ok(Some(Event::Failed(error))) => Err(Fault::of_engine(error)),
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(Fault::new(Kind::Internal, "internal error: an answer without an end")),
            Err(_) => Err(Fault::new(Kind::Timeout, "the answer took longer than this server allows")),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
