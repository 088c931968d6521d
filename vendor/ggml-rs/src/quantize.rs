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
    let expected = row_bytes(dtype, n_per_row)?.checked_mul(n_rows as u64);
    if expected != Some(dst.len() as u64) {
        return Err(Error::Request(format!(
            "{dtype}: expected {expected:?} bytes for {n_rows} rows of {n_per_row} values, found {}",
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
    // SAFETY: src has n_rows * n_per_row values, dst exactly the bytes of that many rows of whole blocks, and
    // imatrix is null or has n_per_row values. The targets need no table and no imatrix.
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
    // SAFETY: the words span at least src.len() bytes, and every byte pattern is a valid u8.
    let bytes = unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), src.len()) };
    bytes.copy_from_slice(src);
    read(bytes)
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
