//! Pictures to embeddings, each picture once.
//!
//! In: pixels as the tower wants them. Out: rows for the decoder, shared. The tower runs a step at a time, so that a door
//! shows progress and other requests go on; the last embeddings are kept by what the picture and the model are, not by
//! name, so that the same picture under another path is not computed again. Must not know conversations.

use crate::error::{Error, Result};
use crate::model::{Model, Step, VisionEncoder};
use crate::prompt::Pixels;
use ggml::Cancel;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Kept embeddings take at most this much memory; one of the 19B model takes 5 MiB.
const MAX_KEPT_BYTES: usize = 256 << 20;

/// What a picture's embedding depends on, in 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageKey([u8; 32]);

impl ImageKey {
    /// The key of `pixels` under the model of `model_digest`, which covers how pixels are normalised.
    pub fn new(pixels: &Pixels, model_digest: &[u8; 32]) -> ImageKey {
        let mut hash = Sha256::new();
        hash.update(b"owlet image embedding 1\0");
        hash.update(model_digest);
        hash.update((pixels.size_px as u64).to_le_bytes());
        hash.update(&pixels.rgb);
        ImageKey(hash.finalize().into())
    }
}

/// `[n_embd, n_image_tokens]`
pub type Embedding = Arc<Vec<f32>>;

/// The tower and what it made last.
pub struct ImageEncoder {
    /// Absent where the model has no vision half.
    tower: Option<VisionEncoder>,
    /// What the tower is at.
    current: Option<ImageKey>,
    /// The latest last.
    kept: Vec<(ImageKey, Embedding)>,
}

/// How far a picture is.
pub enum Progress {
    Step(Step),
    Ready(Embedding),
}

impl ImageEncoder {
    /// # Errors
    /// `Backend` where there is no memory for the tower's run state.
    pub fn new(model: &Model, has_vision: bool) -> Result<ImageEncoder> {
        let tower = has_vision.then(|| VisionEncoder::new(model)).transpose()?;
        Ok(ImageEncoder { tower, current: None, kept: Vec::new() })
    }

    /// The embedding of `key`, if it is still there.
    pub fn kept(&mut self, key: &ImageKey) -> Option<Embedding> {
        let at = self.kept.iter().position(|(kept, _)| kept == key)?;
        let entry = self.kept.remove(at);
        let embedding = Arc::clone(&entry.1);
        self.kept.push(entry);
        Some(embedding)
    }

    /// One step further on `pixels`, whose key is `key`; the first one only makes ready. What was begun for another picture
    /// is dropped.
    ///
    /// # Errors
    /// `Cancelled`, after which the same step can be tried again; `Backend`; `Unsupported` where the model has no tower.
    pub fn step(&mut self, key: &ImageKey, pixels: &Pixels, cancel: &Cancel) -> Result<Progress> {
        let Some(tower) = &mut self.tower else {
            return Err(Error::unsupported("picture", "this model has no vision half"));
        };
        if self.current != Some(*key) {
            self.current = None;
            let step = tower.start(&pixels.planes)?;
            self.current = Some(*key);
            return Ok(Progress::Step(step));
        }
        let step = tower.step(cancel)?;
        if !step.is_last() {
            return Ok(Progress::Step(step));
        }
        self.current = None;
        let embedding = Arc::new(tower.finish()?);
        self.keep(*key, Arc::clone(&embedding));
        Ok(Progress::Ready(embedding))
    }

    fn keep(&mut self, key: ImageKey, embedding: Embedding) {
        self.kept.push((key, embedding));
        let mut n_bytes: usize =
            self.kept.iter().map(|(_, embedding)| size_of_val(embedding.as_slice())).sum();
        while n_bytes > MAX_KEPT_BYTES && self.kept.len() > 1 {
            n_bytes -= size_of_val(self.kept.remove(0).1.as_slice());
        }
    }
}
