//! Which tensor of an InternVL checkpoint becomes which of the file: InternViT, projector mlp1 and LLaMA decoder
//! under the names of modeling_intern_vit.py, modeling_internvl_chat.py and transformers.

pub const POSITIONS: &str = "vision_model.embeddings.position_embedding";
pub const VISION_BLOCKS: &str = "vision_model.encoder.layers";

// Name in the file, name in the checkpoint.

const WHOLE: [(&str, &str); 13] = [
    ("v.class_embd", "vision_model.embeddings.class_embedding"),
    ("v.patch_embd.weight", "vision_model.embeddings.patch_embedding.weight"),
    ("v.patch_embd.bias", "vision_model.embeddings.patch_embedding.bias"),
    ("v.position_embd.weight", POSITIONS),
    ("mm.0.weight", "mlp1.0.weight"),
    ("mm.0.bias", "mlp1.0.bias"),
    ("mm.1.weight", "mlp1.1.weight"),
    ("mm.1.bias", "mlp1.1.bias"),
    ("mm.3.weight", "mlp1.3.weight"),
    ("mm.3.bias", "mlp1.3.bias"),
    ("token_embd.weight", "language_model.model.embed_tokens.weight"),
    ("output_norm.weight", "language_model.model.norm.weight"),
    ("output.weight", "language_model.lm_head.weight"),
];

const VISION_BLOCK: [(&str, &str); 13] = [
    ("ln1.weight", "norm1.weight"),
    ("ln2.weight", "norm2.weight"),
    ("attn_qkv.weight", "attn.qkv.weight"),
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

const TEXT_BLOCK: [(&str, &str); 9] = [
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

const TEXT_BLOCKS: &str = "language_model.model.layers";

/// The checkpoint's name for the file's tensor `name`.
pub fn source_name(name: &str) -> Option<String> {
    let find =
        |table: &[(&str, &'static str)], name: &str| table.iter().find(|row| row.0 == name).map(|row| row.1);
    let (blocks, table, rest) = match (name.strip_prefix("v.blk."), name.strip_prefix("blk.")) {
        (Some(rest), _) => (VISION_BLOCKS, &VISION_BLOCK[..], rest),
        (None, Some(rest)) => (TEXT_BLOCKS, &TEXT_BLOCK[..], rest),
        (None, None) => return find(&WHOLE, name).map(str::to_string),
    };
    let (il, part) = rest.split_once('.')?;
    find(table, part).map(|part| format!("{blocks}.{il}.{part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_tables_is_found_once() {
        let cases = [
            ("v.blk.44.attn_qkv.weight", Some("vision_model.encoder.layers.44.attn.qkv.weight")),
            ("v.blk.0.ls2.weight", Some("vision_model.encoder.layers.0.ls2")),
            ("blk.39.ffn_down.weight", Some("language_model.model.layers.39.mlp.down_proj.weight")),
            ("mm.3.bias", Some("mlp1.3.bias")),
            ("output.weight", Some("language_model.lm_head.weight")),
            ("blk.0.ls1.weight", None),
            ("v.blk.0", None),
            ("rope_freqs.weight", None),
        ];
        for (name, expected) in cases {
            assert_eq!(source_name(name).as_deref(), expected, "{name}");
        }
    }
}
