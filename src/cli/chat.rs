//! `owlet chat`: questions and answers in turns, over one conversation.

use super::commands::{HELP, Line};
use super::flags::{AnswerFlags, ModelFlags};
use super::follow::follow;
use super::lines::{Input, Lines};
use super::pictures::{self, Attached};
use super::screen::{Screen, note};
use super::{interrupt, receipt};
use crate::engine::{Engine, FinishReason, Outcome, Request, Sampling};
use crate::error::{Error, Result};
use crate::prompt::{Message, Pixels};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Talk about pictures, turn by turn
///
/// Type questions; /image PATH attaches a picture to the next one, /help lists the other commands. Ctrl-C stops an answer and
/// keeps what was said, Ctrl-D leaves. Lines may come from a pipe, too: a line that fails is reported and the rest goes on, with
/// exit status 1 in the end.
#[derive(clap::Args)]
pub struct Chat {
    /// Attach this picture to the first question; may be given several times
    #[arg(short, long = "image", value_name = "PATH")]
    images: Vec<PathBuf>,
    /// Print answers and errors, and nothing else
    #[arg(short, long)]
    quiet: bool,
    /// Do not keep typed lines for the next time
    #[arg(long)]
    no_history: bool,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Chat {
    pub fn run(self) -> Result<ExitCode> {
        self.answer.check("chat");
        let found = self.images.iter().map(|path| pictures::find(path)).collect::<Result<Vec<_>>>()?;
        let engine = self.model.start(self.quiet)?;
        let mut conversation = Conversation {
            sampling: self.answer.sampling(engine.loaded())?,
            engine: &engine,
            flags: &self.answer,
            is_quiet: self.quiet,
            messages: Vec::new(),
            images: Vec::new(),
            waiting: Vec::new(),
            screen: Screen::new(),
        };
        for found in found {
            conversation.attach(found.attach(engine.loaded())?);
        }
        let mut lines = Lines::open(!self.no_history)?;
        if lines.is_terminal() {
            interrupt::stay();
        }
        if lines.is_terminal() && !self.quiet {
            note(&format!("{}; /help lists commands, Ctrl-D leaves", engine.loaded().config.name));
        }
        conversation.talk(&mut lines)
    }
}

struct Conversation<'a> {
    engine: &'a Engine,
    flags: &'a AnswerFlags,
    sampling: Sampling,
    is_quiet: bool,
    messages: Vec<Message>,
    /// Of all turns so far.
    images: Vec<Arc<Pixels>>,
    /// For the next question.
    waiting: Vec<Attached>,
    screen: Screen,
}

impl Conversation<'_> {
    fn talk(&mut self, lines: &mut Lines) -> Result<ExitCode> {
        let mut n_failed = 0;
        // In a script, a question behind a picture that could not be read would be about nothing.
        let mut lacks_picture = false;
        while let Some(input) = lines.next_line()? {
            let line = match input {
                Input::Line(line) => Line::parse(&line),
                Input::Interrupted => {
                    note("Ctrl-D or /quit leaves");
                    continue;
                }
                Input::Unreadable(why) => Line::Wrong(why),
            };
            let done = match line {
                Line::Quit => break,
                Line::Question(_) if lacks_picture => {
                    lacks_picture = false;
                    Err(Error::request("not asked: the picture before this question could not be read"))
                }
                Line::Image(path) => {
                    let read = self.read(&path);
                    lacks_picture = read.is_err() && !lines.is_terminal();
                    read
                }
                line => self.obey(line),
            };
            if let Err(error) = done {
                if super::screen::is_closed_output(&error) {
                    return Err(error);
                }
                note(&format!("owlet: {error}"));
                n_failed += 1;
            }
        }
        Ok(if n_failed == 0 || lines.is_terminal() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn obey(&mut self, line: Line) -> Result<()> {
        match line {
            Line::Question(question) => self.ask(&question)?,
            Line::Clear => {
                (self.messages, self.images, self.waiting) = Default::default();
                self.tell("the conversation is forgotten");
            }
            Line::Help => note(HELP),
            Line::Wrong(why) => return Err(Error::Request(why)),
            Line::Blank | Line::Quit | Line::Image(_) => {}
        }
        Ok(())
    }

    fn read(&mut self, path: &str) -> Result<()> {
        if path == "-" {
            return Err(Error::request("/image -: standard input is where questions come from"));
        }
        let attached = pictures::find(Path::new(path))?.attach(self.engine.loaded())?;
        self.attach(attached);
        Ok(())
    }

    fn attach(&mut self, picture: Attached) {
        self.tell(&receipt::picture(&picture));
        self.waiting.push(picture);
    }

    /// A question, and what becomes of the conversation: a turn that brought no answer is not kept.
    fn ask(&mut self, question: &str) -> Result<()> {
        let (n_messages, n_images) = (self.messages.len(), self.images.len());
        self.images.extend(self.waiting.iter().map(|picture| Arc::clone(&picture.pixels)));
        self.messages.push(Message::user(question, n_images..self.images.len()));
        let answered = self.answer();
        match &answered {
            Ok(outcome) if !(outcome.text.is_empty() && outcome.finish_reason == FinishReason::Cancelled) => {
                self.messages.push(Message::bot(&outcome.text));
                self.waiting.clear();
            }
            _ => {
                self.messages.truncate(n_messages);
                self.images.truncate(n_images);
            }
        }
        match answered?.finish_reason {
            FinishReason::Context => note("the context is full; /clear starts anew"),
            FinishReason::Cancelled if self.messages.len() == n_messages => {
                note("stopped; the question is not kept, its pictures are")
            }
            FinishReason::Cancelled => note("stopped; what was said is kept"),
            FinishReason::Eos | FinishReason::Stop | FinishReason::Complete | FinishReason::Length => {}
        }
        Ok(())
    }

    /// Has the last message answered on the screen.
    fn answer(&mut self) -> Result<Outcome> {
        let request = Request {
            messages: self.messages.clone(),
            images: self.images.clone(),
            system: self.flags.system.clone(),
            sampling: self.sampling,
            max_tokens: self.flags.max_tokens(self.engine.loaded()),
            stop: self.flags.stop.clone(),
            constraint: None,
        };
        let ticket = self.engine.submit(request)?;
        let screen = &mut self.screen;
        let followed = follow(&ticket, self.images.len(), self.is_quiet, |text| screen.say(text))?;
        let outcome = &followed.outcome;
        if !outcome.text.is_empty() || outcome.finish_reason != FinishReason::Cancelled {
            screen.say("\n")?;
        }
        let line = receipt::line(self.engine, &[], &followed);
        self.tell(&line);
        Ok(followed.outcome)
    }

    fn tell(&self, text: &str) {
        if !self.is_quiet {
            note(text);
        }
    }
}
