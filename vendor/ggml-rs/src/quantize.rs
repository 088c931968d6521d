//! Rows of f32 to stored blocks and back.
//!
//! In and out are plain slices; every length and every value is checked here because ggml ends the process
//! on some of them. Calls may run at once on several threads.

use crate::{DType, Error, Result, sys};

/// Whether [`quantize_rows`] writes this type. Types that ggml quantizes by a grid search are left out: they
/// live in global tables and their search ends the process on rows it cannot fit.
pub fn is_target(dtype: DType) -> bool {
    use DType::*;
    matches!(
        dtype,
        F32 | F16
            | BF16
            | Q4_0
            | Q4_1
            | Q5_0
            | Q5_1
            | Q8_0
            | Q2_K
            | Q3_K
            | Q4_K
            | Q5_K
            | Q6_K
            | IQ4_NL
            | IQ4_XS
    )
}

/// Stores whole rows of `n_per_row` values as `dtype` in `dst`. `imatrix`, one weight for each place in a
/// row, says where errors matter most.
///
/// # Errors
/// [`Error::Unsupported`] for a type that is no target; [`Error::Request`] when the rows are no whole blocks,
/// `dst` has another size, or a value is not finite or beyond the range of the type (f16 scales end at 65504).
pub fn quantize_rows(
    dtype: DType,
    src: &[f32],
    n_per_row: usize,
    imatrix: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<()> {
    if !is_target(dtype) {
        return Err(Error::Unsupported(format!("{dtype}: expected a type that can be written")));
    }
    if n_per_row == 0 || !src.len().is_multiple_of(n_per_row) {
        return Err(Error::Request(format!(
            "{dtype}: expected whole rows of {n_per_row} values, found {} values",
            src.len()
        )));
    }
    let n_rows = src.len() / n_per_row;
    let expected = row_bytes(dtype, n_per_row)?.saturating_mul(n_rows as u64);
    if dst.len() as u64 != expected {
        return Err(Error::Request(format!(
            "{dtype}: expected {expected} bytes for {n_rows} rows of {n_per_row} values, found {}",
            dst.len()
        )));
    }
    check_values(dtype, src)?;
    if let Some(weights) = imatrix {
        check_imatrix(weights, n_per_row)?;
    }
    if src.is_empty() {
        return Ok(());
    }
    let imatrix = imatrix.map_or(std::ptr::null(), |weights| weights.as_ptr());
    with_aligned_mut(dst, |dst| {
        // SAFETY: src has n_rows * n_per_row values, dst exactly the bytes of that many rows of whole blocks,
        // aligned for every block type, and imatrix is null or has n_per_row values. The targets need no
        // table and no imatrix.
        let written = unsafe {
            sys::ggml_quantize_chunk(
                dtype.id() as i32,
                src.as_ptr(),
                dst.as_mut_ptr().cast(),
                0,
                n_rows as i64,
                n_per_row as i64,
                imatrix,
            )
        };
        debug_assert_eq!(written, dst.len());
    });
    Ok(())
}

/// Reads blocks of `dtype` as f32. `src` and `dst` describe the same number of elements.
///
/// # Errors
/// [`Error::Unsupported`] for a type without a meaning as f32 (the integers, f64 and the two types that
/// only activations have); [`Error::Request`] when the sizes differ.
pub fn dequantize(dtype: DType, src: &[u8], dst: &mut [f32]) -> Result<()> {
    let expected = row_bytes(dtype, dst.len())?;
    if src.len() as u64 != expected {
        return Err(Error::Request(format!(
            "{dtype}: expected {expected} bytes for {} values, found {}",
            dst.len(),
            src.len()
        )));
    }
    if dtype == DType::F32 {
        for (value, bytes) in dst.iter_mut().zip(src.chunks_exact(4)) {
            *value = f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        return Ok(());
    }
    // SAFETY: the id is one of ggml's types; the traits are a static table.
    let to_float = unsafe { (*sys::ggml_get_type_traits(dtype.id() as i32)).to_float };
    let Some(to_float) = to_float else {
        return Err(Error::Unsupported(format!("{dtype}: expected a type that can be read as f32")));
    };
    with_aligned(src, |src| {
        // SAFETY: src has exactly the blocks of dst.len() elements, aligned for every block type.
        unsafe { to_float(src.as_ptr().cast(), dst.as_mut_ptr(), dst.len() as i64) }
    });
    Ok(())
}

fn row_bytes(dtype: DType, n_per_row: usize) -> Result<u64> {
    dtype.row_bytes(n_per_row as u64).ok_or_else(|| {
        Error::Request(format!(
            "{dtype}: expected rows of whole blocks of {}, found {n_per_row}",
            dtype.block_len()
        ))
    })
}

/// ggml's block structs hold 16 and 32 bit words. Bytes that lie elsewhere are copied.
fn with_aligned(src: &[u8], read: impl FnOnce(&[u8])) {
    if src.as_ptr().addr().is_multiple_of(4) {
        return read(src);
    }
    let mut words = vec![0u32; src.len().div_ceil(4)];
    let bytes = bytes_of(&mut words, src.len());
    bytes.copy_from_slice(src);
    read(bytes)
}

/// As [`with_aligned`], for bytes that are written.
fn with_aligned_mut(dst: &mut [u8], write: impl FnOnce(&mut [u8])) {
    if dst.as_ptr().addr().is_multiple_of(4) {
        return write(dst);
    }
    let mut words = vec![0u32; dst.len().div_ceil(4)];
    let bytes = bytes_of(&mut words, dst.len());
    write(bytes);
    dst.copy_from_slice(bytes);
}

fn bytes_of(words: &mut [u32], n: usize) -> &mut [u8] {
    assert!(n <= size_of_val(words));
    // SAFETY: the words span at least n bytes, and every byte pattern is a valid u8 and u32.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), n) }
}

fn check_values(dtype: DType, src: &[f32]) -> Result<()> {
    const F16_MAX: f32 = 65504.0;
    let max = if matches!(dtype, DType::F32 | DType::BF16) { f32::MAX } else { F16_MAX };
    // NaN is not within, either. The first pass has no index: it runs over every weight of a model.
    let within = |value: &f32| value.abs() <= max;
    if src.iter().all(within) {
        return Ok(());
    }
    let i = src.iter().position(|value| !within(value)).unwrap_or(0);
    let value = src[i];
    Err(Error::Request(format!(
        "{dtype}: expected finite values up to {max:?}, found {value} at element {i}"
    )))
}

fn check_imatrix(weights: &[f32], n_per_row: usize) -> Result<()> {
    if weights.len() != n_per_row {
        let found = weights.len();
        return Err(Error::Request(format!("importance matrix: expected {n_per_row} values, found {found}")));
    }
    match weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
        Some(weight) => {
            Err(Error::Request(format!("importance matrix: expected finite values >= 0, found {weight}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth mix of sizes, as weights are.
    fn weights(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.37).sin() * (1.0 + (i / 7 % 5) as f32) * 0.01).collect()
    }

    /// Largest error of a value over the largest value of its block, per format.
    const TOLERANCE: &[(DType, f32)] = &[
        (DType::F32, 0.0),
        (DType::F16, 5e-4),
        (DType::BF16, 4e-3),
        (DType::Q8_0, 5e-3),
        (DType::Q6_K, 4e-2),
        (DType::Q5_0, 7e-2),
        (DType::Q5_1, 7e-2),
        (DType::Q5_K, 7e-2),
        (DType::Q4_0, 0.13),
        (DType::Q4_1, 0.13),
        (DType::Q4_K, 0.13),
        (DType::IQ4_NL, 0.15),
        (DType::IQ4_XS, 0.15),
        (DType::Q3_K, 0.3),
        (DType::Q2_K, 0.5),
    ];

    #[test]
    fn values_come_back_within_the_tolerance_of_the_format() {
        assert_eq!(TOLERANCE.len(), DType::all().filter(|&dtype| is_target(dtype)).count());
        for &(dtype, tolerance) in TOLERANCE {
            let n_per_row = dtype.block_len() as usize * 3;
            let values = weights(n_per_row * 2);
            let mut bytes = vec![0; dtype.row_bytes(n_per_row as u64).unwrap() as usize * 2];
            for imatrix in [None, Some(vec![1.0; n_per_row])] {
                quantize_rows(dtype, &values, n_per_row, imatrix.as_deref(), &mut bytes).unwrap();
                let mut back = vec![0.0; values.len()];
                dequantize(dtype, &bytes, &mut back).unwrap();
                let block = dtype.block_len() as usize;
                for (i, (a, b)) in values.iter().zip(&back).enumerate() {
                    let max = values[i / block * block..][..block].iter().fold(0f32, |m, v| m.max(v.abs()));
                    assert!((a - b).abs() <= tolerance * max, "{dtype} element {i}: {a} came back as {b}");
                }
                // Bytes at any address are written and read alike.
                let mut shifted = vec![0; bytes.len() + 1];
                let mut again = vec![0.0; values.len()];
                quantize_rows(dtype, &values, n_per_row, imatrix.as_deref(), &mut shifted[1..]).unwrap();
                assert!(shifted[1..] == bytes, "{dtype}");
                dequantize(dtype, &shifted[1..], &mut again).unwrap();
                assert_eq!(back, again, "{dtype}");
            }
        }
    }

    /// FNV-1a of the bytes of 16 rows: the same on every machine and for every `OWLET_CPU`.
    const FILES: &[(DType, u64)] = &[
        (DType::F16, 0xddcd_98c5_6c44_aa21),
        (DType::BF16, 0x9141_7b6a_50d9_15f3),
        (DType::Q8_0, 0x357e_6f97_462e_fc36),
        (DType::Q6_K, 0x9d8a_ec2a_bd28_5721),
        (DType::Q5_K, 0x4cbc_1963_a939_55ec),
        (DType::Q5_0, 0x11b1_5d12_93b9_bb77),
        (DType::Q5_1, 0xbe79_078c_5e1a_78cf),
        (DType::Q4_K, 0x895f_0251_1253_eae1),
        (DType::Q4_0, 0x4845_7062_635d_f166),
        (DType::Q4_1, 0x50f4_1477_1b30_9a94),
    ];

    #[test]
    fn the_bytes_do_not_depend_on_the_machine() {
        let found: Vec<_> = FILES
            .iter()
            .map(|&(dtype, _)| {
                let mut bytes = vec![0; dtype.row_bytes(256 * 16).unwrap() as usize];
                quantize_rows(dtype, &crate::ops::tests::noise(5, 256 * 16), 256, None, &mut bytes).unwrap();
                let hash = bytes
                    .iter()
                    .fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
                (dtype, hash)
            })
            .collect();
        assert_eq!(found, FILES);
    }

    #[test]
    fn threads_may_quantize_rows_of_one_tensor() {
        let values = weights(256 * 64);
        for &(dtype, _) in TOLERANCE {
            let row = dtype.row_bytes(256).unwrap() as usize;
            let mut whole = vec![0; row * 64];
            quantize_rows(dtype, &values, 256, None, &mut whole).unwrap();
            let mut parts = vec![0; row * 64];
            std::thread::scope(|scope| {
                for (part, values) in parts.chunks_mut(row * 16).zip(values.chunks(256 * 16)) {
                    scope.spawn(move || quantize_rows(dtype, values, 256, None, part).unwrap());
                }
            });
            assert!(whole == parts, "{dtype}");
        }
    }

    #[test]
    fn what_cannot_be_stored_is_an_error() {
        let mut dst = vec![0; 34];
        let mut values = vec![0.0; 32];
        let mut q8_0 = |values: &[f32], n_per_row, imatrix: Option<&[f32]>| {
            quantize_rows(DType::Q8_0, values, n_per_row, imatrix, &mut dst).unwrap_err().to_string()
        };
        for (value, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (70000.0, "70000")] {
            values[7] = value;
            let expected = format!("q8_0: expected finite values up to 65504.0, found {text} at element 7");
            assert_eq!(q8_0(&values, 32, None), expected);
        }
        values[7] = 0.0;
        assert_eq!(q8_0(&values, 31, None), "q8_0: expected whole rows of 31 values, found 32 values");
        assert_eq!(q8_0(&values, 16, None), "q8_0: expected rows of whole blocks of 32, found 16");
        assert_eq!(q8_0(&values, 0, None), "q8_0: expected whole rows of 0 values, found 32 values");
        assert_eq!(q8_0(&values[..0], 32, None), "q8_0: expected 0 bytes for 0 rows of 32 values, found 34");
        assert_eq!(q8_0(&values, 32, Some(&[1.0])), "importance matrix: expected 32 values, found 1");
        let text = q8_0(&values, 32, Some(&[-1.0; 32]));
        assert_eq!(text, "importance matrix: expected finite values >= 0, found -1");
        for dtype in DType::all().filter(|&dtype| !is_target(dtype)) {
            let error = quantize_rows(dtype, &[], 256, None, &mut []).unwrap_err().to_string();
            assert_eq!(error, format!("{dtype}: expected a type that can be written"));
        }
        quantize_rows(DType::BF16, &[1e38], 1, None, &mut [0; 2]).unwrap();
        quantize_rows(DType::Q8_0, &[], 32, None, &mut []).unwrap();
    }

    #[test]
    fn every_readable_type_reads_any_bytes() {
        for dtype in DType::all() {
            let n = dtype.block_len() as usize * 2;
            let n_bytes = dtype.row_bytes(n as u64).unwrap() as usize;
            for byte in [0x00, 0x5a, 0xff] {
                let result = dequantize(dtype, &vec![byte; n_bytes], &mut vec![0.0; n]);
                use DType::*;
                let readable = !matches!(dtype, I8 | I16 | I32 | I64 | F64 | Q8_1 | Q8_K);
                assert_eq!(result.is_ok(), readable, "{dtype}");
            }
            if dtype != DType::F32 {
                let wrong = dequantize(dtype, &vec![0; n_bytes + 1], &mut vec![0.0; n]);
                assert!(wrong.is_err(), "{dtype}");
            }
        }
    }
}
