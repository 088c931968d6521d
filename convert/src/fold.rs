//! Norms whose scales have outliers. A channel that a norm makes a hundred times larger than its neighbours ruins them
//! when activations are rounded in blocks of 32, and the column of weights that reads it is as much smaller and is lost
//! when rows are. So the outlier's power of two moves from the norm into that column, which changes no bit of an f32
//! result, and what is rounded lies in one range again (gamma migration: Wei et al., Outlier Suppression, 2022).
//!
//! In: the planned tensors and the norms' weights, the only ones that a plan reads. Out: a factor by channel for every
//! row of the norm and of its readers. Not known here: families.

use owlet_format::Role;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::dtype::widen;
use crate::error::Result;
use crate::planned::{Fold, PlannedTensor};

/// Norms by the end of their names, and who alone reads what they yield.
const BLOCK_READERS: [(&str, &[&str]); 4] = [
    ("ln1", &["attn_qkv"]),
    ("ln2", &["ffn_up"]),
    ("attn_norm", &["attn_q", "attn_k", "attn_v"]),
    ("ffn_norm", &["ffn_gate", "ffn_up"]),
];
const READERS: [(&str, &[&str]); 2] = [("mm.0", &["mm.1"]), ("output_norm", &["output"])];

/// A scale so many times the norm's median is an outlier. Trained norms spread by less than 4; the losses begin to show
/// at 64.
const OUTLIER: f32 = 8.0;
/// More than this is not moved: a weight of 8 still fits f16.
const LARGEST: f32 = 4096.0;

/// Looks at every norm that matrices read, and gives both sides of an outlier their factors.
///
/// # Errors
/// Where a norm can't be read.
pub fn fold_outliers(checkpoint: &Checkpoint, tensors: &mut [PlannedTensor]) -> Result<()> {
    for index in 0..tensors.len() {
        // In another kind of projector `mm.0` is a matrix.
        let spec = &tensors[index].spec;
        let Some((prefix, norm, readers)) = norm_of(&spec.name).filter(|_| spec.role == Role::Norm) else {
            continue;
        };
        let (prefix, norm) = (prefix.to_string(), norm.to_string());
        let scales = values(checkpoint, &tensors[index])?;
        let Some(factors) = factors(&scales) else { continue };
        let n_channels = factors.iter().filter(|&&factor| factor != 1.0).count();
        let inverse = factors.iter().map(|factor| 1.0 / factor).collect();
        let (down, up) =
            (Fold { factors: inverse, n_channels }, Fold { factors: factors.into(), n_channels });
        let is_norm =
            |name: &str| name == format!("{prefix}{norm}.weight") || name == format!("{prefix}{norm}.bias");
        let is_reader = |name: &str| readers.iter().any(|reader| name == format!("{prefix}{reader}.weight"));
        for tensor in tensors.iter_mut() {
            if is_norm(&tensor.spec.name) {
                tensor.fold = Some(down.clone());
            } else if is_reader(&tensor.spec.name) {
                tensor.fold = Some(up.clone());
            }
        }
    }
    Ok(())
}

/// How the line of provenance begins that says what was folded.
pub const LINE: &str = "folded = ";

/// What provenance says of it: `folded = 18 channels of 6 norms`; none without outliers.
pub fn line(tensors: &[PlannedTensor]) -> Option<String> {
    let norms = tensors.iter().filter(|tensor| norm_of(&tensor.spec.name).is_some());
    let folds: Vec<_> = norms.filter_map(|norm| norm.fold.as_ref()).collect();
    let n_channels: usize = folds.iter().map(|fold| fold.n_channels).sum();
    (n_channels > 0).then(|| format!("{LINE}{n_channels} channels of {} norms", folds.len()))
}

/// Where a norm's weight of this name stands, its name there, and its readers.
fn norm_of(name: &str) -> Option<(&str, &str, &'static [&'static str])> {
    let whole = name.strip_suffix(".weight")?;
    if let Some((norm, readers)) = READERS.iter().find(|(norm, _)| *norm == whole) {
        return Some(("", norm, readers));
    }
    let (norm, readers) = BLOCK_READERS.iter().find(|(norm, _)| whole.ends_with(&format!(".{norm}")))?;
    Some((whole.strip_suffix(norm)?, norm, readers))
}

fn values(checkpoint: &Checkpoint, norm: &PlannedTensor) -> Result<Vec<f32>> {
    let tensor = &checkpoint.tensors[&norm.source.name];
    let n = tensor.n_elements();
    let mut bytes = vec![0; tensor.n_bytes() as usize];
    checkpoint.read_rows(tensor, n, 0, &mut bytes)?;
    let mut values = vec![0.0; n as usize];
    widen(tensor.dtype, &bytes, &mut values);
    Ok(values)
}

/// The power of two next to each outlier's distance from the median, 1 elsewhere; none without outliers.
fn factors(scales: &[f32]) -> Option<Vec<f32>> {
    let mut sizes: Vec<f32> = scales.iter().map(|scale| scale.abs()).collect();
    sizes.sort_unstable_by(f32::total_cmp);
    let median = *sizes.get(sizes.len() / 2)?;
    let factor = |scale: &f32| {
        let distance = scale.abs() / median;
        // Numbers that are none are for the conversion to refuse.
        let is_outlier = distance.is_finite() && distance >= OUTLIER;
        if is_outlier { distance.log2().round().exp2().min(LARGEST) } else { 1.0 }
    };
    let factors: Vec<f32> = scales.iter().map(factor).collect();
    factors.iter().any(|&factor| factor != 1.0).then_some(factors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_get_the_power_of_two_that_takes_them_home() {
        let cases: [(&[f32], Option<&[f32]>); 7] = [
            (&[1.0, 1.0, 1.0, 7.9], None),
            (&[1.0, 1.0, 1.0, 8.0], Some(&[1.0, 1.0, 1.0, 8.0])),
            (&[0.1, -0.1, 0.1, -5.0, 0.0], Some(&[1.0, 1.0, 1.0, 64.0, 1.0])),
            (&[1.0, 1.0, 1.0, 1e30], Some(&[1.0, 1.0, 1.0, LARGEST])),
            (&[1.0, 1.0, f32::NAN, f32::INFINITY], None),
            (&[0.0, 0.0, 0.0, 1.0], None),
            (&[], None),
        ];
        for (scales, expected) in cases {
            assert_eq!(factors(scales).as_deref(), expected, "{scales:?}");
        }
    }

    #[test]
    fn norms_are_known_by_name() {
        let cases = [
            ("v.blk.3.ln1.weight", Some(("v.blk.3.", "ln1"))),
            ("blk.12.ffn_norm.weight", Some(("blk.12.", "ffn_norm"))),
            ("mm.0.weight", Some(("", "mm.0"))),
            ("output_norm.weight", Some(("", "output_norm"))),
            ("mm.0.bias", None),
            ("mm.1.weight", None),
            ("v.blk.3.attn_q_norm.weight", None),
            ("v.blk.3.attn_k_norm.weight", None),
            ("blk.12.attn_q.weight", None),
        ];
        for (name, expected) in cases {
            assert_eq!(norm_of(name).map(|(prefix, norm, _)| (prefix, norm)), expected, "{name}");
        }
    }
}
