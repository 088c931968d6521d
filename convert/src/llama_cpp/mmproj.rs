//! The vision half of a pair, LLaVA-1.5's: a CLIP tower and the projector under llama.cpp's keys, from the files of 2023
//! on, which name no kind of projector, to those that state the layer to read out.

use super::facts::{Facts, Origin};
use super::names::{CLASS_TOKEN, LAST};
use super::stated::Stated;
use crate::error::{Error, Result};
use crate::family::llava;

/// What there is to know of a tower beside its facts.
pub struct Tower {
    /// Blocks that run, and blocks that the file has.
    pub n_layer: u32,
    pub n_stored: u32,
    /// Each of the two matrices of a block has the other's name.
    pub is_exchanged: bool,
    /// The class token takes the last row of the positions, not the first.
    pub class_is_last: bool,
}

/// Blocks of CLIP ViT-L/14, all of them; LLaVA-1.5 reads it out one before its end.
const CLIP_BLOCKS: u32 = 24;

/// Reads the facts of tower, projector and pictures.
///
/// # Errors
/// Where the file is no mmproj of LLaVA-1.5, lacks a key or has a trait that no graph here has.
pub fn read(mmproj: &Stated, facts: &mut Facts) -> Result<Tower> {
    kind(mmproj)?;
    for key in [N_EMBD, N_HEAD, N_FF, PATCH_PX, IMAGE_PX] {
        facts.stated(key, mmproj.need_count(key)?, mmproj, key);
    }
    let eps = mmproj.need_number(EPS)?;
    facts.stated(EPS, eps, mmproj, EPS);
    let tower = blocks(mmproj, facts)?;
    activation(mmproj, facts)?;
    for (key, value) in [("owlet.vision.norm", "layer"), ("owlet.vision.qk_norm", "none")] {
        facts.own_or(key, mmproj, value);
    }
    for (key, value) in [
        ("owlet.vision.qkv_bias", true),
        ("owlet.vision.cls", true),
        ("owlet.vision.patch_bias", false),
        ("owlet.vision.pre_norm", true),
        ("owlet.vision.layer_scale", false),
    ] {
        facts.own_or(key, mmproj, value);
    }
    projector(mmproj, facts, eps)?;
    pictures(mmproj, facts)?;
    mmproj.refuse_unknown("clip.")?;
    Ok(tower)
}

/// Whether it is what the family has: a tower and `mlp`, with nothing about tiles.
fn kind(mmproj: &Stated) -> Result<()> {
    let found = mmproj.word("general.architecture")?.unwrap_or_default();
    if found != "clip" {
        let what = format!("expected clip, the vision half, found {}", found.escape_debug());
        return Err(Error::unsupported(mmproj.place("general.architecture"), what));
    }
    let names = ["clip.projector_type", "clip.vision.projector_type"];
    let mut is_named = false;
    for key in names {
        is_named |= mmproj.value(key).is_some();
        mmproj.expect_word(key, "mlp")?;
    }
    // files of 2023 say so instead
    let has_projector = mmproj.flag("clip.has_llava_projector")?;
    if has_projector == Some(false) || (!is_named && has_projector.is_none()) {
        return Err(mmproj.missing(names[0], "mlp"));
    }
    for (key, expected) in [
        ("clip.has_vision_encoder", true),
        ("clip.has_text_encoder", false),
        ("clip.has_audio_encoder", false),
    ] {
        if mmproj.flag(key)?.is_some_and(|found| found != expected) {
            let what = format!("expected {expected}, found {}", !expected);
            return Err(Error::unsupported(mmproj.place(key), what));
        }
    }
    for (key, expected) in [
        ("clip.vision.mm_patch_merge_type", "flat"),
        ("clip.vision.image_aspect_ratio", "pad"),
        ("clip.vision.mm_projector_type", "mlp2x_gelu"),
    ] {
        mmproj.expect_word(key, expected)?;
    }
    Ok(())
}

/// How many blocks run. A file states the layer to read out, or holds the blocks that run and no more; only one that holds
/// all 24 of CLIP ViT-L/14 has one too many.
fn blocks(mmproj: &Stated, facts: &mut Facts) -> Result<Tower> {
    let n_stored = mmproj.need_count(N_LAYER)?;
    let n_layer = match mmproj.counts(FEATURE_LAYER)? {
        Some(layers) => {
            let n = match layers[..] {
                [n] => u32::try_from(n).ok().filter(|n| (1..=n_stored).contains(n)),
                _ => None,
            };
            let n = n.ok_or_else(|| {
                let what = format!("expected one layer of 1 to {n_stored}, found {layers:?}");
                Error::unsupported(mmproj.place(FEATURE_LAYER), what)
            })?;
            facts.stated(N_LAYER, n, mmproj, FEATURE_LAYER);
            n
        }
        None if n_stored == CLIP_BLOCKS => {
            facts.put(N_LAYER, CLIP_BLOCKS - 1, Origin::Family(llava::FAMILY));
            CLIP_BLOCKS - 1
        }
        None => {
            facts.stated(N_LAYER, n_stored, mmproj, N_LAYER);
            n_stored
        }
    };
    facts.own_or("owlet.vision.source_block_count", mmproj, n_stored.max(n_layer.saturating_add(1)));
    let class_is_last = match mmproj.word(CLASS_TOKEN)? {
        None => false,
        Some(LAST) => true,
        Some(found) => {
            let what = format!("expected {LAST}, found {}", found.escape_debug());
            return Err(Error::unsupported(mmproj.place(CLASS_TOKEN), what));
        }
    };
    Ok(Tower { n_layer, n_stored, is_exchanged: is_exchanged(mmproj)?, class_is_last })
}

