//! Every kernel against its plain loops, on whatever instructions this CPU has.

use ggml::{DType, quantize};

use super::ops::Against;
use super::packed::{Layout, pack_plain};
use super::self_check::{Numbers, plain_product, product, wild_rows};
use super::simd::Simd;
use super::weights::{Class, WeightType, f16_to_f32, value_plain, values_plain};
use super::{Arithmetic, Kernels};

#[test]
fn packing_equals_the_plain_loop() {
    let mut numbers = Numbers(1);
    let specials = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-31, 1e-38, 3e38, -3e38];
    for simd in Simd::available() {
        for n_in in [32, 64, 96, 512, 3200] {
            for round in 0..20 {
                let power = 10f32.powi(round - 10);
                let mut column: Vec<f32> = (0..n_in).map(|_| numbers.float() * power).collect();
                if round >= 10 {
                    let at = numbers.bits() as usize % n_in;
                    column[at] = specials[(round as usize - 10) % specials.len()];
                }
                let n = Layout::new(n_in).expect("whole blocks").column_bytes();
                let (mut expected, mut found) = (vec![1; n], vec![2; n]);
                pack_plain(&column, &mut expected);
                simd.pack(&column, &mut found);
                let found = without_payloads(&found, n_in);
                assert!(found == without_payloads(&expected, n_in), "{} {n_in} round {round}", simd.name());
            }
        }
    }
}

/// Which NaN a scale is says nothing.
fn without_payloads(packed: &[u8], n_in: usize) -> Vec<u8> {
    let mut packed = packed.to_vec();
    for at in packed[n_in..][..n_in / 4].chunks_exact_mut(4) {
        let value = f32::from_le_bytes([at[0], at[1], at[2], at[3]]);
        if value.is_nan() {
            at.copy_from_slice(&f32::NAN.to_le_bytes());
        }
    }
    packed
}

#[test]
fn products_equal_the_plain_loop() {
    for simd in Simd::available() {
        for kind in Against::of_all_types() {
            for (n_in, n_out) in [(256, 1), (512, 16), (768, 33), (1280, 70)] {
                check(simd, kind, n_in, n_out, &[1, 2, 3, 4, 5, 6, 7, 13]);
            }
            // More columns than are multiplied at once.
            check(simd, kind, 768, 35, &[17, 163]);
        }
        println!("{}: products of all types", simd.name());
        for kind in [WeightType::Q4_0, WeightType::Q5_1, WeightType::Q8_0, WeightType::F16, WeightType::F32] {
            check(simd, (kind, Against::F32), 96, 40, &[1, 3, 9]);
            if kind.class() != Class::Float {
                check(simd, (kind, Against::Packed), 96, 40, &[1, 3, 9]);
            }
        }
        // So many rows that tiles are larger.
        for kind in [WeightType::Q4_1, WeightType::Q6K, WeightType::Q8_0] {
            check(simd, (kind, Against::Packed), 256, 64 * 128 + 35, &[18]);
        }
        for n_in in [1, 7, 588] {
            check(simd, (WeightType::F16, Against::F32), n_in, 19, &[1, 10]);
            check(simd, (WeightType::F32, Against::F32), n_in, 32, &[1, 10]);
        }
    }
}

fn check(simd: Simd, way: (WeightType, Against), n_in: usize, n_out: usize, columns: &[usize]) {
    let kind = way.0;
    let mut numbers = Numbers((n_in * n_out) as u64);
    let rows = wild_rows(kind, n_in, n_out, &mut numbers);
    for &n in columns {
        // Large codes everywhere are what could overflow a short sum.
        let loud = n % 2 == 1;
        let value = |numbers: &mut Numbers| if loud { numbers.float().signum() } else { numbers.float() };
        let values: Vec<f32> = (0..n_in * n).map(|_| value(&mut numbers)).collect();
        let expected = plain_product(way, n_in, &rows, &values);
        for n_threads in [1, 3] {
            let found = product(simd, way, n_in, &rows, &values, n_threads);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    found.to_bits() == expected.to_bits(),
                    "{} {way:?} [{n_in}, {n_out}] times {n} columns: row {} of column {}: expected {expected}, found {found}",
                    simd.name(),
                    i % n_out,
                    i / n_out
                );
            }
        }
    }
}

/// What a block means is what ggml says it means.
#[test]
fn weights_are_those_of_ggml() {
    let n_in = 1024;
    let mut numbers = Numbers(7);
    for kind in WeightType::ALL {
        let row = wild_rows(kind, n_in, 1, &mut numbers);
        let mut expected = vec![0.0; n_in];
        quantize::dequantize(kind.dtype(), &row, &mut expected).expect("a readable type");
        let found = values_plain(kind, &row);
        assert_eq!(found.len(), n_in);
        for (i, (&expected, found)) in expected.iter().zip(found).enumerate() {
            assert_eq!(value_plain(kind, &row, i).to_bits(), found.to_bits(), "{kind:?} {i}");
            // A fifth bit moves part of the minimum, which rounds once more.
            let size = expected.abs().max(1.0) * 32.0;
            assert!(
                (found - expected).abs() <= size * f32::EPSILON,
                "{kind:?} {i}: expected {expected}, found {found}"
            );
        }
    }
    for bits in 0..=u16::MAX {
        let mut expected = [0.0];
        quantize::dequantize(ggml::DType::F16, &bits.to_le_bytes(), &mut expected).expect("half floats");
        let found = f16_to_f32(bits);
        assert!(
            found.to_bits() == expected[0].to_bits() || found.is_nan() && expected[0].is_nan(),
            "{bits:#x}"
        );
    }
}

#[test]
fn exactness_is_promised_where_it_is_kept() {
    let ours = Kernels::of_this_machine(Arithmetic::Exact);
    let has_ours = ours.product(DType::Q8_0, 32).is_some();
    let cases = [
        (ours, DType::Q8_0, has_ours),
        (ours, DType::Q4_K, has_ours),
        (ours, DType::F16, true),
        // No kernel of ours knows it.
        (ours, DType::Q2_K, false),
        (Kernels::of_this_machine(Arithmetic::Packed), DType::Q8_0, false),
        (Kernels::none(), DType::Q8_0, false),
        (Kernels::none(), DType::F32, true),
    ];
    for (kernels, dtype, expected) in cases {
        assert_eq!(kernels.is_exact(dtype), expected, "{kernels}: {dtype}");
    }
}

#[test]
fn kernels_are_found_by_name() {
    for name in Kernels::names() {
        let found = Kernels::named(name, Arithmetic::Packed).map(|kernels| kernels.to_string());
        let expected = if name == "ggml" { name.to_string() } else { format!("owlet {name}") };
        assert_eq!(found.unwrap(), expected);
    }
    let error = Kernels::named("abacus", Arithmetic::Packed).unwrap_err().to_string();
    assert!(
        error.starts_with("kernels: expected one of ggml") && error.ends_with(", found abacus"),
        "{error}"
    );
}
