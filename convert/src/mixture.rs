//! The types that people know by llama-quantize's names, and which type each tensor of a LLaMA gets under such a name.
//!
//! The rules are llama.cpp's (src/llama-quant.cpp, llama_tensor_get_type_impl and tensor_type_fallback), for a dense
//! LLaMA; a test holds them against what its own quantizer does without an importance matrix. With one, two of them are others.

use std::fmt;
use std::str::FromStr;

use ggml::DType;
use owlet_format::TextConfig;

use crate::error::Error;

/// How much a mixture adds to its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Small,
    Medium,
    Large,
}

/// A type as `--type` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeChoice {
    Plain(DType),
    /// Some tensors of the text half get more bits.
    Mixture(DType, Size),
}

use DType::*;
use Size::*;
use TypeChoice::{Mixture, Plain};

/// What `--type`, `--vision-type` and `--projector-type` take. A name that stands twice is written by the first.
pub const TYPE_CHOICES: [(&str, TypeChoice); 22] = [
    ("f32", Plain(F32)),
    ("f16", Plain(F16)),
    ("bf16", Plain(BF16)),
    ("q8_0", Plain(Q8_0)),
    ("q6_k", Plain(Q6_K)),
    ("q5_k_m", Mixture(Q5_K, Medium)),
    ("q5_k_s", Mixture(Q5_K, Small)),
    ("q5_k", Mixture(Q5_K, Medium)),
    ("q5_1", Plain(Q5_1)),
    ("q5_0", Plain(Q5_0)),
    ("q4_k_m", Mixture(Q4_K, Medium)),
    ("q4_k_s", Mixture(Q4_K, Small)),
    ("q4_k", Mixture(Q4_K, Medium)),
    ("q4_1", Plain(Q4_1)),
    ("q4_0", Plain(Q4_0)),
    ("iq4_nl", Plain(IQ4_NL)),
    ("iq4_xs", Plain(IQ4_XS)),
    ("q3_k_l", Mixture(Q3_K, Large)),
    ("q3_k_m", Mixture(Q3_K, Medium)),
    ("q3_k_s", Mixture(Q3_K, Small)),
    ("q3_k", Mixture(Q3_K, Medium)),
    ("q2_k", Plain(Q2_K)),
];

impl TypeChoice {
    /// The type without its mixture, which only the text half has.
    pub fn plain(self) -> TypeChoice {
        Plain(self.base())
    }

    pub fn base(self) -> DType {
        match self {
            Plain(dtype) | Mixture(dtype, _) => dtype,
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
            Mixture(..) => {
                let known = TYPE_CHOICES.iter().find(|(_, choice)| choice == self);
                f.pad(known.map_or_else(|| self.base().name(), |(name, _)| name))
            }
        }
    }
}

/// A weight of a text half.
#[derive(Clone, Copy)]
pub struct TextWeight<'a> {
    pub name: &'a str,
    pub n_per_row: u64,
    pub text: &'a TextConfig,
    /// Whether the model is quantized with an importance matrix.
    pub has_importance: bool,
}

/// The type of a weight under `choice`, before rows are looked at.
pub fn text_type(choice: TypeChoice, weight: TextWeight) -> DType {
    let TextWeight { name, n_per_row, text, has_importance } = weight;
    let base = choice.base();
    if !base.is_quantized() {
        return base;
    }
    if name == "output.weight" {
        let fits = n_per_row.is_multiple_of(base.block_len());
        return if !fits || base == Q8_0 { Q8_0 } else { Q6_K };
    }
    let Some((il, tensor)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
        return base;
    };
    let Ok(il) = il.parse() else { return base };
    let n_layer = text.n_layer;
    match tensor {
        "attn_v.weight" => attn_v(choice, il, text),
        "attn_output.weight" => match choice {
            Plain(Q2_K) => Q3_K,
            Mixture(Q3_K, Medium) => Q4_K,
            Mixture(Q3_K, Large) => Q5_K,
            _ => base,
        },
        "ffn_down.weight" => match choice {
            Plain(Q2_K) => Q3_K,
            Plain(IQ4_NL | IQ4_XS) if il < n_layer / 8 && !has_importance => Q5_K,
            Mixture(Q4_K, Small) if il < n_layer / 8 => Q5_K,
            // what is weighted goes astray there without a minimum
            Plain(Q4_0) if il < n_layer / 8 && has_importance => Q4_1,
            Plain(Q5_0) if il < n_layer / 8 && has_importance => Q5_1,
            Mixture(Q3_K, Medium) => {
                if il < n_layer / 16 {
                    Q5_K
                } else {
                    Q4_K
                }
            }
            Mixture(Q3_K, Large) => Q5_K,
            Mixture(Q4_K | Q5_K, Medium) if more_bits(il, n_layer) => Q6_K,
            _ => base,
        },
        _ => base,
    }
}