/// Old converters called what widens `ffn_down`: rows of it are as long as the embedding.
fn is_exchanged(mmproj: &Stated) -> Result<bool> {
    let (n_embd, n_ff) = (mmproj.need_count(N_EMBD)?, mmproj.need_count(N_FF)?);
    if n_embd == n_ff {
        let what =
            format!("expected another number than the embedding's {n_embd}, to tell ffn_up from ffn_down");
        return Err(Error::unsupported(mmproj.place(N_FF), what));
    }
    let down = mmproj.file.tensor("v.blk.0.ffn_down.weight");
    Ok(down.is_some_and(|down| down.shape.padded()[0] == u64::from(n_embd)))
}

/// Neither of the two flags stands for the quick GELU, which is the family's.
fn activation(mmproj: &Stated, facts: &mut Facts) -> Result<()> {
    const ACT: &str = "owlet.vision.act";
    const FLAGS: [&str; 2] = ["clip.use_gelu", "clip.use_silu"];
    let mut stated = None;
    for key in FLAGS {
        match mmproj.flag(key)? {
            Some(true) => {
                let what = "expected false, which stands for the quick GELU, found true";
                return Err(Error::unsupported(mmproj.place(key), what));
            }
            Some(false) => stated = stated.or(Some(key)),
            None => {}
        }
    }
    match stated {
        Some(key) => facts.stated(ACT, "quick_gelu", mmproj, key),
        None => facts.own_or(ACT, mmproj, "quick_gelu"),
    }
    Ok(())
}

fn projector(mmproj: &Stated, facts: &mut Facts, eps: f32) -> Result<()> {
    const LAST_MATRIX: &str = "mm.2.weight";
    facts.own_or("owlet.projector.kind", mmproj, "mlp2x_gelu");
    // there is no norm to have one
    facts.own_or("owlet.projector.norm_eps", mmproj, eps);
    facts.own_or("owlet.projector.shuffle", mmproj, "none");
    facts.own_or("owlet.projector.ratio", mmproj, 1u32);
    // what the key says is CLIP's own projection in files of others
    mmproj.count(PROJECTION_DIM)?;
    let matrix = mmproj.file.tensor(LAST_MATRIX).ok_or_else(|| {
        Error::format(
            format!("{}: tensor {LAST_MATRIX}", mmproj.label()),
            "expected such a tensor, found none",
        )
    })?;
    let n_rows = u32::try_from(matrix.shape.n_rows()).unwrap_or(u32::MAX);
    facts.stated(PROJECTION_DIM, n_rows, mmproj, &format!("tensor {LAST_MATRIX}"));
    Ok(())
}

fn pictures(mmproj: &Stated, facts: &mut Facts) -> Result<()> {
    let image_px = mmproj.need_count(IMAGE_PX)?;
    let side = image_px.checked_div(mmproj.need_count(PATCH_PX)?).unwrap_or(0);
    facts.stated("owlet.image.size_px", image_px, mmproj, IMAGE_PX);
    facts.stated("owlet.image.n_tokens", side.saturating_mul(side), mmproj, IMAGE_PX);
    for (key, stated, default) in [
        ("owlet.image.mean", "clip.vision.image_mean", llava::CLIP.mean),
        ("owlet.image.std", "clip.vision.image_std", llava::CLIP.std),
    ] {
        match mmproj.value(stated) {
            Some(value) => facts.stated(key, value.clone(), mmproj, stated),
            None => facts.own_or(key, mmproj, default.to_vec()),
        }
    }
    facts.own_or("owlet.image.fit", mmproj, "pad");
    facts.own_or("owlet.image.pad_rgb", mmproj, llava::pad_rgb(&llava::CLIP.mean).to_vec());
    Ok(())
}

const N_EMBD: &str = "clip.vision.embedding_length";
const N_HEAD: &str = "clip.vision.attention.head_count";
const N_FF: &str = "clip.vision.feed_forward_length";
const N_LAYER: &str = "clip.vision.block_count";
const FEATURE_LAYER: &str = "clip.vision.feature_layer";
const PATCH_PX: &str = "clip.vision.patch_size";
const IMAGE_PX: &str = "clip.vision.image_size";
const PROJECTION_DIM: &str = "clip.vision.projection_dim";
const EPS: &str = "clip.vision.attention.layer_norm_epsilon";
