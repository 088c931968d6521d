//! A model whose nodes are watched while it answers. In: a model file, pictures, questions. Out: the values of every
//! named node, logits and answers. Keys and values are cached in f32, so that only weights and activations differ
//! between two of these.

use std::path::Path;

use ggml::Cancel;
use owlet::engine::{Loaded, Setup};
use owlet::model::{Arithmetic, Decoder, Input, KvType, Observe, Row, VisionEncoder};
use owlet::prompt::{Chunk, Message, Pixels, chunks, render};
use owlet::token::TokenId;

/// Positions of a question with its answer.
const N_CTX: u32 = 512;
/// Tokens of an answer at most.
const N_ANSWER: usize = 24;

pub struct Watched {
    pub name: String,
    pub loaded: Loaded,
    encoder: VisionEncoder,
    decoder: Decoder,
}

/// What a model made of one question.
#[derive(Default)]
pub struct Trace {
    /// In the order in which they were computed; `logits [n_vocab, n]` is the last.
    pub nodes: Vec<(String, Vec<f32>)>,
    /// What the logits would say next, position by position.
    pub likeliest: Vec<TokenId>,
}

/// A picture and a question as rows of the decoder.
pub struct Prompt {
    rows: Vec<Row>,
    embd: Vec<f32>,
}

impl Watched {
    /// `exact:FILE` runs the model with activations in f32, `FILE` as everybody does.
    pub fn open(name: &str, n_threads: usize) -> Watched {
        let (arithmetic, path) = match name.strip_prefix("exact:") {
            Some(path) => (Arithmetic::Exact, path),
            None => (Arithmetic::Packed, name),
        };
        let loaded =
            Loaded::open_with(Some(Path::new(path)), &Setup { arithmetic, ..Setup::cpu(n_threads) }).unwrap();
        let encoder = VisionEncoder::new(&loaded.model).unwrap();
        let decoder = Decoder::new(&loaded.model, N_CTX, 1, KvType::F32).unwrap();
        Watched { name: name.into(), loaded, encoder, decoder }
    }

    /// Encodes the picture; its nodes go to `trace`.
    pub fn prompt(&mut self, pixels: &Pixels, question: &str, trace: &mut Trace) -> Prompt {
        let mut step = self.encoder.start(&pixels.planes).unwrap();
        while !step.is_last() {
            step = self.encoder.step_observed(&Cancel::new(), trace).unwrap();
        }
        let Loaded { prompt, eos_id, tokenizer, .. } = &self.loaded;
        let messages = [Message::user(question, [0])];
        let segments = render(&prompt.template, *eos_id, &prompt.system, &messages).unwrap();
        let mut inputs = Vec::new();
        for chunk in chunks(&segments, tokenizer, self.loaded.n_image_tokens().unwrap()).unwrap() {
            match chunk {
                Chunk::Tokens(ids) => inputs.extend(ids.into_iter().map(Input::Token)),
                Chunk::Image { n_tokens, .. } => inputs.extend((0..n_tokens).map(Input::Embd)),
            }
        }
        let n_last = inputs.len() - 1;
        let rows = inputs.into_iter().enumerate();
        let rows = rows.map(|(at, input)| row(input, at, at == n_last)).collect();
        Prompt { rows, embd: self.encoder.finish().unwrap() }
    }

    /// The likeliest tokens one after the other, the end token included.
    pub fn answer(&mut self, prompt: &Prompt) -> Vec<TokenId> {
        self.decoder.truncate(0, 0);
        let mut answer = Vec::new();
        let mut rows = prompt.rows.clone();
        while answer.len() < N_ANSWER {
            let logits = self.decoder.forward(&rows, &prompt.embd, &Cancel::new()).unwrap();
            let token = likeliest(logits.rows().last().unwrap());
            answer.push(token);
            if token == self.loaded.eos_id {
                break;
            }
            rows = vec![row(Input::Token(token), prompt.rows.len() + answer.len() - 1, true)];
        }
        answer
    }

    /// Reads `answer` behind the prompt in one pass: logits of every position that a token of it follows.
    pub fn read(&mut self, prompt: &Prompt, answer: &[TokenId], trace: &mut Trace) {
        self.decoder.truncate(0, 0);
        let mut rows = prompt.rows.clone();
        let read = &answer[..answer.len() - 1];
        rows.extend(
            read.iter().enumerate().map(|(i, &id)| row(Input::Token(id), prompt.rows.len() + i, true)),
        );
        let logits = self.decoder.forward_observed(&rows, &prompt.embd, &Cancel::new(), trace).unwrap();
        trace.likeliest = logits.rows().map(likeliest).collect();
    }

    /// `answer` without its end, as text.
    pub fn text(&self, answer: &[TokenId]) -> String {
        let said = answer.strip_suffix(&[self.loaded.eos_id]).unwrap_or(answer);
        self.loaded.tokenizer.decode(said).trim().to_string()
    }
}

impl Observe for Trace {
    fn wants(&self, _: &str) -> bool {
        true
    }

    fn node(&mut self, name: &str, _: &[u64], values: &[f32]) {
        self.nodes.push((name.into(), values.to_vec()));
    }
}

fn row(input: Input, at: usize, want_logits: bool) -> Row {
    Row { input, seq: 0, pos: at as u32, want_logits }
}

fn likeliest(logits: &[f32]) -> TokenId {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as TokenId
}
