//! What was said and shown so far. In: questions, answers, pictures. Out: the messages that an engine answers. The one
//! owner of the order of pictures: those that were asked about come first, those that wait for the next question last.
//! Must not know engines or terminals.

use crate::engine::{self, NamedPicture};
use crate::error::{Error, Result};
use crate::prompt::{Message, Part, Pixels, Role};
use std::sync::Arc;
use std::time::Duration;

/// A picture of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub name: String,
    /// The picture in words: name, size, what was done to it, what the model sees.
    pub receipt: String,
    pub pixels: Arc<Pixels>,
    pub seen: Seen,
}

/// Whether the tower has looked at a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    NotYet,
    /// It need not, since it did before.
    Cached,
    Took(Duration),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Talk {
    /// Stands before the conversation; `None` is what the model's file says.
    pub system: Option<String>,
    messages: Vec<Message>,
    pictures: Vec<Shown>,
}

impl Talk {
    /// Nothing said yet.
    pub fn new(system: Option<String>) -> Talk {
        Talk { system, ..Talk::default() }
    }

    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub fn pictures(&self) -> &[Shown] {
        &self.pictures
    }

    /// Pictures that were asked about.
    pub fn n_asked(&self) -> usize {
        self.messages.iter().map(n_images).sum()
    }

    /// The question, counted from 1, that brought picture `at`; `None` where it waits for one.
    pub fn turn_of(&self, at: usize) -> Option<usize> {
        let names = |message: &Message| message.parts.contains(&Part::Image(at));
        self.messages.iter().position(names).map(|message| message / 2 + 1)
    }

    pub fn n_turns(&self) -> usize {
        self.messages.len().div_ceil(2)
    }

    /// For the next question.
    pub fn attach(&mut self, picture: Shown) {
        self.pictures.push(picture);
    }

    /// The number, from 1 on, of the picture that looks like this and waits for the next question.
    pub fn waiting_like(&self, pixels: &Pixels) -> Option<usize> {
        let mut waits = self.pictures.iter().enumerate().skip(self.n_asked());
        waits.find(|(_, picture)| picture.pixels.rgb == pixels.rgb).map(|(at, _)| at + 1)
    }

    pub fn saw(&mut self, at: usize, seen: Seen) {
        if let Some(picture) = self.pictures.get_mut(at) {
            picture.seen = seen;
        }
    }

    /// A question about the pictures that wait for one. What comes next is an answer, or [`Talk::take_back`].
    pub fn ask(&mut self, text: &str) {
        let images = self.n_asked()..self.pictures.len();
        self.messages.push(Message::user(text, images));
    }

    pub fn answer(&mut self, text: &str) {
        self.messages.push(Message::bot(text));
    }

    /// Takes a question without an answer back; its pictures wait for the next one.
    pub fn take_back(&mut self) {
        if self.messages.last().is_some_and(|message| message.role == Role::User) {
            self.messages.pop();
        }
    }

    /// Takes the last answer back, so that its question is to be answered again.
    pub fn unanswer(&mut self) -> Option<String> {
        let last = self.messages.pop_if(|message| message.role == Role::Bot)?;
        Some(text_of(&last))
    }

    /// Takes the last question and its answer back; its pictures wait for the next one. Says how many those are.
    ///
    /// # Errors
    /// `Request` where nothing was asked.
    pub fn undo(&mut self) -> Result<usize> {
        self.unanswer();
        let question = self.messages.pop().ok_or_else(|| Error::request("nothing was asked yet"))?;
        Ok(n_images(&question))
    }

    /// Takes the picture `number`, from 1 on, out of the conversation, and yields it.
    ///
    /// # Errors
    /// `Request` where there is no such picture.
    pub fn drop_picture(&mut self, number: usize) -> Result<Shown> {
        let n_pictures = self.pictures.len();
        let at = number.checked_sub(1).filter(|at| *at < n_pictures).ok_or_else(|| {
            Error::request(match n_pictures {
                0 => format!("no picture {number}: the conversation has none"),
                1 => format!("no picture {number}: the conversation has one"),
                n => format!("no picture {number}: the conversation has {n}"),
            })
        })?;
        for message in &mut self.messages {
            message.parts.retain(|part| *part != Part::Image(at));
            for part in &mut message.parts {
                if let Part::Image(index) = part
                    && *index > at
                {
                    *index -= 1;
                }
            }
        }
        Ok(self.pictures.remove(at))
    }

    /// As engines keep it.
    pub fn to_saved(&self) -> engine::Conversation {
        let named = |picture: &Shown| NamedPicture {
            name: picture.name.clone(),
            pixels: Arc::clone(&picture.pixels),
        };
        engine::Conversation {
            system: self.system.clone(),
            messages: self.messages.clone(),
            pictures: self.pictures.iter().map(named).collect(),
        }
    }

