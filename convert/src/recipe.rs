//! Which type each tensor gets. The text half follows llama-quantize's rules for a LLaMA, so that a file is what
//! people know under the same name; the other parts get one type, where their rows allow it.

use std::fmt;
use std::str::FromStr;

use ggml::DType;
use owlet_format::{Part, Role, TensorSpec};

use crate::checkpoint::SourceType;
use crate::error::Error;

/// A type as `--type` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeChoice {
    Plain(DType),
    /// The `_m` mixture: some of the text half's tensors get `q6_k`.
    Mixture(DType),
}

use TypeChoice::{Mixture, Plain};

/// What `--type`, `--vision-type` and `--projector-type` take.
pub const TYPE_CHOICES: [(&str, TypeChoice); 13] = [
    ("f32", Plain(DType::F32)),
    ("f16", Plain(DType::F16)),
    ("bf16", Plain(DType::BF16)),
    ("q8_0", Plain(DType::Q8_0)),
    ("q6_k", Plain(DType::Q6_K)),
    ("q5_k_m", Mixture(DType::Q5_K)),
    ("q5_k", Mixture(DType::Q5_K)),
    ("q5_0", Plain(DType::Q5_0)),
    ("q5_1", Plain(DType::Q5_1)),
    ("q4_k_m", Mixture(DType::Q4_K)),
    ("q4_k", Mixture(DType::Q4_K)),
    ("q4_0", Plain(DType::Q4_0)),
    ("q4_1", Plain(DType::Q4_1)),
];

impl TypeChoice {
    /// The type without its mixture, which only the text half has.
    pub fn plain(self) -> TypeChoice {
        Plain(self.base())
    }

    fn base(self) -> DType {
        match self {
            Plain(dtype) | Mixture(dtype) => dtype,
        }
    }
}

impl FromStr for TypeChoice {
    type Err = Error;

    /// Case does not matter.
    fn from_str(text: &str) -> Result<TypeChoice, Error> {
        let found = TYPE_CHOICES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<&str> = TYPE_CHOICES.iter().map(|(name, _)| *name).collect();
            Error::Request(format!("type {text:?}: expected one of {}", names.join(", ")))
        })
    }
}

impl fmt::Display for TypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plain(dtype) => f.pad(dtype.name()),
            Mixture(dtype) => f.pad(&format!("{dtype}_m")),
        }
    }
}

/// One choice a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    pub text: TypeChoice,
    pub vision: TypeChoice,
    pub projector: TypeChoice,
}

/// The type a tensor gets, and the one that its rows were too short or too long for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    pub dtype: DType,
    pub instead_of: Option<DType>,
}

impl Recipe {
    /// The types asked for, a line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let types = [("text", self.text), ("vision", self.vision), ("projector", self.projector)];
        types.into_iter().map(|(part, choice)| format!("{part} = {choice}"))
    }

    /// The type of `spec`, whose source is `source`, in a model of `n_layer` text blocks.
    pub fn choose(&self, spec: &TensorSpec, source: SourceType, n_layer: u32) -> Chosen {
        let choice = match spec.part {
            Part::Text => self.text,
            Part::Vision => self.vision,
            Part::Projector => self.projector,
        };
        let n_per_row = spec.ne.padded()[0];
        match spec.role {
            Role::Matrix | Role::Embedding | Role::Output => {
                let wanted = if spec.part == Part::Text {
                    text_type(choice, &spec.name, n_per_row, n_layer)
                } else {
                    choice.base()
                };
                fit(wanted, n_per_row)
            }
            // f16 can't hold every bf16; the kernel is small
            Role::Patch => {
                let half = choice == Plain(DType::F16) || source == SourceType::F16;
                let dtype = if half && choice != Plain(DType::F32) { DType::F16 } else { DType::F32 };
                Chosen { dtype, instead_of: None }
            }
            Role::Position | Role::Norm | Role::Bias | Role::Scale => {
                Chosen { dtype: DType::F32, instead_of: None }
            }
        }
    }
}

/// llama-quantize's choice for a tensor of a LLaMA (llama.cpp, src/llama-quant.cpp), before rows are looked at.
fn text_type(choice: TypeChoice, name: &str, n_per_row: u64, n_layer: u32) -> DType {
    let base = choice.base();
    if !base.is_quantized() {
        return base;
    }
    if name == "output.weight" {
        let fits = n_per_row.is_multiple_of(base.block_len());
        return if !fits || base == DType::Q8_0 { DType::Q8_0 } else { DType::Q6_K };
    }
    let il = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()).and_then(|il| il.parse().ok());
    let sensitive = name.ends_with(".attn_v.weight") || name.ends_with(".ffn_down.weight");
    match (choice, il) {
        (Mixture(_), Some(il)) if sensitive && more_bits(il, n_layer) => DType::Q6_K,
        _ => base,
    }
}

/// The first and the last eighth of the blocks, and every third one between.
fn more_bits(il: u32, n_layer: u32) -> bool {
    let eighth = n_layer / 8;
    il < eighth || il >= 7 * n_layer / 8 || (il - eighth) % 3 == 2
}

