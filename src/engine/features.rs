//! The vision tower alone: pictures to the rows that its last block yields, for whoever wants features and no answer.
//!
//! In: pixels as the tower wants them. Out: every row of the last hidden state, the class token's first. No norm is
//! behind them, as in the models' own code. Works on any file with a tower, with or without a text half.

use super::loaded::open_file;
use super::setup::Setup;
use crate::error::{Error, Result};
use crate::model::{Step, VisionEncoder};
use crate::prompt::Pixels;
use ggml::Cancel;
use owlet_format::{ImageConfig, ModelConfig};
use std::path::Path;

/// A tower at work, one picture at a time.
pub struct FeatureExtractor {
    /// The model's name.
    pub name: String,
    /// How a picture is prepared.
    pub image: ImageConfig,
    pub shape: FeatureShape,
    encoder: VisionEncoder,
}

/// What every picture yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureShape {
    pub n_embd: usize,
    /// Patches, and the class token if there is one.
    pub n_positions: usize,
    pub has_class: bool,
}

impl FeatureShape {
    /// The pooled output among `rows [n_embd, n_positions]`: the class token's row, as it is.
    pub fn pooled<'a>(&self, rows: &'a [f32]) -> Option<&'a [f32]> {
        rows.get(..self.n_embd).filter(|_| self.has_class)
    }
}

impl FeatureExtractor {
    /// Opens the model at `path`, or the built-in one.
    ///
    /// # Errors
    /// `Io`, `Format`, `Unsupported` by what is wrong with the file; `Unsupported` where it has no vision half.
    pub fn open(path: Option<&Path>, setup: &Setup) -> Result<FeatureExtractor> {
        let file = open_file(path)?;
        let config = ModelConfig::read(&file)?;
        let (Some(vision), Some(image)) = (&config.vision, &config.image) else {
            return Err(Error::unsupported(file.label(), "this model has no vision half"));
        };
        let shape = FeatureShape {
            n_embd: vision.n_embd as usize,
            n_positions: vision.n_positions() as usize,
            has_class: vision.cls,
        };
        let model = setup.load(&file, &config)?;
        let encoder = VisionEncoder::of_tower(&model)?;
        Ok(FeatureExtractor { name: config.name.clone(), image: image.clone(), shape, encoder })
    }

    /// The last hidden state of a picture, `[n_embd, n_positions]`; `on_step` hears how far it is.
    ///
    /// # Errors
    /// `Request` where `pixels` are of another size; `Cancelled`; `Backend`.
    pub fn encode(
        &mut self,
        pixels: &Pixels,
        cancel: &Cancel,
        on_step: &mut dyn FnMut(Step),
    ) -> Result<Vec<f32>> {
        let mut step = self.encoder.start(&pixels.planes)?;
        while !step.is_last() {
            on_step(step);
            step = self.encoder.step(cancel)?;
        }
        self.encoder.features()
    }
}
