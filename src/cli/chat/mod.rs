//! `owlet chat`: questions and answers in turns, over one conversation.
//!
//! The way of a line: [`editor`] reads it, [`commands`] says what it means, [`session`] asks or [`obey`] carries out,
//! [`conversation`] remembers. A question's pictures are found by `cli::mentions` and shown by `cli::preview`.

mod commands;
mod complete;
mod conversation;
mod editor;
mod export;
mod obey;
mod session;
mod settings;
mod totals;

use self::commands::{Command, Line};
use self::editor::{From, Input, Lines};
use self::session::Session;
use super::flags::{AnswerFlags, ModelFlags};
use super::preview::Drawing;
use super::screen::{self, note};
use super::web::UrlFlags;
use super::{interrupt, terminal, wrong_usage};
use crate::error::{Error, Result};
use std::io::{IsTerminal, stderr, stdin};
use std::path::PathBuf;
use std::process::ExitCode;

/// Talk about pictures, turn by turn
///
/// Type questions; a picture's path in one attaches it, /help lists the commands. Ctrl-C stops an answer and keeps what was
/// said, Ctrl-D leaves. Lines may come from a pipe, too: a line that fails is reported and the rest goes on, with exit
/// status 1 in the end.
#[derive(clap::Args)]
pub struct Chat {
    /// Attach this picture to the first question, `-` for standard input; may be given several times
    #[arg(short, long = "image", value_name = "PATH")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    urls: UrlFlags,
    /// Print answers and errors, and nothing else
    #[arg(short, long)]
    quiet: bool,
    /// Do not keep typed lines for the next time
    #[arg(long)]
    no_history: bool,
    /// Do not draw the pictures
    #[arg(long)]
    no_preview: bool,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Chat {
    pub fn run(self) -> Result<ExitCode> {
        self.answer.check("chat");
        let from = self.lines_from();
        let found =
            self.images.iter().map(|path| self.urls.find(path, self.quiet)).collect::<Result<Vec<_>>>()?;
        let engine = self.model.start(self.quiet)?;
        let mut lines = Lines::open(from, !self.no_history)?;
        if from == From::Terminal && !lines.is_terminal() {
            return Err(Error::request("--image - took standard input, and there is no terminal to chat on"));
        }
        let mut session = Session::new(&engine, &self.answer, self.quiet)?;
        session.urls = self.urls;
        if lines.is_terminal() {
            interrupt::stay();
            session.expected = self.model.expected_of_picture();
            let may_draw = !self.quiet && !self.no_preview && stderr().is_terminal();
            session.drawing = Drawing::of_terminal(terminal::variable).filter(|_| may_draw);
            session.n_columns = lines.n_columns().unwrap_or(0);
            session.tell(&format!("{}; /help lists commands, Ctrl-D leaves", engine.loaded().config.name));
        }
        for found in found {
            session.attach(found)?;
        }
        talk(&mut session, &mut lines)
    }

    /// Standard input cannot be both a picture and lines.
    fn lines_from(&self) -> From {
        match self.images.iter().filter(|path| path.as_os_str() == "-").count() {
            0 => From::StandardInput,
            1 if stdin().is_terminal() => {
                wrong_usage("chat", "--image - reads a picture from standard input, which is a terminal")
            }
            1 => From::Terminal,
            _ => wrong_usage("chat", "--image - may be given once: there is one standard input"),
        }
    }
}

fn talk(session: &mut Session, lines: &mut Lines) -> Result<ExitCode> {
    let mut n_failed = 0;
    // In a script, a question behind a picture that could not be read would be about nothing.
    let mut lacks_picture = false;
    while let Some(input) = lines.next_line()? {
        session.n_columns = lines.n_columns().unwrap_or(0);
        let line = match input {
            Input::Line(line) => Line::parse(&line),
            Input::Interrupted => {
                note("Ctrl-D or /quit leaves");
                continue;
            }
            Input::Unreadable(why) => Line::Wrong(why),
        };
        let brings_picture = matches!(line, Line::Command(Command::Image(_) | Command::Paste));
        let done = match line {
            Line::Blank => Ok(()),
            Line::Command(Command::Quit) => break,
            Line::Question(_) if lacks_picture => {
                lacks_picture = false;
                Err(Error::request("not asked: the picture before this question could not be read"))
            }
            Line::Question(question) => session.ask(&question),
            Line::Command(command) => session.obey(command),
            Line::Wrong(why) => Err(Error::Request(why)),
        };
        if brings_picture {
            lacks_picture = done.is_err() && !lines.is_terminal();
        }
        if let Err(error) = done {
            if screen::is_closed_output(&error) {
                return Err(error);
            }
            note(&format!("owlet: {error}"));
            n_failed += 1;
        }
    }
    Ok(if n_failed == 0 || lines.is_terminal() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
