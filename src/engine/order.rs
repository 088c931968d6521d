//! What the thread that computes is asked to do, and what goes with it there and back: answers, looks at pictures, loans of
//! slots. Whoever submits and whoever works both know these; they need not know each other.

use super::image_cache::{Embedding, ImageKey};
use super::scope::Scope;
use super::session::Cell;
use super::slot::{Holding, Job, SlotFacts};
use crate::error::{Error, Result};
use crate::model::KvRows;
use crate::prompt::Pixels;
use ggml::Cancel;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

/// What the thread that computes may be asked to do.
pub enum Order {
    Answer(Box<Job>),
    /// A picture that is looked at for its own sake.
    See(Sight),
    Loan(LoanOrder),
    /// How the slots are.
    Look(Sender<Vec<SlotFacts>>),
}

/// Where orders come from, and what stops all work on them.
pub struct Orders {
    pub submitted: Receiver<Order>,
    pub stop: Cancel,
}

/// A picture on its way to the tower.
pub struct Sight {
    pub pixels: Arc<Pixels>,
    pub key: ImageKey,
    pub cancel: Cancel,
    pub reply: Sender<Result<Embedding>>,
    /// When it came, by the scheduler's count.
    pub since: u64,
}

/// What a borrower wants of the thread that computes.
pub enum LoanOrder {
    Lend {
        wanted: Wanted,
        reply: Sender<Result<Lent>>,
    },
    Read {
        slot: usize,
        rows: KvRows,
        reply: Sender<Result<Vec<u8>>>,
    },
    Write {
        slot: usize,
        rows: KvRows,
        bytes: Vec<u8>,
        reply: Sender<Result<()>>,
    },
    /// The slot goes back; with something that it knows now.
    Return {
        slot: usize,
        knows: Option<Holding>,
    },
}

/// The free slot that somebody wants.
pub enum Wanted {
    /// The one that holds most of this prompt, for those of this scope; if it is all there, with what stands behind it.
    Holding(Vec<Cell>, Scope),
    /// One with room for so many positions, whose rows are to be written: that one, or any.
    Room(Option<usize>, u32),
    /// That one, with what it knows.
    Slot(usize),
}

/// The slot that somebody got.
pub struct Lent {
    pub slot: usize,
    /// Its positions may be read.
    pub knows: Holding,
}

/// What they hear who ask a thread that has ended.
pub fn stopped() -> Error {
    Error::internal("the engine has stopped")
}
