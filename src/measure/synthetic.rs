//! Models of random weights: what they say is noise, what they cost is real.
//!
//! Comes in: a config, and the type of each tensor. Goes out: a file, or the same bytes in memory. A few rows of each
//! kind of tensor are drawn and quantized, then repeated, each tensor beginning with another one: so a model of 14 GB is
//! made in the time that it takes to write 14 GB. Numbers have the size that a trained model's have, so that nothing
//! overflows or dies out on the way.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use ggml::{Cancel, DType, quantize};
use owlet_format::{Gguf, Layout, Metadata, ModelConfig, Role, TensorPlan, TensorSpec, Writer};

use super::work::Typed;
use crate::error::{Error, Result};

/// Rows that are drawn for a kind of tensor.
const N_DRAWN: usize = 96;

/// Where tensors in memory begin: what a file promises of its offsets only holds from such an address on.
const ALIGNMENT: usize = 64;

/// What messages call a model in memory.
const LABEL: &str = "random weights";

/// A model that could be made.
#[derive(Clone, Debug)]
pub struct Synthetic {
    config: ModelConfig,
    tensors: Vec<Typed>,
}

impl Synthetic {
    /// A model of `config` whose tensors have the types that `dtype_of` says.
    ///
    /// # Panics
    /// Where the config would not pass [`ModelConfig::validate`].
    pub fn new(config: ModelConfig, dtype_of: impl Fn(&TensorSpec) -> DType) -> Synthetic {
        let typed = |spec: TensorSpec| {
            let dtype = dtype_of(&spec);
            (spec, dtype)
        };
        let tensors = config.tensors().into_iter().map(typed).collect();
        Synthetic { config, tensors }
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// In the order of the file.
    pub fn tensors(&self) -> &[Typed] {
        &self.tensors
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// `Format`: a tensor cannot be stored in the type that was said.
    pub fn n_bytes(&self) -> Result<u64> {
        Ok(self.layout()?.n_bytes)
    }

    /// Writes the model to a file at `target`, as a conversion would.
    ///
    /// # Errors
    /// `Format`: as [`Synthetic::n_bytes`]. `Io`: what the disk says.
    pub fn write(&self, target: &Path) -> Result<()> {
        let mut writer = Writer::create(target, &self.metadata(&target.display().to_string()), &self.plan())?;
        let mut rows = Rows::default();
        for (index, (spec, dtype)) in self.tensors.iter().enumerate() {
            writer.begin(&spec.name)?;
            rows.repeat(spec, *dtype, index, |bytes| Ok(writer.write(bytes)?))?;
        }
        Ok(writer.finish()?.publish()?)
    }

    /// The model as a file in memory, in one allocation. `progress` hears how many bytes of how many there are.
    ///
    /// # Errors
    /// `Backend`: there is not so much memory. `Format`: as [`Synthetic::n_bytes`]. `Cancelled`.
    pub fn in_memory(&self, cancel: &Cancel, mut progress: impl FnMut(u64, u64)) -> Result<Gguf> {
        let layout = self.layout()?;
        let no_memory =
            || Error::Backend(format!("{LABEL}: no memory for {} bytes of weights", layout.n_bytes));
        let n_bytes = usize::try_from(layout.n_bytes).map_err(|_| no_memory())?;
        let mut bytes: Vec<u8> = Vec::new();
        bytes.try_reserve_exact(n_bytes.saturating_add(ALIGNMENT)).map_err(|_| no_memory())?;
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        bytes.resize(start, 0);
        bytes.extend_from_slice(&layout.header);
        let mut rows = Rows::default();
        for (index, ((spec, dtype), info)) in self.tensors.iter().zip(&layout.tensors).enumerate() {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            progress(info.offset, layout.n_bytes);
            bytes.resize(start + info.offset as usize, 0);
            rows.repeat(spec, *dtype, index, |row| {
                bytes.extend_from_slice(row);
                Ok(())
            })?;
        }
        bytes.resize(start + n_bytes, 0);
        progress(layout.n_bytes, layout.n_bytes);
        Ok(Gguf::from_bytes(Bytes::from_owner(bytes).slice(start..), LABEL)?)
    }

    fn layout(&self) -> Result<Layout> {
        Ok(Layout::new(&self.metadata(LABEL), &self.plan())?)
    }

    fn metadata(&self, label: &str) -> Metadata {
        let mut metadata = Metadata::new(label);
        self.config.write(&mut metadata);
        metadata
    }

    fn plan(&self) -> Vec<TensorPlan> {
        let plan =
            |(spec, dtype): &Typed| TensorPlan { name: spec.name.clone(), dtype: *dtype, shape: spec.ne };
        self.tensors.iter().map(plan).collect()
    }
}

/// Rows that were drawn, by what they are for.
#[derive(Default)]
struct Rows {
    drawn: HashMap<Kind, Vec<u8>>,
    dice: Dice,
}

/// What rows have in common that can stand for each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    role: Role,
    is_bias: bool,
    dtype: DType,
    n_per_row: usize,
}

impl Rows {
    /// Hands the bytes of tensor number `index` to `out`, some rows at a time.
    fn repeat(
        &mut self,
        spec: &TensorSpec,
        dtype: DType,
        index: usize,
        mut out: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let [n_per_row, others @ ..] = spec.ne.padded();
        let kind = Kind {
            role: spec.role,
            is_bias: spec.name.ends_with("bias"),
            dtype,
            n_per_row: n_per_row as usize,
        };
        let rows = match self.drawn.get(&kind) {
            Some(rows) => rows,
            None => {
                let rows = kind.draw(&mut self.dice)?;
                self.drawn.entry(kind).or_insert(rows)
            }
        };
        let row_bytes = rows.len() / N_DRAWN;
        let mut n_left = others.iter().product::<u64>() as usize * row_bytes;
        // Neighbouring tensors begin with different rows, and so do those of neighbouring layers.
        let mut piece = &rows[index * 7 % N_DRAWN * row_bytes..];
        while n_left > 0 {
            let n = n_left.min(piece.len());
            out(&piece[..n])?;
            n_left -= n;
            piece = rows;
        }
        Ok(())
    }
}

impl Kind {
    fn draw(&self, dice: &mut Dice) -> Result<Vec<u8>> {
        let (offset, scale) = match self.role {
            Role::Norm if self.is_bias => (0.0, 0.0),
            Role::Norm => (1.0, 0.1),
            Role::Bias => (0.0, 0.05),
            Role::Scale => (0.1, 0.01),
            Role::Embedding | Role::Position => (0.0, 0.5),
            Role::Patch => (0.0, 0.05),
            Role::Matrix | Role::Output => (0.0, (3.0 / self.n_per_row as f32).sqrt()),
        };
        let values: Vec<f32> = (0..self.n_per_row * N_DRAWN).map(|_| offset + scale * dice.roll()).collect();
        let wrong = || Error::request(format_args!("{}: no rows of {}", self.dtype, self.n_per_row));
        let row_bytes = self.dtype.row_bytes(self.n_per_row as u64).ok_or_else(wrong)?;
        let mut bytes = vec![0; row_bytes as usize * N_DRAWN];
        quantize::quantize_rows(self.dtype, &values, self.n_per_row, None, &mut bytes)?;
        Ok(bytes)
    }
}

/// A small generator of numbers in [-1, 1): only their spread matters here.
struct Dice(u64);

impl Default for Dice {
    fn default() -> Dice {
        Dice(1)
    }
}

impl Dice {
    fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use owlet_format::Part;

