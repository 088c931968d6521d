//! InternViT on its own, a feature extractor: InternViT-6B-224px, InternViT-6B-448px in all its versions (48 blocks,
//! later 45) and InternViT-300M. All blocks run unless `--set select_layer` says otherwise.
//!
//! Names and shapes: OpenGVLab/InternVL, modeling_intern_vit.py. Pictures: the CLIPImageProcessor that each repository's
//! preprocessor_config.json sets up.

use owlet_format::{Fit, ImageConfig, ModelConfig, Part, Provenance};

use super::intern_vit::{Grid, Tower, blocks_run};
use super::reading::{Reading, sources, tables, unused_blocks};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::hf::settings::{Place, Places};
use crate::hf::{ConfigFiles, image};

/// What `--set` may say.
pub const PLACES: &Places =
    &[("select_layer", Place::Config("select_layer")), ("image_size", Place::Config("force_image_size"))];

pub fn read(files: &ConfigFiles, checkpoint: &Checkpoint) -> Result<Reading> {
    let root = files.config.root();
    let n_stored = root.need("num_hidden_layers")?.n()?;
    let n_layer = match root.key("select_layer") {
        Some(value) => blocks_run(&value, n_stored)?,
        None => n_stored,
    };
    let grid = Grid::read("", &root, Grid::forced(&root)?, checkpoint)?;
    let tower = Tower { prefix: "", n_stored, n_layer, grid };
    image::need_shortest_edge_and_crop(&files.preprocessor)?;
    let pixels = image::read(&files.preprocessor, &image::IMAGENET, grid.image_px)?;
    let config = ModelConfig {
        name: String::new(),
        family: "intern-vit".to_string(),
        vision: Some(tower.config(&root)?),
        projector: None,
        image: Some(ImageConfig {
            size_px: grid.image_px,
            fit: Fit::Crop,
            pad_rgb: pixels.mean.map(|mean| (mean * 255.0) as u8),
            mean: pixels.mean,
            std: pixels.std,
            n_tokens: grid.side.saturating_mul(grid.side),
        }),
        text: None,
        tokenizer: None,
        prompt: None,
        generation: None,
        provenance: Provenance::default(),
    };
    config.validate(&root.place())?;
    let sources = sources(&config, |spec| match spec.part {
        Part::Vision => tower.source(spec),
        Part::Projector | Part::Text => None,
    })?;
    let mut skipped = unused_blocks(checkpoint, &tower.blocks(), n_layer..n_stored);
    skipped.extend(tables(checkpoint));
    let mut notes = pixels.notes;
    notes.extend(grid.note());
    Ok(Reading { config, sources, skipped, assumed: pixels.assumed, notes })
}