fn attn_v(choice: TypeChoice, il: u32, text: &TextConfig) -> DType {
    let shared_by = text.n_head / text.n_head_kv;
    let dtype = match choice {
        Plain(Q2_K) => {
            if shared_by >= 4 {
                Q4_K
            } else {
                Q3_K
            }
        }
        Plain(IQ4_NL | IQ4_XS) if shared_by >= 4 => Q5_K,
        Mixture(Q3_K, Medium) => {
            if il < 2 {
                Q5_K
            } else {
                Q4_K
            }
        }
        Mixture(Q3_K, Large) => Q5_K,
        Mixture(Q4_K, Small) if il < 4 => Q5_K,
        Mixture(Q4_K | Q5_K, Medium) if more_bits(il, text.n_layer) => Q6_K,
        _ => choice.base(),
    };
    // what llama.cpp calls a 70B: its values are few, and more bits for them cost little
    let is_70b = text.n_layer == 80 && shared_by > 1;
    if is_70b && matches!(dtype, Q3_K | Q4_K) { Q5_K } else { dtype }
}

/// The first and the last eighth of the blocks, and every third one between.
fn more_bits(il: u32, n_layer: u32) -> bool {
    let eighth = n_layer / 8;
    il < eighth || il >= 7 * n_layer / 8 || (il - eighth) % 3 == 2
}

/// `wanted`, or what holds rows of `n_per_row` instead: a type of blocks of 32, else f16.
pub fn fitting(wanted: DType, n_per_row: u64) -> DType {
    if n_per_row.is_multiple_of(wanted.block_len()) {
        return wanted;
    }
    let smaller = match wanted {
        Q2_K | Q3_K => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        IQ4_XS => IQ4_NL,
        other => other,
    };
    if n_per_row.is_multiple_of(smaller.block_len()) { smaller } else { F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_in_any_case() {
        let cases = [
            ("q4_k", Mixture(Q4_K, Medium), "q4_k_m"),
            ("Q4_K_M", Mixture(Q4_K, Medium), "q4_k_m"),
            ("q4_k_s", Mixture(Q4_K, Small), "q4_k_s"),
            ("Q5_K", Mixture(Q5_K, Medium), "q5_k_m"),
            ("q3_k", Mixture(Q3_K, Medium), "q3_k_m"),
            ("F16", Plain(F16), "f16"),
            ("IQ4_NL", Plain(IQ4_NL), "iq4_nl"),
        ];
        for (text, expected, shown) in cases {
            let found: TypeChoice = text.parse().unwrap();
            assert_eq!((found, found.to_string().as_str()), (expected, shown), "{text}");
        }
        let error = "q7".parse::<TypeChoice>().unwrap_err().to_string();
        assert!(error.starts_with("type \"q7\": expected one of f32, f16, bf16, q8_0,"), "{error}");
    }

    /// The blocks of a mixture that get q6_k, worked out by hand from the rule's three clauses.
    #[test]
    fn a_mixture_gives_more_bits_to_some_blocks() {
        let blocks = |n_layer| (0..n_layer).filter(|il| more_bits(*il, n_layer)).collect::<Vec<_>>();
        assert_eq!(blocks(40), [0, 1, 2, 3, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 35, 36, 37, 38, 39]);
        assert_eq!(blocks(32), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!(blocks(3), [2]);
        assert_eq!(blocks(1), [0]);
    }

    #[test]
    fn rows_that_no_block_divides_fall_back() {
        let cases = [
            (Q4_K, 5120, Q4_K),
            (Q4_K, 3200, Q5_0),
            (Q5_K, 3200, Q5_1),
            (Q6_K, 3200, Q8_0),
            (Q3_K, 3200, Q4_0),
            (Q2_K, 3200, Q4_0),
            (IQ4_XS, 3200, IQ4_NL),
            (Q8_0, 3200, Q8_0),
            (Q4_K, 588, F16),
            (IQ4_NL, 588, F16),
            (Q4_0, 33, F16),
            (F32, 33, F32),
            (BF16, 1, BF16),
        ];
        for (wanted, n_per_row, expected) in cases {
            assert_eq!(fitting(wanted, n_per_row), expected, "{wanted} {n_per_row}");
        }
    }
}