    /// From an engine; `receipt` says a picture in words. Pictures come into the order in which messages name them.
    pub fn from_saved(saved: engine::Conversation, receipt: impl Fn(&NamedPicture) -> String) -> Talk {
        let mut talk = Talk { system: saved.system, messages: saved.messages, pictures: Vec::new() };
        let shown = |picture: &NamedPicture, seen| Shown {
            name: picture.name.clone(),
            receipt: receipt(picture),
            pixels: Arc::clone(&picture.pixels),
            seen,
        };
        let mut waits = vec![true; saved.pictures.len()];
        for part in talk.messages.iter_mut().flat_map(|message| &mut message.parts) {
            if let Part::Image(index) = part
                && let Some(picture) = saved.pictures.get(*index)
            {
                waits[*index] = false;
                *index = talk.pictures.len();
                talk.pictures.push(shown(picture, Seen::Cached));
            }
        }
        let waiting = saved.pictures.iter().zip(waits).filter(|(_, waits)| *waits);
        talk.pictures.extend(waiting.map(|(picture, _)| shown(picture, Seen::NotYet)));
        talk
    }
}

/// The words of a message.
pub fn text_of(message: &Message) -> String {
    let texts = message.parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        Part::Image(_) => None,
    });
    texts.collect()
}

fn n_images(message: &Message) -> usize {
    message.parts.iter().filter(|part| matches!(part, Part::Image(_))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str) -> Shown {
        let pixels = Arc::new(Pixels { size_px: 1, rgb: vec![0; 3].into(), planes: vec![] });
        Shown { name: name.into(), receipt: name.into(), pixels, seen: Seen::NotYet }
    }

    fn names(talk: &Talk) -> Vec<&str> {
        talk.pictures().iter().map(|picture| picture.name.as_str()).collect()
    }

    /// One? (a, b); Two? (c); d waits.
    fn talk() -> Talk {
        let mut talk = Talk::default();
        talk.attach(shown("a"));
        talk.attach(shown("b"));
        talk.ask("One?");
        talk.answer("1");
        talk.attach(shown("c"));
        talk.ask("Two?");
        talk.answer("2");
        talk.attach(shown("d"));
        talk
    }

    #[test]
    fn pictures_belong_to_questions_in_order() {
        let talk = talk();
        assert_eq!(
            talk.messages(),
            [Message::user("One?", [0, 1]), Message::bot("1"), Message::user("Two?", [2]), Message::bot("2")]
        );
        assert_eq!((talk.n_asked(), talk.n_turns()), (3, 2));
        assert_eq!([0, 1, 2, 3].map(|at| talk.turn_of(at)), [Some(1), Some(1), Some(2), None]);
        let other = Pixels { size_px: 1, rgb: vec![1; 3].into(), planes: vec![] };
        let like = |pixels| talk.waiting_like(pixels);
        assert_eq!((like(&talk.pictures()[0].pixels), like(&other)), (Some(4), None), "only d waits");
    }

    #[test]
    fn what_is_taken_back_waits_for_the_next_question() {
        let mut talk = talk();
        assert_eq!(talk.undo().unwrap(), 1);
        talk.ask("Both?");
        assert_eq!(talk.messages()[2], Message::user("Both?", [2, 3]));
        talk.take_back();
        assert_eq!((talk.messages().len(), talk.n_asked()), (2, 2));
        talk.take_back();
        assert_eq!(talk.messages().len(), 2, "an answered question stays");
        assert_eq!(talk.unanswer(), Some("1".into()));
        assert_eq!(talk.unanswer(), None);
        assert_eq!(talk.undo().unwrap(), 2);
        assert_eq!(
            (talk.undo().unwrap_err().to_string(), names(&talk).len()),
            ("nothing was asked yet".into(), 4)
        );
    }

    #[test]
    fn a_dropped_picture_moves_the_others_up() {
        let mut talk = talk();
        assert_eq!(talk.drop_picture(2).unwrap().name, "b");
        assert_eq!(names(&talk), ["a", "c", "d"]);
        assert_eq!(talk.messages()[0], Message::user("One?", [0]));
        assert_eq!(talk.messages()[2], Message::user("Two?", [1]));
        assert_eq!(talk.drop_picture(3).unwrap().name, "d");
        assert_eq!(talk.drop_picture(1).unwrap().name, "a");
        assert_eq!(talk.messages()[0], Message::user("One?", []));
        for (number, expected) in
            [(2, "no picture 2: the conversation has one"), (0, "no picture 0: the conversation has one")]
        {
            assert_eq!(talk.drop_picture(number).unwrap_err().to_string(), expected);
        }
        talk.drop_picture(1).unwrap();
        assert_eq!(talk.drop_picture(1).unwrap_err().to_string(), "no picture 1: the conversation has none");
    }

    #[test]
    fn saved_and_back() {
        let talk = Talk { system: Some("Be brief.".into()), ..talk() };
        let back = Talk::from_saved(talk.to_saved(), |picture| picture.name.clone());
        assert_eq!(
            back.pictures().iter().map(|picture| picture.seen).collect::<Vec<_>>(),
            [Seen::Cached, Seen::Cached, Seen::Cached, Seen::NotYet]
        );
        assert_eq!((back.messages(), back.system.as_deref()), (talk.messages(), Some("Be brief.")));

        // Another program may name pictures in another order, or twice.
        let mut saved = talk.to_saved();
        saved.messages = vec![Message::user("One?", [2, 0]), Message::bot("1"), Message::user("Two?", [2])];
        let back = Talk::from_saved(saved, |picture| picture.name.clone());
        assert_eq!(names(&back), ["c", "a", "c", "b", "d"]);
        assert_eq!(
            (&back.messages()[0], &back.messages()[2]),
            (&Message::user("One?", [0, 1]), &Message::user("Two?", [2]))
        );
    }
}
