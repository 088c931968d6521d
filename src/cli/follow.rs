//! From a submitted request to its end: events become text on the screen and a line of progress.

use super::interrupt::Interruptible;
use super::progress::{Progress, Unit};
use super::screen::note;
use crate::engine::{EmbeddingSource, Event, Outcome, Ticket};
use crate::error::Result;
use std::time::{Duration, Instant};

/// How often a line of progress moves while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// How a request went.
pub struct Followed {
    pub outcome: Outcome,
    /// Where each picture came from; `None` where nothing had to be known of it any more.
    pub sources: Vec<Option<EmbeddingSource>>,
    /// How long the tower looked at each picture, as a clock on the wall counts.
    pub looked: Vec<Duration>,
}

/// What a door may want to say while a request is worked on.
pub enum Happening<'a> {
    /// The tower begins with a picture of the request.
    Looking(usize),
    /// The answer goes on.
    Text(&'a str),
}

/// What the line of progress says.
struct Waiting {
    what: String,
    done: u64,
    total: u64,
}

impl Waiting {
    fn reading(done: usize, total: usize) -> Waiting {
        Waiting { what: "reading the question".to_string(), done: done as u64, total: total as u64 }
    }
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
    watch(ticket, n_images, is_quiet, |happening| match happening {
        Happening::Text(text) => on_text(text),
        Happening::Looking(_) => Ok(()),
    })
}

/// As [`follow`]; `on` hears of more than the answer.
///
/// # Errors
/// What the engine failed with, or what `on` says.
pub fn watch(
    ticket: &Ticket,
    n_images: usize,
    is_quiet: bool,
    mut on: impl FnMut(Happening) -> Result<()>,
) -> Result<Followed> {
    let _interruptible = Interruptible::by(ticket.cancel());
    let mut progress = Progress::new(Unit::Steps, is_quiet);
    let mut waiting = Some(Waiting::reading(0, 1));
    let mut sources = vec![None; n_images];
    let mut looked = vec![Duration::ZERO; n_images];
    let mut looking = None;
    loop {
        match ticket.next_event_within(TICK) {
            None | Some(Event::Chosen(_) | Event::Read(..)) => {}
            Some(Event::Encoding { image, done, total }) => {
                if looking.is_none() {
                    looking = Some(Instant::now());
                    on(Happening::Looking(image))?;
                }
                let which =
                    if n_images > 1 { format!(" {} of {n_images}", image + 1) } else { String::new() };
                waiting = Some(Waiting {
                    what: format!("looking at the picture{which}"),
                    done: done.into(),
                    total: total.into(),
                });
            }
            Some(Event::Encoded { image, source }) => {
                if let (Some(slot), Some(took)) = (sources.get_mut(image), looked.get_mut(image)) {
                    *slot = Some(source);
                    *took = looking.take().map_or(Duration::ZERO, |since: Instant| since.elapsed());
                }
                waiting = Some(Waiting::reading(0, 1));
            }
            Some(Event::Prefill { done, total }) => {
                waiting = Some(Waiting::reading(done, total));
            }
            Some(Event::Warning(text)) => {
                progress.clear();
                if !is_quiet {
                    note(&format!("owlet: {text}"));
                }
            }
            Some(Event::Text(text)) => {
                progress.clear();
                on(Happening::Text(&text))?;
                // However long the next word takes, a line of progress would stand amid the answer.
                waiting = None;
            }
            Some(Event::Done(outcome)) => return Ok(Followed { outcome, sources, looked }),
            Some(Event::Failed(error)) => return Err(error),
        }
        if let Some(Waiting { what, done, total }) = &waiting {
            progress.show(what, *done, *total);
        }
    }
}
