//! A CLIP vision tower under the names of transformers' modeling_clip.py: LayerNorms with biases, one of them before the
//! first block, quick GELU, no bias for patches.

use owlet_format::{Activation, NormKind, QkNorm, TensorSpec, VisionConfig};

use super::reading::{Skipped, Source, Transform, find, skipped, torch_shape};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::hf::json::Json;

/// What the tower is, run up to the layer that a family reads out.
pub struct Tower {
    /// What stands before `vision_model.` in the checkpoint.
    pub prefix: &'static str,
    pub config: VisionConfig,
    pub assumed: Vec<String>,
}

impl Tower {
    /// `tower` is the object of config.json that describes it; the first `n_layer` blocks run.
    ///
    /// # Errors
    /// For traits that no graph here has.
    pub fn read(prefix: &'static str, tower: &Json, n_layer: u32) -> Result<Tower> {
        let mut assumed = Vec::new();
        // defaults of transformers' CLIPVisionConfig, which files made by it leave out
        match tower.key("hidden_act") {
            Some(act) if act.str()? != "quick_gelu" => return Err(act.unsupported("\"quick_gelu\"")),
            Some(_) => {}
            None => assumed.push(format!("{} = quick_gelu", tower.path_of("hidden_act"))),
        }
        let norm_eps = match tower.key("layer_norm_eps") {
            Some(eps) => eps.positive_f32()?,
            None => {
                assumed.push(format!("{} = 1e-5", tower.path_of("layer_norm_eps")));
                1e-5
            }
        };
        if let Some(channels) = tower.key("num_channels")
            && channels.n()? != 3
        {
            return Err(channels.unsupported("3"));
        }
        let config = VisionConfig {
            n_embd: tower.need("hidden_size")?.n()?,
            n_head: tower.need("num_attention_heads")?.n()?,
            n_layer,
            n_ff: tower.need("intermediate_size")?.n()?,
            patch_px: tower.need("patch_size")?.n()?,
            image_px: tower.need("image_size")?.n()?,
            norm: NormKind::Layer,
            norm_eps,
            qk_norm: QkNorm::None,
            qkv_bias: true,
            act: Activation::QuickGelu,
            cls: true,
            patch_bias: false,
            pre_norm: true,
            layer_scale: false,
            source_n_layer: tower.need("num_hidden_layers")?.n()?,
        };
        Ok(Tower { prefix, config, assumed })
    }

    /// Makes one matrix and one bias of those of q, k and v, for the blocks that run.
    ///
    /// # Errors
    /// Where one is missing or unlike the others.
    pub fn stack_qkv(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        for il in 0..self.config.n_layer {
            for end in ["weight", "bias"] {
                let name = |part: &str| format!("{}.{il}.self_attn.{part}.{end}", self.blocks());
                checkpoint.stack(&name(QKV), &["q_proj", "k_proj", "v_proj"].map(name))?;
            }
        }
        Ok(())
    }

    /// Where the tower's tensor `spec` comes from.
    pub fn source(&self, spec: &TensorSpec) -> Option<Source> {
        let name = match spec.name.strip_prefix("v.blk.").and_then(|rest| rest.split_once('.')) {
            Some((il, part)) => {
                let (layer, end) = part.rsplit_once('.')?;
                format!("{}.{il}.{}.{end}", self.blocks(), find(&BLOCK, layer)?)
            }
            None => format!("{}{MODEL}{}", self.prefix, find(&WHOLE, &spec.name)?),
        };
        Some(Source { name, shape: torch_shape(spec), transform: Transform::None })
    }

    /// What the names of the blocks begin with.
    pub fn blocks(&self) -> String {
        format!("{}{MODEL}encoder.layers", self.prefix)
    }

    /// What a tower that is read out before its end has no use for.
    pub fn unused_norm(&self, checkpoint: &Checkpoint) -> Option<Skipped> {
        let prefix = format!("{}{MODEL}post_layernorm.", self.prefix);
        skipped(checkpoint, "the norm behind the last block never runs", |name| name.starts_with(&prefix))
    }
}

// Name in the file, name in the checkpoint behind the prefix.

const MODEL: &str = "vision_model.";
/// A name of ours: what q, k and v are stacked to.
const QKV: &str = "qkv";

const WHOLE: [(&str, &str); 5] = [
    ("v.class_embd", "embeddings.class_embedding"),
    ("v.patch_embd.weight", "embeddings.patch_embedding.weight"),
    ("v.position_embd.weight", "embeddings.position_embedding.weight"),
    ("v.pre_ln.weight", "pre_layrnorm.weight"),
    ("v.pre_ln.bias", "pre_layrnorm.bias"),
];

const BLOCK: [(&str, &str); 6] = [
    ("ln1", "layer_norm1"),
    ("ln2", "layer_norm2"),
    ("attn_qkv", "self_attn.qkv"),
    ("attn_out", "self_attn.out_proj"),
    ("ffn_up", "mlp.fc1"),
    ("ffn_down", "mlp.fc2"),
];
