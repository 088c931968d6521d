//! What is compared with the reference: a case's checkpoint, converted by owlet-convert and run by owlet.
//!
//! Comes in: a golden case and the types to store. Goes out: pixels, observed nodes, prompts, greedy tokens.
//! Must not know what the reference says about any of them.

use super::golden::{Case, Conversation};
use super::{formula, golden, tiny};
use ggml::{Backend, Cancel, DType};
use owlet::model::{Arithmetic, Decoder, Input, KvType, Model, Observe, Row, VisionEncoder};
use owlet::prompt::{Chunk, Message, Picture, PictureFormat, Pixels, Tokenizer, chunks, preprocess, render};
use owlet_format::{Gguf, ImageConfig, ModelConfig};
use std::path::Path;
use tempfile::TempDir;

pub struct Subject {
    pub config: ModelConfig,
    pub tokenizer: Tokenizer,
    model: Model,
    _folder: TempDir,
}

/// A prompt as the decoder takes it.
pub struct Prompt {
    pub rows: Vec<Row>,
    /// The ids as the reference counts them: a picture's rows are so many `<IMG_CONTEXT>`.
    pub ids: Vec<u32>,
}

/// A node as it was observed.
pub struct Seen {
    pub name: String,
    pub ne: Vec<u64>,
    pub values: Vec<f32>,
}

impl Subject {
    pub fn new(case: &Case, dtype: DType) -> Subject {
        let folder = TempDir::new().unwrap();
        tiny::lay_out(case, folder.path());
        Subject::of(folder, dtype)
    }

    /// Of a checkpoint that was laid out.
    pub fn of(folder: TempDir, dtype: DType) -> Subject {
        let path = folder.path().join("model.gguf");
        tiny::convert(folder.path(), dtype, &path);
        Subject::open(&path, folder, Arithmetic::Packed)
    }

    /// The same file with activations in f32.
    pub fn exact(self) -> Subject {
        Subject::open(&self._folder.path().join("model.gguf"), self._folder, Arithmetic::Exact)
    }

    /// In f32, with the weights that this file's blocks stand for.
    pub fn rounded(&self) -> Subject {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model.gguf");
        tiny::unpack(&self._folder.path().join("model.gguf"), &path);
        Subject::open(&path, folder, Arithmetic::Packed)
    }

    /// Of a model file in the folder.
    pub fn open(path: &Path, folder: TempDir, arithmetic: Arithmetic) -> Subject {
        let file = Gguf::open(path).unwrap();
        let config = ModelConfig::read(&file).unwrap();
        let backend = Backend::cpu(2).unwrap();
        let model = Model::load_with(&file, &config, &backend, arithmetic).unwrap();
        let tokenizer = Tokenizer::new(config.tokenizer.as_ref().unwrap()).unwrap();
        Subject { config, tokenizer, model, _folder: folder }
    }

    /// The tower's input for a formula picture.
    pub fn pixels(&self, picture: &golden::Picture) -> Pixels {
        pixels(picture, self.config.image.as_ref().unwrap())
    }

    /// The picture as embedding rows `[n_embd, n_image_tokens]`.
    pub fn encode(&self, pixels: &Pixels, seen: &mut Vec<Seen>) -> Vec<f32> {
        encoded(&self.model, pixels, seen).finish().unwrap()
    }

    pub fn prompt(&self, conversation: &Conversation, image_context_id: u32) -> Prompt {
        let config = self.config.prompt.as_ref().unwrap();
        let eos_id = self.config.tokenizer.as_ref().unwrap().eos_id;
        let segments = render(&config.template, eos_id, &config.system, &messages(conversation)).unwrap();
        let n_image_tokens = self.config.image.as_ref().unwrap().n_tokens as usize;
        let mut inputs = Vec::new();
        for chunk in chunks(&segments, &self.tokenizer, n_image_tokens).unwrap() {
            match chunk {
                Chunk::Tokens(ids) => inputs.extend(ids.into_iter().map(Input::Token)),
                Chunk::Image { index, n_tokens } => {
                    inputs.extend((0..n_tokens).map(|i| Input::Embd(index * n_tokens + i)));
                }
            }
        }
        let ids = inputs.iter().map(|&input| match input {
            Input::Token(id) => id,
            Input::Embd(_) => image_context_id,
        });
        let ids = ids.collect();
        let rows = (0..).zip(inputs).map(|(pos, input)| Row { input, seq: 0, pos, want_logits: true });
        Prompt { rows: rows.collect(), ids }
    }

