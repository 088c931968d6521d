//! The element types of ggml, one table row each: what a file's type id means and how many bytes a row takes.
//!
//! Pure data, no ggml call; a test compares every row with ggml's own table.

use std::fmt;
use std::str::FromStr;

use crate::Error;

macro_rules! dtypes {
    ($($variant:ident $id:literal $name:literal $block_len:literal $block_bytes:literal;)*) => {
        /// How the elements of a tensor are stored. Rows are whole blocks: `block_len` elements in
        /// `block_bytes` bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types)]
        pub enum DType { $($variant = $id,)* }

        const TABLE: &[Row] = &[$(Row {
            dtype: DType::$variant, name: $name, block_len: $block_len, block_bytes: $block_bytes,
        },)*];

        impl DType {
            const fn row(self) -> &'static Row {
                const fn at(dtype: DType) -> usize {
                    let mut i = 0;
                    while TABLE[i].dtype as u32 != dtype as u32 {
                        i += 1;
                    }
                    i
                }
                match self { $(DType::$variant => const { &TABLE[at(DType::$variant)] },)* }
            }
        }
    };
}

struct Row {
    dtype: DType,
    name: &'static str,
    block_len: u64,
    block_bytes: u64,
}

//  variant   id   name       block_len block_bytes
dtypes! {
    F32        0   "f32"        1         4;
    F16        1   "f16"        1         2;
    Q4_0       2   "q4_0"      32        18;
    Q4_1       3   "q4_1"      32        20;
    Q5_0       6   "q5_0"      32        22;
    Q5_1       7   "q5_1"      32        24;
    Q8_0       8   "q8_0"      32        34;
    Q8_1       9   "q8_1"      32        36;
    Q2_K      10   "q2_k"     256        84;
    Q3_K      11   "q3_k"     256       110;
    Q4_K      12   "q4_k"     256       144;
    Q5_K      13   "q5_k"     256       176;
    Q6_K      14   "q6_k"     256       210;
    Q8_K      15   "q8_k"     256       292;
    IQ2_XXS   16   "iq2_xxs"  256        66;
    IQ2_XS    17   "iq2_xs"   256        74;
    IQ3_XXS   18   "iq3_xxs"  256        98;
    IQ1_S     19   "iq1_s"    256        50;
    IQ4_NL    20   "iq4_nl"    32        18;
    IQ3_S     21   "iq3_s"    256       110;
    IQ2_S     22   "iq2_s"    256        82;
    IQ4_XS    23   "iq4_xs"   256       136;
    I8        24   "i8"         1         1;
    I16       25   "i16"        1         2;
    I32       26   "i32"        1         4;
    I64       27   "i64"        1         8;
    F64       28   "f64"        1         8;
    IQ1_M     29   "iq1_m"    256        56;
    BF16      30   "bf16"       1         2;
    TQ1_0     34   "tq1_0"    256        54;
    TQ2_0     35   "tq2_0"    256        66;
    MXFP4     39   "mxfp4"     32        17;
    NVFP4     40   "nvfp4"     64        36;
    Q1_0      41   "q1_0"     128        18;
    Q2_0      42   "q2_0"      64        18;
}

impl DType {
    /// Every type, in the order of ids.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.dtype)
    }

    /// The type with the id that GGUF files store, if ggml still reads it.
    pub fn from_id(id: u32) -> Option<DType> {
        TABLE.iter().find(|row| row.dtype as u32 == id).map(|row| row.dtype)
    }

    /// The id that GGUF files store.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// ggml's name in lower case, for example `q4_k`.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Elements in one block; a row has whole blocks.
    pub const fn block_len(self) -> u64 {
        self.row().block_len
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> u64 {
        self.row().block_bytes
    }

    /// Bytes of a row of `n` elements; `None` when `n` is no whole number of blocks or the bytes overflow.
    pub const fn row_bytes(self, n: u64) -> Option<u64> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Bytes of a contiguous tensor; `None` as for [`DType::row_bytes`].
    pub fn tensor_bytes(self, ne: [u64; 4]) -> Option<u64> {
        ne[1..].iter().try_fold(self.row_bytes(ne[0])?, |bytes, &n| bytes.checked_mul(n))
    }

    /// Whether blocks of several elements share scales.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Whether an element is a floating-point number of its own.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16 | DType::F64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    /// Case does not matter.
    fn from_str(text: &str) -> Result<DType, Error> {
        let row = TABLE.iter().find(|row| row.name.eq_ignore_ascii_case(text));
        row.map(|row| row.dtype).ok_or_else(|| Error::Unsupported(format!("no ggml type is called {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::sys;

    #[test]
    fn table_equals_ggml() {
        for id in 0..sys::GGML_TYPE_COUNT {
            // SAFETY: the id is below GGML_TYPE_COUNT; ggml's names are static strings.
            let (name, block_len, block_bytes, quantized) = unsafe {
                let name = sys::ggml_type_name(id as i32);
                let name = if name.is_null() { "" } else { CStr::from_ptr(name).to_str().unwrap() };
                let traits = (sys::ggml_blck_size(id as i32), sys::ggml_type_size(id as i32));
                (name, traits.0 as u64, traits.1 as u64, sys::ggml_is_quantized(id as i32))
            };
            let theirs = (block_bytes > 0).then(|| (name.to_lowercase(), block_len, block_bytes, quantized));
            let ours = DType::from_id(id)
                .map(|t| (t.name().to_owned(), t.block_len(), t.block_bytes(), t.is_quantized()));
            assert_eq!(ours, theirs, "type id {id}");
        }
        assert_eq!(DType::from_id(sys::GGML_TYPE_COUNT), None);
    }

    #[test]
    fn names_are_read_in_any_case() {
        for dtype in DType::all() {
            assert_eq!(dtype.name().parse::<DType>().unwrap(), dtype);
            assert_eq!(dtype.name().to_uppercase().parse::<DType>().unwrap(), dtype);
        }
        let error = "q9_z".parse::<DType>().unwrap_err();
        assert_eq!(error.to_string(), "no ggml type is called \"q9_z\"");
    }

    #[test]
    fn rows_are_whole_blocks_and_never_overflow() {
        let cases = [
            (DType::F32, 0, Some(0)),
            (DType::F32, 3, Some(12)),
            (DType::Q8_0, 32, Some(34)),
            (DType::Q8_0, 33, None),
            (DType::Q4_K, 3200, None),
            (DType::Q4_K, 5120, Some(2880)),
            (DType::F32, u64::MAX, None),
        ];
        for (dtype, n, bytes) in cases {
            assert_eq!(dtype.row_bytes(n), bytes, "{dtype} {n}");
        }
        assert_eq!(DType::F16.tensor_bytes([2, 3, 4, 5]), Some(240));
        assert_eq!(DType::F16.tensor_bytes([1 << 40, 1 << 40, 1, 1]), None);
    }
}
