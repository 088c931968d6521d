//! From a submitted request to its end: events become text on the screen and a line of progress.

use super::interrupt::Interruptible;
use super::progress::{Progress, Unit};
use super::screen::note;
use crate::engine::{EmbeddingSource, Event, Outcome, Ticket};
use crate::error::Result;
use std::time::Duration;

/// How often a line of progress moves while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// How a request went.
pub struct Followed {
    pub outcome: Outcome,
    /// Where each picture came from; `None` where nothing had to be known of it any more.
    pub sources: Vec<Option<EmbeddingSource>>,
}

/// What the line of progress says.
struct Waiting {
    what: String,
    done: u64,
    total: u64,
}

/// Waits for the end of the request behind `ticket`; `on_text` gets the answer piece by piece. Ctrl-C ends the answer, not the program.
///
/// # Errors
/// What the engine failed with, or what `on_text` says.
pub fn follow(
    ticket: &Ticket,
    n_images: usize,
    is_quiet: bool,
    mut on_text: impl FnMut(&str) -> Result<()>,
) -> Result<Followed> {
    let _interruptible = Interruptible::by(ticket.cancel());
    let mut progress = Progress::new(Unit::Steps, is_quiet);
    let mut waiting = Waiting { what: "reading the question".to_string(), done: 0, total: 1 };
    let mut sources = vec![None; n_images];
    loop {
        match ticket.next_event_within(TICK) {
            None => {}
            Some(Event::Encoding { image, done, total }) => {
                let which =
                    if n_images > 1 { format!(" {} of {n_images}", image + 1) } else { String::new() };
                waiting = Waiting {
                    what: format!("looking at the picture{which}"),
                    done: done.into(),
                    total: total.into(),
                };
            }
            Some(Event::Encoded { image, source }) => {
                if let Some(slot) = sources.get_mut(image) {
                    *slot = Some(source);
                }
                waiting = Waiting { what: "reading the question".to_string(), done: 0, total: 1 };
            }
            Some(Event::Prefill { done, total }) => {
                waiting = Waiting {
                    what: "reading the question".to_string(),
                    done: done as u64,
                    total: total as u64,
                };
            }
            Some(Event::Warning(text)) => {
                progress.clear();
                if !is_quiet {
                    note(&format!("owlet: {text}"));
                }
            }
            Some(Event::Text(text)) => {
                progress.clear();
                on_text(&text)?;
                continue;
            }
            Some(Event::Done(outcome)) => return Ok(Followed { outcome, sources }),
            Some(Event::Failed(error)) => return Err(error),
        }
        progress.show(&waiting.what, waiting.done, waiting.total);
    }
}
