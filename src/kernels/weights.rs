//! Which block formats the kernels read, and what a row of weights means to them. Comes in: ggml's bytes of a
//! row. Goes out: for every 32 elements integer codes, scales and a minimum, the one meaning that all kernels
//! share. Formats: ggml's quantization blocks, little endian.

use ggml::DType;

use super::packed::BLOCK;

/// A type of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightType {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    F16,
    Bf16,
    F32,
}

/// Which inner loop multiplies a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Codes of at most 5 bits: eight products of bytes fit into 16 bits before they are widened.
    Low,
    /// Codes of 6 bits with an integer scale for every 16.
    Six,
    /// Codes of 8 bits.
    Eight,
    /// Floats.
    Float,
}

impl WeightType {
    pub const ALL: [WeightType; 12] = [
        WeightType::Q4_0,
        WeightType::Q4_1,
        WeightType::Q5_0,
        WeightType::Q5_1,
        WeightType::Q8_0,
        WeightType::Q4K,
        WeightType::Q5K,
        WeightType::Q6K,
        WeightType::Iq4Nl,
        WeightType::F16,
        WeightType::Bf16,
        WeightType::F32,
    ];

    /// The type of ggml's that these kernels read under this name.
    pub fn of(dtype: DType) -> Option<WeightType> {
        WeightType::ALL.into_iter().find(|kind| kind.dtype() == dtype)
    }

    pub const fn dtype(self) -> DType {
        match self {
            WeightType::Q4_0 => DType::Q4_0,
            WeightType::Q4_1 => DType::Q4_1,
            WeightType::Q5_0 => DType::Q5_0,
            WeightType::Q5_1 => DType::Q5_1,
            WeightType::Q8_0 => DType::Q8_0,
            WeightType::Q4K => DType::Q4_K,
            WeightType::Q5K => DType::Q5_K,
            WeightType::Q6K => DType::Q6_K,
            WeightType::Iq4Nl => DType::IQ4_NL,
            WeightType::F16 => DType::F16,
            WeightType::Bf16 => DType::BF16,
            WeightType::F32 => DType::F32,
        }
    }

    /// Elements and bytes of a block.
    pub const fn block(self) -> (usize, usize) {
        match self {
            WeightType::Q4_0 | WeightType::Iq4Nl => (32, 18),
            WeightType::Q4_1 => (32, 20),
            WeightType::Q5_0 => (32, 22),
            WeightType::Q5_1 => (32, 24),
            WeightType::Q8_0 => (32, 34),
            WeightType::Q4K => (256, 144),
            WeightType::Q5K => (256, 176),
            WeightType::Q6K => (256, 210),
            WeightType::F16 | WeightType::Bf16 => (1, 2),
            WeightType::F32 => (1, 4),
        }
    }

    pub const fn class(self) -> Class {
        match self {
            WeightType::Q4_0
            | WeightType::Q4_1
            | WeightType::Q5_0
            | WeightType::Q5_1
            | WeightType::Q4K
            | WeightType::Q5K => Class::Low,
            WeightType::Q6K => Class::Six,
            WeightType::Q8_0 | WeightType::Iq4Nl => Class::Eight,
            WeightType::F16 | WeightType::Bf16 | WeightType::F32 => Class::Float,
        }
    }

    /// Bytes of a row of `n_in` elements; none when they are not whole blocks.
    pub const fn row_bytes(self, n_in: usize) -> Option<usize> {
        let (elements, bytes) = self.block();
        if n_in.is_multiple_of(elements) { Some(n_in / elements * bytes) } else { None }
    }

    /// What is subtracted from stored codes of a low type.
    pub const fn offset(self) -> i16 {
        match self {
            WeightType::Q4_0 => 8,
            WeightType::Q5_0 | WeightType::Q5_1 | WeightType::Q5K => 16,
            _ => 0,
        }
    }

    /// Whether a low type has a minimum beside its scale.
    pub const fn has_minimum(self) -> bool {
        matches!(self, WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K)
    }
}

/// 32 weights: `weight[i] = scale * (codes[i] * whole[i / 16]) + minimum`.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub codes: [i32; BLOCK],
    /// Integer scales, 1 where a type has none.
    pub whole: [i32; 2],
    pub scale: f32,
    /// None for types without one.
    pub minimum: Option<f32>,
}

impl Block {
    /// Element `i`, as a float.
    fn value(&self, i: usize) -> f32 {
        let code = (self.codes[i] * self.whole[i / 16]) as f32;
        match self.minimum {
            Some(minimum) => code.mul_add(self.scale, minimum),
            None => code * self.scale,
        }
    }
}

