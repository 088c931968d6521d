//! What owlet makes of conversations and of a picture, for a comparison with llama.cpp (compare.py beside this file):
//!
//!     interchange tokens MODEL.gguf N < conversations.json     ids of each prompt, N tokens of greedy decoding
//!     interchange rows MODEL.gguf PICTURE OUT.f32              the projector's rows for a picture
//!
//! A conversation is a list of turns, questions and answers by turns, that ends with a question. Weights are what the file
//! says, activations stay in f32.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use ggml::{Backend, Cancel};
use owlet::model::{Arithmetic, Decoder, Input, KvType, Model, Row, VisionEncoder};
use owlet::prompt::{Chunk, Limits, Message, Tokenizer, chunks, decode, preprocess, render};
use owlet_format::{Gguf, ModelConfig};
use serde_json::json;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tokens", model, n_steps] => tokens(&Subject::open(model), n_steps.parse().unwrap()),
        ["rows", model, picture, out] => rows(&Subject::open(model), picture, out),
        _ => {
            eprintln!("usage: interchange tokens MODEL.gguf N | rows MODEL.gguf PICTURE OUT.f32");
            std::process::exit(2);
        }
    }
}

struct Subject {
    config: ModelConfig,
    model: Model,
}

impl Subject {
    fn open(path: &str) -> Subject {
        let file = Gguf::open(Path::new(path)).unwrap();
        let config = ModelConfig::read(&file).unwrap();
        let backend = Backend::cpu(std::thread::available_parallelism().map_or(1, |n| n.get())).unwrap();
        let model = Model::load_with(&file, &config, &backend, Arithmetic::Exact).unwrap();
        Subject { config, model }
    }
}

fn tokens(subject: &Subject, n_steps: usize) {
    let conversations: Vec<Vec<String>> = serde_json::from_reader(std::io::stdin()).unwrap();
    let (prompt, vocabulary) =
        (subject.config.prompt.as_ref().unwrap(), subject.config.tokenizer.as_ref().unwrap());
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    for turns in conversations {
        let message = |(at, text): (usize, &String)| match at % 2 {
            0 => Message::user(text.as_str(), None),
            _ => Message::bot(text.as_str()),
        };
        let messages: Vec<Message> = turns.iter().enumerate().map(message).collect();
        let segments = render(&prompt.template, vocabulary.eos_id, &prompt.system, &messages).unwrap();
        let mut ids = Vec::new();
        for chunk in chunks(&segments, &tokenizer, 0).unwrap() {
            let Chunk::Tokens(tokens) = chunk else { unreachable!("there are no pictures") };
            ids.extend(tokens);
        }
        let greedy = greedy(&subject.model, subject.config.text.as_ref().unwrap().n_ctx_train, &ids, n_steps);
        println!("{}", json!({ "ids": ids, "greedy": greedy }));
    }
}

/// The best token, and after it the best one again, without heed of what ends an answer.
fn greedy(model: &Model, n_ctx: u32, ids: &[u32], n_steps: usize) -> Vec<u32> {
    let mut decoder = Decoder::new(model, n_ctx, 1, KvType::F32).unwrap();
    let row = |(pos, &id): (usize, &u32)| Row {
        input: Input::Token(id),
        seq: 0,
        pos: pos as u32,
        want_logits: pos + 1 == ids.len(),
    };
    let mut rows: Vec<Row> = ids.iter().enumerate().map(row).collect();
    let mut said = Vec::new();
    while said.len() < n_steps {
        let logits = decoder.forward(&rows, &[], &Cancel::new()).unwrap();
        let logits = logits.rows().next().unwrap();
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
        said.push(best);
        let pos = rows.last().unwrap().pos + 1;
        rows = vec![Row { input: Input::Token(best), seq: 0, pos, want_logits: true }];
    }
    said
}

fn rows(subject: &Subject, picture: &str, out: &str) {
    let picture = decode(&std::fs::read(picture).unwrap(), picture, &Limits::default()).unwrap();
    let pixels = preprocess(&picture, subject.config.image.as_ref().unwrap()).unwrap();
    let mut encoder = VisionEncoder::new(&subject.model).unwrap();
    let mut step = encoder.start(&pixels.planes).unwrap();
    while !step.is_last() {
        step = encoder.step(&Cancel::new()).unwrap();
    }
    let rows = encoder.finish().unwrap();
    std::fs::write(out, rows.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
}
