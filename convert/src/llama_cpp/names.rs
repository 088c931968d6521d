//! Names of tensors where llama.cpp's mmproj has others than a model file, and where it puts the class token.

/// llama.cpp's three tensors for the one that a model file has of q, k and v.
pub fn apart(name: &str) -> Option<[String; 3]> {
    let (block, end) = name.split_once(".attn_qkv.")?;
    Some(["q", "k", "v"].map(|part| format!("{block}.attn_{part}.{end}")))
}

/// The name under which files of old converters have a tensor: what widens is `ffn_down` there, and what narrows `ffn_up`.
pub fn exchanged(name: &str) -> String {
    match (name.split_once(".ffn_up."), name.split_once(".ffn_down.")) {
        (Some((block, end)), _) => format!("{block}.ffn_down.{end}"),
        (_, Some((block, end))) => format!("{block}.ffn_up.{end}"),
        _ => name.to_string(),
    }
}

/// What llama.cpp's InternVL graph calls a tensor of the projector.
pub fn of_internvl(name: &str) -> String {
    name.strip_prefix("mm.").map_or_else(|| name.to_string(), |rest| format!("mm.model.mlp.{rest}"))
}

pub const POSITIONS: &str = "v.position_embd.weight";

/// States in a mmproj of ours where the row of [`POSITIONS`] is that the class token takes. In files of others it is the
/// first, as in the checkpoint.
pub const CLASS_TOKEN: &str = "owlet.llama_cpp.class_token";
pub const LAST: &str = "last";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_generations() {
        assert_eq!(
            apart("v.blk.7.attn_qkv.bias").unwrap(),
            ["v.blk.7.attn_q.bias", "v.blk.7.attn_k.bias", "v.blk.7.attn_v.bias"]
        );
        assert_eq!(apart("v.blk.7.attn_out.bias"), None);
        for (name, expected) in [
            ("v.blk.12.ffn_up.weight", "v.blk.12.ffn_down.weight"),
            ("v.blk.12.ffn_down.bias", "v.blk.12.ffn_up.bias"),
            ("v.blk.12.attn_out.bias", "v.blk.12.attn_out.bias"),
        ] {
            assert_eq!(exchanged(name), expected);
        }
        assert_eq!(of_internvl("mm.3.bias"), "mm.model.mlp.3.bias");
        assert_eq!(of_internvl("v.class_embd"), "v.class_embd");
    }
}