/// `wanted`, or what holds rows of `n_per_row` instead: llama-quantize's table for targets of 256.
fn fit(wanted: DType, n_per_row: u64) -> Chosen {
    if n_per_row.is_multiple_of(wanted.block_len()) {
        return Chosen { dtype: wanted, instead_of: None };
    }
    let smaller = match wanted {
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        other => other,
    };
    let fits = n_per_row.is_multiple_of(smaller.block_len());
    Chosen { dtype: if fits { smaller } else { DType::F16 }, instead_of: Some(wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_in_any_case() {
        let cases = [
            ("q4_k", Mixture(DType::Q4_K)),
            ("Q4_K_M", Mixture(DType::Q4_K)),
            ("Q5_K", Mixture(DType::Q5_K)),
            ("F16", Plain(DType::F16)),
            ("bf16", Plain(DType::BF16)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<TypeChoice>().unwrap(), expected, "{text}");
        }
        assert_eq!("q4_k".parse::<TypeChoice>().unwrap().to_string(), "q4_k_m");
        let error = "q3_k".parse::<TypeChoice>().unwrap_err().to_string();
        assert!(error.starts_with("type \"q3_k\": expected one of f32, f16, bf16, q8_0,"), "{error}");
    }

    /// The blocks of a mixture that get q6_k, worked out by hand from the rule's three clauses.
    #[test]
    fn a_mixture_gives_more_bits_to_the_same_blocks_as_llama_quantize() {
        let blocks = |n_layer| (0..n_layer).filter(|il| more_bits(*il, n_layer)).collect::<Vec<_>>();
        assert_eq!(blocks(40), [0, 1, 2, 3, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 35, 36, 37, 38, 39]);
        assert_eq!(blocks(32), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!(blocks(3), [2]);
        assert_eq!(blocks(1), [0]);
    }

    #[test]
    fn text_types_are_those_of_llama_quantize() {
        use DType::*;
        let q4_k_m = Mixture(Q4_K);
        let cases = [
            (q4_k_m, "token_embd.weight", 5120, Q4_K),
            (q4_k_m, "output.weight", 5120, Q6_K),
            (q4_k_m, "output.weight", 3200, Q8_0),
            (q4_k_m, "blk.0.attn_v.weight", 5120, Q6_K),
            (q4_k_m, "blk.5.attn_v.weight", 5120, Q4_K),
            (q4_k_m, "blk.7.ffn_down.weight", 13824, Q6_K),
            (q4_k_m, "blk.6.ffn_down.weight", 13824, Q4_K),
            (q4_k_m, "blk.39.ffn_down.weight", 13824, Q6_K),
            (q4_k_m, "blk.0.attn_q.weight", 5120, Q4_K),
            (q4_k_m, "blk.0.ffn_up.weight", 5120, Q4_K),
            (Mixture(Q5_K), "blk.0.attn_v.weight", 5120, Q6_K),
            (Mixture(Q5_K), "blk.5.attn_output.weight", 5120, Q5_K),
            (Plain(Q4_0), "output.weight", 5120, Q6_K),
            (Plain(Q4_0), "blk.0.attn_v.weight", 5120, Q4_0),
            (Plain(Q5_1), "output.weight", 5120, Q6_K),
            (Plain(Q6_K), "output.weight", 5120, Q6_K),
            (Plain(Q8_0), "output.weight", 5120, Q8_0),
            (Plain(F16), "output.weight", 5120, F16),
            (Plain(BF16), "token_embd.weight", 5120, BF16),
        ];
        for (choice, name, n_per_row, expected) in cases {
            assert_eq!(text_type(choice, name, n_per_row, 40), expected, "{choice} {name} {n_per_row}");
        }
    }

    #[test]
    fn rows_that_no_block_divides_fall_back() {
        use DType::*;
        let cases = [
            (Q4_K, 5120, Q4_K),
            (Q4_K, 3200, Q5_0),
            (Q5_K, 3200, Q5_1),
            (Q6_K, 3200, Q8_0),
            (Q8_0, 3200, Q8_0),
            (Q4_K, 588, F16),
            (Q8_0, 588, F16),
            (Q4_0, 33, F16),
            (F32, 33, F32),
            (BF16, 1, BF16),
        ];
        for (wanted, n_per_row, expected) in cases {
            let instead_of = (wanted != expected).then_some(wanted);
            assert_eq!(
                fit(wanted, n_per_row),
                Chosen { dtype: expected, instead_of },
                "{wanted} {n_per_row}"
            );
        }
    }

    #[test]
    fn small_tensors_keep_their_numbers() {
        let spec = |name: &str, role, ne: &[u64]| TensorSpec {
            name: name.into(),
            ne: owlet_format::Shape::new(ne).unwrap(),
            part: Part::Vision,
            role,
        };
        let of = |vision, spec: &TensorSpec, source| {
            Recipe { text: Plain(DType::Q4_0), vision, projector: vision }.choose(spec, source, 40).dtype
        };
        let patch = spec("v.patch_embd.weight", Role::Patch, &[14, 14, 3, 64]);
        let norm = spec("v.blk.0.ln1.weight", Role::Norm, &[64]);
        let q8_0 = Plain(DType::Q8_0);
        assert_eq!(of(q8_0, &patch, SourceType::BF16), DType::F32);
        assert_eq!(of(q8_0, &patch, SourceType::F16), DType::F16);
        assert_eq!(of(Plain(DType::F16), &patch, SourceType::BF16), DType::F16);
        assert_eq!(of(Plain(DType::F32), &patch, SourceType::F16), DType::F32);
        assert_eq!(of(q8_0, &norm, SourceType::BF16), DType::F32);
    }
}
