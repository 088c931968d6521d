//! What a cache is counted in: types of values, halves, rows, steps of cells, and the bytes of them. Knows no memory.

use std::str::FromStr;

use ggml::DType;
use owlet_format::TextConfig;

use crate::{Error, Result};

/// ggml's attention reads whole steps of cells, so that one graph serves as many tokens. A multiple of every SIMD
/// unroll in ggml's dots, or the order of a sum would change with the number of cells.
pub(super) const CELL_STEP: u64 = 256;

/// The type of cached keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    #[default]
    F16,
    F32,
    Q8_0,
}

impl KvType {
    pub const ALL: [KvType; 3] = [KvType::F16, KvType::F32, KvType::Q8_0];

    pub fn dtype(self) -> DType {
        match self {
            KvType::F16 => DType::F16,
            KvType::F32 => DType::F32,
            KvType::Q8_0 => DType::Q8_0,
        }
    }
}

impl FromStr for KvType {
    type Err = Error;

    fn from_str(word: &str) -> Result<KvType> {
        let known = KvType::ALL.into_iter().find(|t| t.dtype().name().eq_ignore_ascii_case(word));
        known.ok_or_else(|| Error::request(format_args!("kv type: expected f16, f32 or q8_0, found {word}")))
    }
}

/// Which of the two things that are remembered of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvHalf {
    Keys,
    Values,
}

/// Rows of one layer: of `n` positions from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvRows {
    pub layer: u32,
    pub half: KvHalf,
    pub first: u32,
    pub n: u32,
}

/// Bytes of a row: the keys, or the values, of one position in one layer.
pub fn kv_row_bytes(config: &TextConfig, kv_type: KvType) -> u64 {
    kv_type.dtype().row_bytes(u64::from(config.n_embd_kv())).unwrap_or(0)
}

/// Bytes that a cache of `n_seq` sequences of `n_ctx` positions takes.
pub fn kv_bytes(config: &TextConfig, n_ctx: u32, n_seq: u32, kv_type: KvType) -> u64 {
    2 * u64::from(config.n_layer) * kv_row_bytes(config, kv_type) * n_cells(n_ctx) * u64::from(n_seq)
}

/// Cells of a slot.
pub(super) fn n_cells(n_ctx: u32) -> u64 {
    u64::from(n_ctx).next_multiple_of(CELL_STEP)
}
