//! Commands carried out.

use super::commands::{self, Command};
use super::conversation::{Seen, Talk};
use super::export::export;
use super::session::{Session, stopped};
use crate::cli::clipboard::{self, Copied};
use crate::cli::interrupt::Interruptible;
use crate::cli::mentions::{self, Place};
use crate::cli::pictures::{self, Found};
use crate::cli::progress::{Progress, Unit};
use crate::cli::receipt;
use crate::cli::screen::note;
use crate::engine::NamedPicture;
use crate::error::{Error, Result};
use crate::measure::bytes_in_words;
use ggml::Cancel;
use std::path::Path;

impl Session<'_> {
    /// Carries `command` out.
    ///
    /// # Errors
    /// What is wrong with it; the conversation is as it was then.
    pub fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Image(paths) => self.image(&paths),
            Command::Images => self.list_pictures(),
            Command::Paste => self.paste(),
            Command::Drop(number) => self.drop_picture(number),
            Command::Undo => self.undo(),
            Command::Regen => self.answer_anew(),
            Command::Save(path) => self.save(&pictures::local(&path)),
            Command::Load(path) => self.load(&pictures::local(&path)),
            Command::Export { path, replaces } => self.export(&pictures::local(&path), replaces),
            Command::Stats => self.stats(),
            Command::Set(None) => {
                note(&self.settings.list());
                Ok(())
            }
            Command::Set(Some((name, value))) => {
                let said = self.settings.set(&name, &value)?;
                self.tell(&said);
                Ok(())
            }
            Command::System(text) => self.system(text),
            Command::Clear => self.clear(),
            Command::Help => {
                note(&commands::help());
                Ok(())
            }
            // The loop leaves.
            Command::Quit => Ok(()),
        }
    }

    fn image(&mut self, paths: &str) -> Result<()> {
        if paths == "-" {
            return Err(Error::request("/image -: standard input is where questions come from"));
        }
        // A name with spaces needs no quotes where it is all there is.
        let places = match pictures::local(paths) {
            whole if whole.is_file() => vec![Place::File(paths.to_string())],
            _ => mentions::arguments(paths),
        };
        let places: Vec<_> = places.into_iter().map(pictures::matching).collect::<Result<Vec<_>>>()?.concat();
        let found = places.iter().map(|place| self.find(place)).collect::<Result<Vec<_>>>();
        let found = found.map_err(|error| stopped(error, "no picture is attached"))?;
        found.into_iter().try_for_each(|found| self.attach(found).map(drop))
    }

    fn list_pictures(&self) -> Result<()> {
        if self.talk.pictures().is_empty() {
            note("no pictures; /image PATH attaches one, and so does its path in a question");
        }
        for (at, picture) in self.talk.pictures().iter().enumerate() {
            let seen = match picture.seen {
                Seen::NotYet => String::new(),
                Seen::Cached => ", cached".to_string(),
                Seen::Took(took) => format!(", looked at in {}", receipt::seconds(took)),
            };
            let place = match self.talk.turn_of(at) {
                Some(turn) => format!("question {turn}"),
                None => "for the next question".to_string(),
            };
            note(&format!("Image-{}: {}{seen}; {place}", at + 1, picture.receipt));
        }
        Ok(())
    }

    fn paste(&mut self) -> Result<()> {
        let found = match clipboard::paste()? {
            Copied::Picture(bytes) => pictures::of_bytes(&bytes, clipboard::NAME.to_string())?,
            Copied::File(path) => self.copied_file(&path)?,
        };
        self.attach(found).map(drop)
    }

    fn copied_file(&self, path: &str) -> Result<Found> {
        match mentions::arguments(path).first() {
            Some(place) => self.find(place),
            None => Err(Error::unsupported(clipboard::NAME, "no picture on it")),
        }
    }

    fn drop_picture(&mut self, number: usize) -> Result<()> {
        let was_asked = self.talk.turn_of(number.saturating_sub(1)).is_some();
        let dropped = self.talk.drop_picture(number)?;
        let left = match self.talk.pictures().len() {
            0 => "no picture is left".to_string(),
            n if number > n => format!("{n} left"),
            n => format!("{n} left, later ones moved up"),
        };
        let again = if was_asked { "; what follows it is read anew" } else { "" };
        self.tell(&format!("dropped {}: {left}{again}", dropped.name));
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        let n_pictures = self.talk.undo()?;
        let pictures = match n_pictures {
            0 => "",
            1 => "; its picture waits for the next one",
            _ => "; its pictures wait for the next one",
        };
        self.tell(&format!("the last question and its answer are taken back{pictures}"));
        Ok(())
    }

    fn save(&mut self, path: &Path) -> Result<()> {
        let mut progress = Progress::new(Unit::Bytes, self.is_quiet());
        let cancel = Cancel::new();
        let _interruptible = Interruptible::by(&cancel);
        let show = |done, total| progress.show("saving", done, total);
        let saved = self.engine.save(&self.talk.to_saved(), path, show, &cancel);
        drop(progress);
        let saved = saved.map_err(|error| stopped(error, "nothing was saved"))?;
        let size = bytes_in_words(saved.n_bytes);
        self.tell(&format!(
            "saved {} positions, {size}; /load {} goes on from here",
            saved.n_positions,
            path.display()
        ));
        Ok(())
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        let mut progress = Progress::new(Unit::Bytes, self.is_quiet());
        let cancel = Cancel::new();
        let _interruptible = Interruptible::by(&cancel);
        let show = |done, total| progress.show("loading", done, total);
        let restored = self.engine.restore(path, show, &cancel);
        drop(progress);
        let restored = restored.map_err(|error| stopped(error, "the conversation is as it was"))?;
        let n_tokens = self.engine.loaded().n_image_tokens().unwrap_or(0);
        let receipt = |picture: &NamedPicture| {
            let side = picture.pixels.size_px;
            format!("{} -> {side}x{side}, {}", picture.name, receipt::tokens(n_tokens))
        };
        self.talk = Talk::from_saved(restored.conversation, receipt);
        self.n_used = restored.n_positions;
        let (n_turns, n_pictures) = (self.talk.n_turns(), self.talk.pictures().len());
        let (questions, pictures) = (counted(n_turns, "question"), counted(n_pictures, "picture"));
        self.tell(&format!("loaded {questions} and {pictures}; {}", self.context_in_words()));
        Ok(())
    }

    fn export(&mut self, path: &Path, replaces: bool) -> Result<()> {
        export(&self.talk, &self.engine.loaded().config.name, path, replaces)?;
        self.tell(&format!("written to {}", path.display()));
        Ok(())
    }

    fn stats(&self) -> Result<()> {
        let (n_turns, n_pictures) = (self.talk.n_turns(), self.talk.pictures().len());
        let mut lines = vec![
            ("model", self.engine.loaded().config.name.clone()),
            ("context", self.context_in_words().replacen("context ", "", 1)),
            ("conversation", format!("{}, {}", counted(n_turns, "question"), counted(n_pictures, "picture"))),
        ];
        lines.extend(self.totals.in_words(self.engine.cache_counts()));
        let lines: Vec<_> = lines.iter().map(|(name, what)| format!("{name:<14}{what}")).collect();
        note(&lines.join("\n"));
        Ok(())
    }

    fn system(&mut self, text: Option<String>) -> Result<()> {
        let own = &self.engine.loaded().prompt.system;
        let Some(text) = text else {
            let (text, whose) = match &self.talk.system {
                Some(text) => (text, ""),
                None => (own, " (the model's own)"),
            };
            note(&if text.is_empty() { format!("nothing{whose}") } else { format!("{text}{whose}") });
            return Ok(());
        };
        self.talk.system = (text != "-").then_some(text);
        self.tell("from the next question on; the conversation is read anew with it");
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.talk = Talk::new(self.talk.system.take());
        self.n_used = 0;
        self.tell("the conversation is forgotten");
        Ok(())
    }
}

/// `1 picture`, `2 pictures`
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
