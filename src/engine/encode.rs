//! Pictures to embeddings, each picture once.
//!
//! In: pixels as the tower wants them. Out: rows for the decoder, shared. The tower runs a step at a time, so that a door
//! shows progress and other requests go on; what it made is kept by what picture and model are, not by name, so that
//! the same picture under another path, or in another process, is not computed again. Must not know conversations.

use super::image_cache::{Embedding, ImageCache, ImageKey, Layer, MemoryCache};
use super::request::EmbeddingSource;
use crate::error::{Error, Result};
use crate::model::{Model, Progress, VisionEncoder};
use crate::prompt::Pixels;
use ggml::Cancel;
use owlet_format::Pages;
use std::sync::Arc;

/// For the class tokens' rows of the last pictures, a few kilobytes each.
const POOLED_BYTES: u64 = 4 << 20;

/// The tower and what it made before.
pub struct ImageEncoder {
    /// Absent where the model has no vision half.
    tower: Option<VisionEncoder>,
    /// What the tower is at.
    current: Option<ImageKey>,
    cache: ImageCache,
    /// The class tokens' rows of the last pictures.
    pooled: MemoryCache,
    /// Given back when the tower rests.
    pages: Option<Pages>,
    /// It has read weights since.
    is_warm: bool,
}

/// How far a picture is.
pub enum Encoded {
    /// A step more, or a piece of one.
    Partly(Progress),
    /// The embedding, and a warning where it could not be kept.
    Ready(Embedding, Option<String>),
}

impl ImageEncoder {
    /// # Errors
    /// `Backend` where there is no memory for the tower's run state.
    pub fn new(model: &Model, has_vision: bool, cache: ImageCache) -> Result<ImageEncoder> {
        let tower = has_vision.then(|| VisionEncoder::new(model)).transpose()?;
        let pooled = MemoryCache::new(POOLED_BYTES);
        Ok(ImageEncoder { tower, current: None, cache, pooled, pages: None, is_warm: false })
    }

    /// Goes on with the tower of `model`. What was begun has to begin again; what was made before stays.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn go_on_with(&mut self, model: &Model) -> Result<()> {
        self.current = None;
        if self.tower.is_some() {
            self.tower = Some(VisionEncoder::new(model)?);
        }
        Ok(())
    }

    /// The tower's weights are in `pages`, which are given back whenever it [rests](ImageEncoder::rest).
    pub fn releasing(self, pages: Pages) -> ImageEncoder {
        ImageEncoder { pages: Some(pages), ..self }
    }

    /// No picture is waited for.
    pub fn rest(&mut self) {
        if std::mem::take(&mut self.is_warm)
            && let Some(pages) = &self.pages
        {
            pages.release();
        }
    }

    /// The embedding of `key`, if it was computed before. Asks no disk while the tower is at that picture.
    pub fn known(&mut self, key: &ImageKey) -> Option<(Embedding, EmbeddingSource)> {
        if self.is_at(key) {
            return None;
        }
        self.cache.find(key).map(|(embedding, layer)| match layer {
            Layer::Memory => (embedding, EmbeddingSource::Reused),
            Layer::Disk => (embedding, EmbeddingSource::Stored),
        })
    }

    /// The class token's row of `key`, if the tower saw that picture lately.
    pub fn pooled(&mut self, key: &ImageKey) -> Option<Embedding> {
        self.pooled.find(key)
    }

    /// Whether the tower is in the middle of `key`.
    pub fn is_at(&self, key: &ImageKey) -> bool {
        self.current == Some(*key)
    }

    /// A step further on `pixels`, whose key is `key`, or so much of it as takes about `max_operations` multiplications; the
    /// first one only makes ready. What was begun for another picture is dropped.
    ///
    /// # Errors
    /// `Cancelled`, after which the same can be tried again; `Backend`; `Unsupported` where the model has no tower.
    pub fn step(
        &mut self,
        (key, pixels): (&ImageKey, &Pixels),
        max_operations: u64,
        cancel: &Cancel,
    ) -> Result<Encoded> {
        let Some(tower) = &mut self.tower else {
            return Err(Error::unsupported("picture", "this model has no vision half"));
        };
        if self.current != Some(*key) {
            self.current = None;
            let step = tower.start(&pixels.planes)?;
            self.current = Some(*key);
            return Ok(Encoded::Partly(Progress { step, n_operations: 0 }));
        }
        self.is_warm = true;
        let progress = tower.step_within(max_operations, cancel)?;
        if !progress.step.is_last() {
            return Ok(Encoded::Partly(progress));
        }
        self.current = None;
        if let Some(row) = tower.pooled()? {
            self.pooled.keep(*key, Arc::new(row));
        }
        let embedding = Arc::new(tower.finish()?);
        let warning = self.cache.keep(*key, Arc::clone(&embedding));
        Ok(Encoded::Ready(embedding, warning))
    }
}
