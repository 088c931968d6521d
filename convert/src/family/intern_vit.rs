//! An InternViT tower under the names of modeling_intern_vit.py: what its configuration means, on which grid its
//! positions lie, and which tensor of the checkpoint becomes which of the file.

use owlet_format::{Activation, NormKind, QkNorm, TensorSpec, VisionConfig};

use super::reading::{Source, Transform, find, torch_shape};
use crate::checkpoint::{Checkpoint, shape_text};
use crate::error::{Error, Result};
use crate::hf::json::Json;

/// What the tower is, run up to the layer that a family reads out.
pub struct Tower {
    /// What stands before the tower's own names in the checkpoint.
    pub prefix: &'static str,
    /// Blocks of the checkpoint, and how many of them run.
    pub n_stored: u32,
    pub n_layer: u32,
    pub grid: Grid,
}

impl Tower {
    /// `tower` is the object of config.json that describes it.
    ///
    /// # Errors
    /// For traits that no graph here has.
    pub fn config(&self, tower: &Json) -> Result<VisionConfig> {
        if let Some(act) = tower.key("hidden_act")
            && act.str()? != "gelu"
        {
            return Err(act.unsupported("\"gelu\""));
        }
        if let Some(channels) = tower.key("num_channels")
            && channels.n()? != 3
        {
            return Err(channels.unsupported("3"));
        }
        // configs from before there was a choice have no norm_type
        let norm = match tower.key("norm_type") {
            None => NormKind::Rms,
            Some(value) => match value.str()? {
                "rms_norm" => NormKind::Rms,
                "layer_norm" => NormKind::Layer,
                _ => return Err(value.unsupported("\"rms_norm\" or \"layer_norm\"")),
            },
        };
        let qk_norm = tower.need("qk_normalization")?.bool()?;
        Ok(VisionConfig {
            n_embd: tower.need("hidden_size")?.n()?,
            n_head: tower.need("num_attention_heads")?.n()?,
            n_layer: self.n_layer,
            n_ff: tower.need("intermediate_size")?.n()?,
            patch_px: tower.need("patch_size")?.n()?,
            image_px: self.grid.image_px,
            norm,
            norm_eps: tower.need("layer_norm_eps")?.positive_f32()?,
            qk_norm: if qk_norm { QkNorm::Full } else { QkNorm::None },
            qkv_bias: tower.need("qkv_bias")?.bool()?,
            act: Activation::GeluErf,
            cls: true,
            patch_bias: true,
            pre_norm: false,
            layer_scale: true,
            source_n_layer: self.n_stored,
        })
    }

    /// Where the tower's tensor `spec` comes from.
    pub fn source(&self, spec: &TensorSpec) -> Option<Source> {
        let prefix = self.prefix;
        let name = match spec.name.strip_prefix("v.blk.").and_then(|rest| rest.split_once('.')) {
            Some((il, part)) => format!("{prefix}{BLOCKS}.{il}.{}", find(&BLOCK, part)?),
            None => format!("{prefix}{}", find(&WHOLE, &spec.name)?),
        };
        let mut source = Source { name, shape: torch_shape(spec), transform: Transform::None };
        match spec.name.as_str() {
            "v.class_embd" => source.shape.splice(0..0, [1, 1]).for_each(drop),
            "v.position_embd.weight" => {
                let Grid { stored, side, .. } = self.grid;
                source.shape = vec![1, u64::from(stored).pow(2) + 1, source.shape[1]];
                if stored != side {
                    source.transform = Transform::ResizeGrid { from: stored, to: side };
                }
            }
            _ => {}
        }
        Some(source)
    }

    /// What the names of the blocks begin with.
    pub fn blocks(&self) -> String {
        format!("{}{BLOCKS}", self.prefix)
    }
}

/// Sides of the stored and of the wanted position grid. The tower's `image_size` has no say: early revisions of some
/// configs have an old number there.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    pub image_px: u32,
    pub side: u32,
    stored: u32,
}

