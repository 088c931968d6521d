//! How far a tensor may be from what it was made of: the relative error that a sound conversion stays below, by type.
//!
//! The error of a tensor is the root of the mean square difference over the root of the mean square of the source. A
//! type's own error on weights is known (half a step over a block's spread); a bound is about twice that of normally
//! distributed numbers, below what the next smaller type or a mix-up of rows, scales or tensors makes.

use ggml::DType;

/// The largest relative error of a sound tensor of `dtype`; `None` where no conversion writes that type.
pub fn bound(dtype: DType) -> Option<f64> {
    Some(match dtype {
        // a source of f64 is rounded
        DType::F32 => 1e-6,
        DType::F16 => 1e-3,
        DType::BF16 => 4e-3,
        DType::Q8_0 => 0.012,
        DType::Q6_K => 0.035,
        DType::Q5_K => 0.06,
        DType::Q5_0 | DType::Q5_1 => 0.075,
        DType::Q4_K => 0.12,
        DType::IQ4_NL | DType::IQ4_XS => 0.14,
        DType::Q4_0 | DType::Q4_1 => 0.18,
        DType::Q3_K => 0.28,
        DType::Q2_K => 0.50,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ggml::quantize::{dequantize, is_target, quantize_rows};

    const N_PER_ROW: usize = 1024;
    const N: usize = 64 * N_PER_ROW;

    /// Numbers in (0, 1), the same every time.
    fn uniform(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        }
    }

    /// Weights as they come: normal, with longer tails, and evenly spread.
    fn distributions() -> [(&'static str, Vec<f32>); 3] {
        let mut u = uniform(7);
        let normal = (0..N).map(|_| (-2.0 * u().ln()).sqrt() * (std::f64::consts::TAU * u()).cos());
        let normal = normal.map(|x| (x * 0.02) as f32).collect();
        let mut u = uniform(11);
        let laplace = (0..N).map(|_| (u() / u()).ln()).map(|x| (x * 0.02) as f32).collect();
        let mut u = uniform(13);
        let even = (0..N).map(|_| (u() - 0.5) as f32).collect();
        [("normal", normal), ("longer tails", laplace), ("even", even)]
    }

    fn error(values: &[f32], dtype: DType) -> f64 {
        let mut blocks = vec![0; dtype.row_bytes(N_PER_ROW as u64).unwrap() as usize * (N / N_PER_ROW)];
        quantize_rows(dtype, values, N_PER_ROW, None, &mut blocks).unwrap();
        let mut back = vec![0.0; values.len()];
        dequantize(dtype, &blocks, &mut back).unwrap();
        relative(values, &back)
    }

    fn relative(values: &[f32], back: &[f32]) -> f64 {
        let square = |x: f64| x * x;
        let wrong: f64 = values.iter().zip(back).map(|(a, b)| square(f64::from(a - b))).sum();
        let right: f64 = values.iter().map(|a| square(f64::from(*a))).sum();
        (wrong / right).sqrt()
    }

    #[test]
    fn sound_tensors_stay_below_and_worse_ones_do_not() {
        use DType::*;
        let worse = [
            (BF16, Q8_0),
            (Q8_0, Q6_K),
            (Q6_K, Q5_0),
            (Q5_K, Q4_K),
            (Q5_0, Q4_0),
            (Q4_K, Q3_K),
            (Q4_0, Q2_K),
            (Q3_K, Q2_K),
        ];
        for (name, values) in distributions() {
            for dtype in DType::all().filter(|dtype| is_target(*dtype)) {
                let (found, bound) = (error(&values, dtype), bound(dtype).unwrap());
                println!("{name}: {dtype} {found:.5} of {bound}");
                assert!(found <= 0.8 * bound, "{name}: {dtype} {found} of {bound}");
            }
            for (dtype, worse) in worse.iter().filter(|_| name == "normal") {
                let (found, bound) = (error(&values, *worse), bound(*dtype).unwrap());
                assert!(found > bound, "{name}: {worse} passes as {dtype}: {found} of {bound}");
            }
            // two rows that changed places
            let mut swapped = values.clone();
            let (a, b) = swapped.split_at_mut(N / 2);
            a[..N_PER_ROW].swap_with_slice(&mut b[..N_PER_ROW]);
            let found = relative(&values, &swapped);
            assert!(found > bound(Q4_K).unwrap(), "{name}: swapped rows make {found}");
        }
    }
}