/// Levels of iq4_nl, ggml's table.
pub const NONLINEAR: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Block `b` of a row of an integer type.
///
/// # Panics
/// For floats, or beyond the row.
fn block_plain(kind: WeightType, row: &[u8], b: usize) -> Block {
    let (elements, bytes) = kind.block();
    let at = &row[b * BLOCK / elements * bytes..][..bytes];
    let part = b * BLOCK % elements / BLOCK;
    let whole = [1; 2];
    let nibble = |i: usize, from: usize| i32::from((at[from + i % 16] >> (i / 16 * 4)) & 15);
    let fifth = |i: usize, from: usize| i32::from((at[from + i / 8] >> (i % 8)) & 1) << 4;
    match kind {
        WeightType::Q4_0 => {
            let codes = std::array::from_fn(|i| nibble(i, 2) - 8);
            Block { codes, whole, scale: f16(at, 0), minimum: None }
        }
        WeightType::Q4_1 => {
            let codes = std::array::from_fn(|i| nibble(i, 4));
            Block { codes, whole, scale: f16(at, 0), minimum: Some(f16(at, 2)) }
        }
        WeightType::Q5_0 => {
            let codes = std::array::from_fn(|i| nibble(i, 6) + fifth(i, 2) - 16);
            Block { codes, whole, scale: f16(at, 0), minimum: None }
        }
        WeightType::Q5_1 => {
            let codes = std::array::from_fn(|i| nibble(i, 8) + fifth(i, 4) - 16);
            let scale = f16(at, 0);
            Block { codes, whole, scale, minimum: Some(scale.mul_add(16.0, f16(at, 2))) }
        }
        WeightType::Q8_0 => {
            let codes = std::array::from_fn(|i| i32::from(at[2 + i] as i8));
            Block { codes, whole, scale: f16(at, 0), minimum: None }
        }
        WeightType::Iq4Nl => {
            let codes = std::array::from_fn(|i| i32::from(NONLINEAR[nibble(i, 2) as usize]));
            Block { codes, whole, scale: f16(at, 0), minimum: None }
        }
        WeightType::Q4K => {
            let (scale, minimum) = sub_scales(at, part);
            let codes = std::array::from_fn(|i| k_nibble(at[16 + part / 2 * 32 + i], part % 2));
            Block { codes, whole, scale, minimum: Some(minimum) }
        }
        WeightType::Q5K => {
            let (scale, minimum) = sub_scales(at, part);
            let high = |i: usize| i32::from((at[16 + i] >> part) & 1) << 4;
            let codes =
                std::array::from_fn(|i| k_nibble(at[48 + part / 2 * 32 + i], part % 2) + high(i) - 16);
            Block { codes, whole, scale, minimum: Some(scale.mul_add(16.0, minimum)) }
        }
        WeightType::Q6K => {
            let (half, quarter) = (part / 4, part % 4);
            let low = |i: usize| k_nibble(at[64 * half + quarter % 2 * 32 + i], quarter / 2);
            let high = |i: usize| i32::from((at[128 + 32 * half + i] >> (2 * quarter)) & 3) << 4;
            let codes = std::array::from_fn(|i| low(i) + high(i) - 32);
            let whole = std::array::from_fn(|i| i32::from(at[192 + 2 * part + i] as i8));
            Block { codes, whole, scale: f16(at, 208), minimum: None }
        }
        WeightType::F16 | WeightType::Bf16 | WeightType::F32 => panic!("{kind:?} has no codes"),
    }
}

fn k_nibble(byte: u8, upper: usize) -> i32 {
    i32::from((byte >> (4 * upper)) & 15)
}

/// Scale and minimum of sub-block `part` of q4_k and q5_k: six bits each, the last four of each split.
fn sub_scales(at: &[u8], part: usize) -> (f32, f32) {
    let s = &at[4..16];
    let (scale, minimum) = if part < 4 {
        (s[part] & 63, s[part + 4] & 63)
    } else {
        let low = s[part + 4];
        ((low & 15) | (s[part - 4] >> 6 << 4), (low >> 4) | (s[part] >> 6 << 4))
    };
    (f16(at, 0) * f32::from(scale), -(f16(at, 2) * f32::from(minimum)))
}

fn f16(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// All blocks of a row of an integer type.
///
/// # Panics
/// For floats.
pub fn blocks_plain(kind: WeightType, row: &[u8]) -> Vec<Block> {
    let (elements, bytes) = kind.block();
    (0..row.len() / bytes * (elements / BLOCK)).map(|b| block_plain(kind, row, b)).collect()
}

/// A row as floats.
pub fn values_plain(kind: WeightType, row: &[u8]) -> Vec<f32> {
    if kind.class() == Class::Float {
        let (_, bytes) = kind.block();
        return (0..row.len() / bytes).map(|i| float_plain(kind, row, i)).collect();
    }
    let values = |block: Block| -> [f32; BLOCK] { std::array::from_fn(|i| block.value(i)) };
    blocks_plain(kind, row).into_iter().flat_map(values).collect()
}

/// Element `i` of a row, as a float; all of them are [`values_plain`] in less time.
///
/// # Panics
/// Beyond the row.
pub fn value_plain(kind: WeightType, row: &[u8], i: usize) -> f32 {
    let (elements, bytes) = kind.block();
    match kind {
        WeightType::F16 | WeightType::Bf16 | WeightType::F32 => float_plain(kind, row, i),
        // A type of caches, of which many elements are asked for.
        WeightType::Q8_0 => {
            let block = &row[i / elements * bytes..][..bytes];
            f32::from(block[2 + i % elements] as i8) * f16(block, 0)
        }
        _ => block_plain(kind, row, i / BLOCK).value(i % BLOCK),
    }
}

/// The value of IEEE half precision bits.
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    let magnitude = match exponent {
        0 => (fraction as f32 * 2f32.powi(-24)).to_bits(),
        31 => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// Element `i` of a row of floats.
///
/// # Panics
/// For integer types, or beyond the row.
pub fn float_plain(kind: WeightType, row: &[u8], i: usize) -> f32 {
    match kind {
        WeightType::F16 => f16(row, 2 * i),
        WeightType::Bf16 => f32::from_bits(u32::from(u16::from_le_bytes([row[2 * i], row[2 * i + 1]])) << 16),
        WeightType::F32 => f32::from_le_bytes([row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3]]),
        _ => panic!("{kind:?} is no float"),
    }
}
