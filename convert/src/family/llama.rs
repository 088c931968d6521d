//! A LLaMA decoder under the names of transformers: what its configuration means, and which tensor of the checkpoint
//! becomes which of the file.

use owlet_format::{TensorSpec, TextConfig};

use super::reading::{Source, Transform, find, torch_shape};
use crate::error::Result;
use crate::hf::json::Json;

/// The decoder, and what its configuration left out.
pub struct Decoder {
    pub config: TextConfig,
    pub assumed: Vec<String>,
}

/// `llm` is the object of config.json that describes the decoder.
///
/// # Errors
/// For another architecture, and for traits that no graph here has.
pub fn read(llm: &Json) -> Result<Decoder> {
    let architecture = match llm.key("architectures") {
        Some(list) => list.array()?.into_iter().next(),
        None => None,
    };
    match architecture {
        Some(name) if name.str()? != "LlamaForCausalLM" => {
            return Err(name.unsupported("\"LlamaForCausalLM\""));
        }
        Some(_) => {}
        None => {
            let kind = llm.need("model_type")?;
            if kind.str()? != "llama" {
                return Err(kind.unsupported("\"llama\""));
            }
        }
    }
    shapes(llm, None)
}

/// Shapes that a configuration may leave out.
pub struct Shapes {
    n_embd: u32,
    n_layer: u32,
    n_ff: u32,
    n_head: u32,
}

/// The defaults of transformers' LlamaConfig.
pub const LLAMA_7B: Shapes = Shapes { n_embd: 4096, n_layer: 32, n_ff: 11_008, n_head: 32 };

/// As [`read`], whatever the architecture is called.
///
/// # Errors
/// As [`read`], and for shapes that are left out where there is no `default`.
pub fn shapes(llm: &Json, default: Option<&Shapes>) -> Result<Decoder> {
    for key in ["attention_bias", "mlp_bias", "tie_word_embeddings"] {
        if let Some(value) = llm.key(key)
            && value.bool()?
        {
            return Err(value.unsupported("false"));
        }
    }
    if let Some(act) = llm.key("hidden_act")
        && act.str()? != "silu"
    {
        return Err(act.unsupported("\"silu\""));
    }
    if let Some(scaling) = llm.key("rope_scaling") {
        return Err(scaling.unsupported("null"));
    }
    let mut assumed = Vec::new();
    let mut shape = |key: &str, of: fn(&Shapes) -> u32| match (llm.key(key), default) {
        (None, Some(default)) => {
            assumed.push(format!("{} = {}", llm.path_of(key), of(default)));
            Ok(of(default))
        }
        _ => llm.need(key)?.n(),
    };
    let n_embd = shape("hidden_size", |s| s.n_embd)?;
    let n_head = shape("num_attention_heads", |s| s.n_head)?;
    let n_layer = shape("num_hidden_layers", |s| s.n_layer)?;
    let n_ff = shape("intermediate_size", |s| s.n_ff)?;
    if !n_embd.is_multiple_of(n_head) {
        let heads = llm.need("num_attention_heads")?;
        return Err(heads.wrong(&format!("a divisor of hidden_size {n_embd}")));
    }
    if let Some(dim) = llm.key("head_dim")
        && dim.n()? != n_embd / n_head
    {
        return Err(dim.unsupported(&format!("hidden_size / num_attention_heads = {}", n_embd / n_head)));
    }
    // defaults of transformers' LlamaConfig
    let n_head_kv = match llm.key("num_key_value_heads") {
        Some(value) => value.n()?,
        None => {
            assumed.push(format!("{} = {n_head}", llm.path_of("num_key_value_heads")));
            n_head
        }
    };
    let rope_base = match llm.key("rope_theta") {
        Some(value) => value.positive_f32()?,
        None => {
            assumed.push(format!("{} = 10000", llm.path_of("rope_theta")));
            10000.0
        }
    };
    let config = TextConfig {
        n_vocab: llm.need("vocab_size")?.n()?,
        n_ctx_train: llm.need("max_position_embeddings")?.n()?,
        n_embd,
        n_layer,
        n_ff,
        n_head,
        n_head_kv,
        norm_eps: llm.need("rms_norm_eps")?.positive_f32()?,
        rope_dim: n_embd / n_head,
        rope_base,
    };
    Ok(Decoder { config, assumed })
}

// Name in the file, name in the checkpoint behind the prefix.

const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

const BLOCK: [(&str, &str); 9] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
];

/// Where the text half's tensor `spec` comes from; `prefix` is what stands before transformers' own names.
pub fn source(spec: &TensorSpec, config: &TextConfig, prefix: &str) -> Option<Source> {
    let name = match spec.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((il, part)) => format!("{prefix}model.layers.{il}.{}", find(&BLOCK, part)?),
        None => format!("{prefix}{}", find(&WHOLE, &spec.name)?),
    };
    let transform = match spec.name.as_str() {
        name if name.ends_with(".attn_q.weight") => Transform::PairRows { n_head: config.n_head },
        name if name.ends_with(".attn_k.weight") => Transform::PairRows { n_head: config.n_head_kv },
        _ => Transform::None,
    };
    Some(Source { name, shape: torch_shape(spec), transform })
}
