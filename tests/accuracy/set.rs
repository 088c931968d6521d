//! A set of questions about pictures, a model's answers to it, and how many of them are right.
//!
//! In: a folder as demo/evaluate.py writes it, pictures and questions.jsonl. The rule of what is right is the same as
//! there: equal in lower case, with single spaces and without final punctuation.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use owlet::engine::{CacheOptions, Engine, Event, Loaded, Options, Request, Speculation};
use owlet::model::KvType;
use owlet::prompt::{Limits, Message, Pixels, decode, preprocess};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Question {
    pub image: String,
    pub question: String,
    answer: String,
    #[serde(default)]
    accept: Vec<String>,
    kind: String,
    lang: String,
}

pub struct Set {
    pub dir: PathBuf,
    pub questions: Vec<Question>,
}

impl Set {
    pub fn read(dir: &Path) -> Set {
        let lines = std::fs::read_to_string(dir.join("questions.jsonl")).unwrap();
        let questions = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Set { dir: dir.to_path_buf(), questions }
    }

    pub fn n_questions(&self) -> usize {
        self.questions.len()
    }

    /// Asks every question on its own, as `owlet run` would, and calls `heard` with each answer.
    pub fn ask(
        &self,
        model: Option<&Path>,
        n_threads: usize,
        mut heard: impl FnMut(&Question, &str, bool),
    ) -> Table {
        let loaded = Loaded::open(model, n_threads).unwrap();
        let n_ctx = loaded.text.n_ctx_train;
        let options = Options {
            n_ctx,
            n_slots: 1,
            kv_type: KvType::F16,
            cache: CacheOptions::default(),
            speculation: Speculation::default(),
            low_memory: false,
        };
        let engine = Engine::start(loaded, options).unwrap();
        let mut table = Table::default();
        for question in &self.questions {
            let answer = self.answer(&engine, question);
            let is_right = question.accepts(&answer);
            table.add(question, is_right);
            heard(question, &answer, is_right);
        }
        table
    }

    fn answer(&self, engine: &Engine, question: &Question) -> String {
        let pixels = Arc::new(question.pixels(&self.dir, engine.loaded()));
        let asked = Request::new(vec![Message::user(&question.question, [0])], vec![pixels]);
        let ticket = engine.submit(Request { max_tokens: 32, ..asked }).unwrap();
        loop {
            match ticket.next_event() {
                Event::Done(outcome) => return outcome.text,
                Event::Failed(error) => panic!("{}: {error}", question.image),
                _ => {}
            }
        }
    }
}

impl Question {
    /// The picture, from the set's directory, as `model` sees it.
    pub fn pixels(&self, dir: &Path, model: &Loaded) -> Pixels {
        let bytes = std::fs::read(dir.join(&self.image)).unwrap();
        let picture = decode(&bytes, &self.image, &Limits::default()).unwrap();
        preprocess(&picture, model.config.image.as_ref().unwrap()).unwrap()
    }

    pub fn accepts(&self, answer: &str) -> bool {
        let answer = plain(answer);
        std::iter::once(&self.answer).chain(&self.accept).any(|right| plain(right) == answer)
    }

    /// What somebody who looks for mistakes wants to see.
    pub fn describe(&self) -> String {
        format!("{} {:?}: expected {:?}", self.image, self.question, self.answer)
    }
}

fn plain(text: &str) -> String {
    let spaced = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    spaced.trim_end_matches(|c: char| c.is_whitespace() || ".。!！?？,，;；:：".contains(c)).to_string()
}

/// Right answers and questions: all, by kind, and by kind and language.
#[derive(Default)]
pub struct Table(BTreeMap<String, (u32, u32)>);

impl Table {
    pub fn add(&mut self, question: &Question, is_right: bool) {
        for key in ["all".into(), question.kind.clone(), format!("{} {}", question.kind, question.lang)] {
            let (n_right, n) = self.0.entry(key).or_default();
            *n_right += u32::from(is_right);
            *n += 1;
        }
    }

    /// Percent of right answers among the questions of `kind`, or of `all`.
    pub fn percent(&self, kind: &str) -> f64 {
        self.0.get(kind).map_or(0.0, |&(n_right, n)| 100.0 * f64::from(n_right) / f64::from(n))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, (n_right, n)) in &self.0 {
            writeln!(f, "{key:12} {n_right:4} of {n:4}  {:5.1}%", self.percent(key))?;
        }
        Ok(())
    }
}