    pub fn decoder(&self, kv_type: KvType) -> Decoder {
        let n_ctx = self.config.text.as_ref().unwrap().n_ctx_train;
        Decoder::new(&self.model, n_ctx, 1, kv_type).unwrap()
    }
}

/// One pass over the whole prompt; leaves the decoder behind it.
pub fn prefill(decoder: &mut Decoder, prompt: &Prompt, embd: &[f32], seen: &mut Vec<Seen>) {
    let mut passes = Vec::new();
    decoder.forward_observed(&prompt.rows, embd, &Cancel::new(), &mut Collect(&mut passes)).unwrap();
    seen.extend(joined(passes));
    let logits = seen.iter().find(|node| node.name == "logits").unwrap();
    let n_vocab = logits.ne[0];
    let last = logits.values[logits.values.len() - n_vocab as usize..].to_vec();
    seen.push(Seen { name: "next".into(), ne: vec![n_vocab, 1], values: last });
}

/// A long prompt goes in several passes, each with a part of every node's rows.
fn joined(passes: Vec<Seen>) -> Vec<Seen> {
    let mut whole: Vec<Seen> = Vec::new();
    for part in passes {
        match whole.iter_mut().find(|node| node.name == part.name) {
            Some(node) => {
                node.values.extend(part.values);
                node.ne = vec![node.ne[0], node.values.len() as u64 / node.ne[0]];
            }
            None => whole.push(part),
        }
    }
    whole
}

/// The best token, and after it the best token again, `n_steps` in all.
pub fn greedy(decoder: &mut Decoder, prompt: &Prompt, embd: &[f32], n_steps: usize) -> Vec<u32> {
    let mut rows = prompt.rows.clone();
    rows.iter_mut().rev().skip(1).for_each(|row| row.want_logits = false);
    let mut said = Vec::new();
    loop {
        let logits = decoder.forward(&rows, embd, &Cancel::new()).unwrap();
        let logits = logits.rows().next().unwrap().to_vec();
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        said.push(best as u32);
        if said.len() == n_steps {
            return said;
        }
        let pos = rows.last().unwrap().pos + 1;
        rows = vec![Row { input: Input::Token(best as u32), seq: 0, pos, want_logits: true }];
    }
}

/// The turns as a user of owlet sends them: pictures beside the text, not as `<image>` in it.
fn messages(conversation: &Conversation) -> Vec<Message> {
    let mut messages = Vec::new();
    for (i, turn) in conversation.turns.iter().enumerate() {
        let has_picture = i == 0 && conversation.has_picture();
        let text = turn.question.trim_start_matches("<image>\n");
        messages.push(Message::user(text, has_picture.then_some(0)));
        messages.extend(turn.answer.as_ref().map(Message::bot));
    }
    messages
}

/// Keeps every node.
pub struct Collect<'a>(pub &'a mut Vec<Seen>);

impl Observe for Collect<'_> {
    fn wants(&self, _: &str) -> bool {
        true
    }

    fn node(&mut self, name: &str, ne: &[u64], values: &[f32]) {
        self.0.push(Seen { name: name.into(), ne: ne.to_vec(), values: values.to_vec() });
    }
}

/// A tower's input for a formula picture.
pub fn pixels(golden: &golden::Picture, image: &ImageConfig) -> Pixels {
    let picture = Picture {
        width: golden.width as usize,
        height: golden.height as usize,
        rgb: formula::picture(&golden.name, golden.width, golden.height),
        format: PictureFormat::Png,
        orientation: 1,
        had_alpha: false,
    };
    preprocess(&picture, image).unwrap()
}

/// The tower of `model` behind its last block.
pub fn encoded(model: &Model, pixels: &Pixels, seen: &mut Vec<Seen>) -> VisionEncoder {
    let mut encoder = VisionEncoder::new(model).unwrap();
    let mut step = encoder.start(&pixels.planes).unwrap();
    while !step.is_last() {
        step = encoder.step_observed(&Cancel::new(), &mut Collect(seen)).unwrap();
    }
    encoder
}
