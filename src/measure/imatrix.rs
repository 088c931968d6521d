//! An importance matrix by running real inputs: pictures and prompts go through the network while every matrix is watched,
//! and the squares of what it is multiplied with are summed place by place.
//!
//! In: a model file, pixels and texts, one input at a time. Out: an [`Importance`]. The model's own answer is read along, as
//! far as it is wanted, since that is what a text half mostly reads. Knows no files of pictures.

use std::collections::BTreeMap;
use std::path::Path;

use ggml::{Backend, Cancel};
use owlet_format::{ImageConfig, Importance, ModelConfig};

use super::asker::Asker;
use crate::engine::open_file;
use crate::error::{Error, Result};
use crate::model::{Decoder, Input, KvType, Model, Observe, Row, VisionEncoder};
use crate::prompt::Pixels;
use crate::token::TokenId;

/// Rows of the text half that are watched at once: what all of its matrices read of them is in memory together.
const N_ROWS: usize = 64;
/// Positions of an input with its answer; a longer context would only take memory.
const N_CTX: u32 = 4096;

/// A model at work for its importance matrix.
pub struct Calibration {
    /// The model's name.
    pub name: String,
    /// [`Gguf::identity`](owlet_format::Gguf::identity)
    pub digest: [u8; 32],
    /// How a picture is prepared, where there is a tower.
    pub image: Option<ImageConfig>,
    encoder: Option<VisionEncoder>,
    text: Option<Text>,
    n_answer: usize,
}

struct Text {
    decoder: Decoder,
    asker: Asker,
}

impl Calibration {
    /// The model at `path`, or the built-in one; `n_answer` tokens of each answer are read along.
    ///
    /// # Errors
    /// `Io`, `Format`, `Unsupported` by what is wrong with the file.
    pub fn open(path: Option<&Path>, n_threads: usize, n_answer: usize) -> Result<Calibration> {
        let file = open_file(path)?;
        let config = ModelConfig::read(&file)?;
        let model = Model::load(&file, &config, &Backend::cpu(n_threads)?)?;
        let encoder = config.vision.is_some().then(|| VisionEncoder::new(&model)).transpose()?;
        let text = match (&config.text, Asker::of(&config)?) {
            (Some(text), Some(asker)) => {
                let decoder = Decoder::new(&model, text.n_ctx_train.min(N_CTX), 1, KvType::F16)?;
                Some(Text { decoder, asker })
            }
            _ => None,
        };
        Ok(Calibration {
            name: config.name.clone(),
            digest: file.identity(),
            image: config.image.clone(),
            encoder,
            text,
            n_answer,
        })
    }

    pub fn has_text(&self) -> bool {
        self.text.is_some()
    }

    /// Runs one input, and adds what it was to `into` when all of it is done: the picture alone where there is no prompt or
    /// no text half.
    ///
    /// # Errors
    /// `Unsupported` where the model lacks what the input needs; `Limit` where it is longer than the context; `Cancelled`;
    /// `Backend`.
    pub fn run(
        &mut self,
        pixels: Option<&Pixels>,
        prompt: Option<&str>,
        into: &mut Importance,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut sums = Sums::default();
        let embd = match pixels {
            None => Vec::new(),
            Some(pixels) => self.see(pixels, &mut sums, cancel)?,
        };
        if let (Some(text), Some(prompt)) = (&mut self.text, prompt) {
            let inputs = text.asker.inputs(prompt, pixels.is_some())?;
            text.read(inputs, &embd, self.n_answer, (&mut sums, cancel))?;
        }
        for (name, Sum { squares, n_rows }) in sums.0 {
            into.add(&name, &squares, n_rows);
        }
        into.n_chunks += 1;
        Ok(())
    }

    /// The picture as rows of the text half; none where the tower stands alone.
    fn see(&mut self, pixels: &Pixels, sums: &mut Sums, cancel: &Cancel) -> Result<Vec<f32>> {
        let lacking = || Error::unsupported(&self.name, "pictures, and this model has no vision half");
        let encoder = self.encoder.as_mut().ok_or_else(lacking)?;
        let mut step = encoder.start(&pixels.planes)?;
        while !step.is_last() {
            step = encoder.step_observed(cancel, sums)?;
        }
        if self.text.is_some() { encoder.finish() } else { Ok(Vec::new()) }
    }
}

impl Text {
    /// Reads the prompt, and after it what the model says to it, the likeliest token each time.
    fn read(
        &mut self,
        mut inputs: Vec<Input>,
        embd: &[f32],
        n_answer: usize,
        (sums, cancel): (&mut Sums, &Cancel),
    ) -> Result<()> {
        self.decoder.truncate(0, 0);
        let n_prompt = inputs.len();
        let mut n_read = 0;
        while n_read < inputs.len() {
            let mut next = None;
            for some in inputs[n_read..].chunks(N_ROWS) {
                // all logits, so that the output's matrix reads every row
                let row = |(at, input): (usize, &Input)| Row {
                    input: *input,
                    seq: 0,
                    pos: (n_read + at) as u32,
                    want_logits: true,
                };
                let rows: Vec<Row> = some.iter().enumerate().map(row).collect();
                let logits = self.decoder.forward_observed(&rows, embd, cancel, sums)?;
                n_read += some.len();
                next = logits.rows().last().map(likeliest);
            }
            let has_room = inputs.len() < n_prompt + n_answer && inputs.len() < self.decoder.n_ctx() as usize;
            let next = next.filter(|id| has_room && !self.asker.ends_with(*id));
            inputs.extend(next.map(Input::Token));
        }
        Ok(())
    }
}

fn likeliest(logits: &[f32]) -> TokenId {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0) as TokenId
}

/// What one input was to every matrix, by the matrix's name.
#[derive(Default)]
struct Sums(BTreeMap<String, Sum>);

struct Sum {
    squares: Vec<f64>,
    n_rows: u64,
}

impl Observe for Sums {
    fn wants(&self, _: &str) -> bool {
        false
    }

    fn wants_input(&self, weight: &str) -> bool {
        // the patches' kernel is never quantized, and has a name of the graph's there
        weight.ends_with(".weight")
    }

    fn node(&mut self, name: &str, ne: &[u64], values: &[f32]) {
        let weight = name.strip_suffix(".in").unwrap_or(name);
        let n = ne[0] as usize;
        let sum = self.0.entry(weight.to_owned()).or_insert_with(|| Sum { squares: vec![0.0; n], n_rows: 0 });
        for row in values.chunks_exact(n) {
            sum.squares.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value).powi(2));
            sum.n_rows += 1;
        }
    }
}