impl Grid {
    /// Measures the table under `prefix`; `forced` is a side in pixels, which may be
    /// another than the one that it was trained for, and where it is said.
    ///
    /// # Errors
    /// For a table that is missing or no square, and for a side that patches don't divide.
    pub fn read(
        prefix: &str,
        tower: &Json,
        forced: Option<(u32, Json)>,
        checkpoint: &Checkpoint,
    ) -> Result<Grid> {
        let patch_px = tower.need("patch_size")?.n()?;
        let positions = format!("{prefix}{POSITIONS}");
        let place = checkpoint.place(&positions);
        let Some(table) = checkpoint.tensors.get(&positions) else {
            return Err(Error::format(place, "expected for v.position_embd.weight, not found"));
        };
        let n_patches = match table.shape.as_slice() {
            [1, n, _] => n.saturating_sub(1),
            _ => 0,
        };
        let side = n_patches.isqrt();
        let stored = u32::try_from(side).ok().filter(|_| side > 0 && side * side == n_patches);
        let Some(stored) = stored else {
            let found = shape_text(&table.shape);
            let what = format!("expected shape (1, side * side + 1, width), found {found}");
            return Err(Error::format(place, what));
        };
        let Some((image_px, forced)) = forced else {
            let image_px = stored.checked_mul(patch_px);
            let image_px = image_px.ok_or_else(|| Error::format(place, "too many positions"))?;
            return Ok(Grid { image_px, side: stored, stored });
        };
        if !image_px.is_multiple_of(patch_px) {
            return Err(forced.wrong(&format!("a multiple of patch_size {patch_px}")));
        }
        Ok(Grid { image_px, side: image_px / patch_px, stored })
    }

    /// The side that `--set image_size` or the checkpoint itself asks for.
    ///
    /// # Errors
    /// For what is no count.
    pub fn forced<'a>(root: &Json<'a>) -> Result<Option<(u32, Json<'a>)>> {
        root.key("force_image_size").map(|value| Ok((value.n()?, value))).transpose()
    }

    pub fn note(&self) -> Option<String> {
        let Grid { side, stored, .. } = self;
        (side != stored)
            .then(|| format!("position grid interpolated from {stored} x {stored} to {side} x {side}"))
    }
}

/// `value` indexes the list of hidden states, whose entry 0 is what goes into the first block; yields how many of
/// `n_layer` blocks run.
pub fn blocks_run(value: &Json, n_layer: u32) -> Result<u32> {
    let select_layer = value.i64()?;
    let n_states = i64::from(n_layer) + 1;
    let index = if select_layer < 0 { select_layer.saturating_add(n_states) } else { select_layer };
    match u32::try_from(index) {
        Ok(n_run) if n_run >= 1 && n_run <= n_layer => Ok(n_run),
        _ => Err(value.wrong(&format!("a layer of {n_layer} blocks"))),
    }
}

// Name in the file, name in the checkpoint behind the prefix.

const BLOCKS: &str = "encoder.layers";
const POSITIONS: &str = "embeddings.position_embedding";

const WHOLE: [(&str, &str); 4] = [
    ("v.class_embd", "embeddings.class_embedding"),
    ("v.patch_embd.weight", "embeddings.patch_embedding.weight"),
    ("v.patch_embd.bias", "embeddings.patch_embedding.bias"),
    ("v.position_embd.weight", POSITIONS),
];

const BLOCK: [(&str, &str); 16] = [
    ("ln1.weight", "norm1.weight"),
    ("ln1.bias", "norm1.bias"),
    ("ln2.weight", "norm2.weight"),
    ("ln2.bias", "norm2.bias"),
    ("attn_qkv.weight", "attn.qkv.weight"),
    ("attn_qkv.bias", "attn.qkv.bias"),
    ("attn_q_norm.weight", "attn.q_norm.weight"),
    ("attn_k_norm.weight", "attn.k_norm.weight"),
    ("attn_out.weight", "attn.proj.weight"),
    ("attn_out.bias", "attn.proj.bias"),
    ("ffn_up.weight", "mlp.fc1.weight"),
    ("ffn_up.bias", "mlp.fc1.bias"),
    ("ffn_down.weight", "mlp.fc2.weight"),
    ("ffn_down.bias", "mlp.fc2.bias"),
    ("ls1.weight", "ls1"),
    ("ls2.weight", "ls2"),
];
