//! Element types as checkpoints store them, little-endian.

use std::fmt;

/// One row a type: safetensors' name, torch's storage class, bytes an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    U16,
    U32,
    U64,
    F8E4M3,
    F8E5M2,
}

use SourceType::*;

const TABLE: [(SourceType, &str, &str, u64); 15] = [
    (F64, "F64", "DoubleStorage", 8),
    (F32, "F32", "FloatStorage", 4),
    (F16, "F16", "HalfStorage", 2),
    (BF16, "BF16", "BFloat16Storage", 2),
    (I64, "I64", "LongStorage", 8),
    (I32, "I32", "IntStorage", 4),
    (I16, "I16", "ShortStorage", 2),
    (I8, "I8", "CharStorage", 1),
    (U8, "U8", "ByteStorage", 1),
    (Bool, "BOOL", "BoolStorage", 1),
    (U16, "U16", "", 2),
    (U32, "U32", "", 4),
    (U64, "U64", "", 8),
    (F8E4M3, "F8_E4M3", "", 1),
    (F8E5M2, "F8_E5M2", "", 1),
];

impl SourceType {
    pub fn from_safetensors(name: &str) -> Option<SourceType> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The type of a storage class in torch's module `torch`, such as `BFloat16Storage`.
    pub fn from_torch_storage(class: &str) -> Option<SourceType> {
        TABLE.iter().find(|row| !row.2.is_empty() && row.2 == class).map(|row| row.0)
    }

    fn row(self) -> (&'static str, u64) {
        // the table has a row for every variant, in the order of the variants
        let row = &TABLE[self as usize];
        (row.1, row.3)
    }

    pub fn n_bytes(self) -> u64 {
        self.row().1
    }

    /// Whether weights of this type can be converted.
    pub fn is_float(self) -> bool {
        matches!(self, F64 | F32 | F16 | BF16)
    }
}

impl fmt::Display for SourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().0.to_ascii_lowercase())
    }
}

/// Widens `src`, elements of `dtype`, to f32. F16 and BF16 widen exactly; F64 rounds to nearest even.
///
/// # Panics
/// When `dtype` is no float, or the lengths disagree: the plan has checked both.
pub fn widen(dtype: SourceType, src: &[u8], dst: &mut [f32]) {
    assert_eq!(src.len() as u64, dst.len() as u64 * dtype.n_bytes(), "widen: {dtype}");
    match dtype {
        F32 => each(src, dst, f32::from_le_bytes),
        F16 => each(src, dst, |b: [u8; 2]| f16_to_f32(u16::from_le_bytes(b))),
        BF16 => each(src, dst, |b: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        F64 => each(src, dst, |b: [u8; 8]| f64::from_le_bytes(b) as f32),
        other => panic!("widen: {other} is no float type"),
    }
}

fn each<const N: usize>(src: &[u8], dst: &mut [f32], widen: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in src.as_chunks::<N>().0.iter().zip(dst) {
        *out = widen(*bytes);
    }
}

fn f16_to_f32(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let (exp, frac) = (u32::from(h >> 10) & 0x1f, u32::from(h & 0x3ff));
    match exp {
        // subnormal: frac * 2^-24, exact in f32
        0 => f32::from_bits(sign | (frac as f32 * f32::from_bits(0x3380_0000)).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | frac << 13),
        _ => f32::from_bits(sign | (exp + 112) << 23 | frac << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_variants() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{}", row.1);
            assert_eq!(SourceType::from_safetensors(row.1), Some(row.0));
        }
        assert_eq!(SourceType::from_torch_storage("BFloat16Storage"), Some(BF16));
        assert_eq!(SourceType::from_torch_storage(""), None);
    }

    #[test]
    fn halves_widen_exactly() {
        let cases: [(u16, f32); 9] = [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, expected) in cases {
            let mut out = [0.0];
            widen(F16, &bits.to_le_bytes(), &mut out);
            assert_eq!(out[0].to_bits(), expected.to_bits(), "{bits:#06x}");
        }
        let mut out = [0.0; 2];
        widen(BF16, &[0x80, 0x3f, 0x49, 0xc0], &mut out);
        assert_eq!(out, [1.0, -3.140_625]);
        let mut out = [0.0];
        widen(F16, &[0x01, 0x7e], &mut out);
        assert!(out[0].is_nan());
    }
}