    use super::super::shapes::shape;
    use super::*;

    /// The true shape cut down until it is made in no time; every type that `convert` offers for matrices.
    fn small(dtype: DType) -> Synthetic {
        let mut config = shape("internvl-chat-v1-1", Some(1), Some(2)).unwrap();
        if let (Some(vision), Some(image), Some(projector), Some(text)) =
            (&mut config.vision, &mut config.image, &mut config.projector, &mut config.text)
        {
            (vision.n_embd, vision.n_head, vision.n_ff) = (64, 2, 128);
            (vision.image_px, image.size_px, image.n_tokens) = (56, 56, 4);
            projector.n_embd_out = 256;
            (text.n_embd, text.n_head, text.n_head_kv, text.n_ff) = (256, 2, 2, 512);
        }
        Synthetic::new(config, |spec| {
            let is_matrix = matches!(spec.role, Role::Matrix | Role::Embedding | Role::Output);
            if spec.part == Part::Text && is_matrix { dtype } else { DType::F32 }
        })
    }

    #[test]
    fn what_is_in_memory_is_what_a_file_would_be() {
        let dir = tempfile::tempdir().unwrap();
        for dtype in [DType::F32, DType::BF16, DType::Q8_0, DType::Q6_K, DType::Q4_K, DType::Q4_0] {
            let model = small(dtype);
            let mut seen = Vec::new();
            let memory = model.in_memory(&Cancel::new(), |done, of| seen.push((done, of))).unwrap();
            assert_eq!(memory.bytes().len() as u64, model.n_bytes().unwrap());
            assert!(memory.bytes().as_ptr().addr().is_multiple_of(ALIGNMENT), "used where it lies");
            assert_eq!(seen.last(), Some(&(model.n_bytes().unwrap(), model.n_bytes().unwrap())));
            ModelConfig::read(&memory).unwrap().check(&memory).unwrap();

            let path = dir.path().join("model.gguf");
            model.write(&path).unwrap();
            let file = Gguf::open(&path).unwrap();
            assert_eq!(file.tensors(), memory.tensors());
            for tensor in file.tensors() {
                assert!(file.data(tensor) == memory.data(tensor), "{dtype} {}", tensor.name);
            }
            let of = |name: &str| memory.data(memory.tensor(name).unwrap());
            assert!(of("blk.0.ffn_up.weight") != of("blk.1.ffn_up.weight"), "layers differ");
        }
    }

    #[test]
    fn what_cannot_be_made_is_an_error() {
        let cancelled = Cancel::new();
        cancelled.cancel();
        let text = small(DType::F32).in_memory(&cancelled, |_, _| {}).unwrap_err().to_string();
        assert_eq!(text, "cancelled");
        let mut wrong = small(DType::F32);
        for (spec, dtype) in &mut wrong.tensors {
            if spec.name == "v.blk.0.ffn_up.weight" {
                *dtype = DType::Q4_K;
            }
        }
        let text = wrong.n_bytes().unwrap_err().to_string();
        assert!(
            text.contains("tensor v.blk.0.ffn_up.weight: expected ne[0] to be a multiple of q4_k's 256"),
            "{text}"
        );
    }
}
