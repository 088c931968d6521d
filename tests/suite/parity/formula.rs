//! The parity cases' weights, pictures and sample positions, bit for bit as tests/reference/formula.py makes them.
//!
//! Comes in: a seed word and a name. Goes out: f32 values in PyTorch's row-major order, u8 pictures, positions.
//! Knows nothing of goldens, files or networks.

/// The 64-bit FNV-1a hash.
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The splitmix64 stream whose state starts at the hash of `name`.
fn stream(name: &str) -> impl Iterator<Item = u64> + use<> {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let seed = fnv1a64(name.as_bytes());
    (1..).map(move |i: u64| {
        let z = seed.wrapping_add(i.wrapping_mul(GOLDEN_RATIO));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// What a tensor's values are centred on, and how far they reach to either side (formula.py says why).
fn offset_and_scale(name: &str, shape: &[u64]) -> (f64, f64) {
    let fan_in: u64 = shape.iter().skip(1).product();
    let unit = (3.0 / fan_in as f64).sqrt();
    let table: [(&[&str], f64, f64); 14] = [
        (&["q_norm.weight", "k_norm.weight"], 1.5, 0.4),
        (&NORM_WEIGHTS, 1.0, 0.2),
        (&[".ls1"], 0.6, 0.2),
        (&[".ls2"], 0.05, 0.02),
        (&["class_embedding", "position_embedding", "position_embedding.weight"], 0.0, 0.03),
        (&["patch_embedding.weight"], 0.0, 0.03 * unit),
        (&["patch_embedding.bias", "attn.proj.bias", "mlp1.3.bias", "mm_projector.2.bias"], 0.0, 0.01),
        (&[".bias"], 0.0, 0.1),
        (&["attn.qkv.weight"], 0.0, 0.04 * unit),
        (&["mlp1.3.weight", "mm_projector.2.weight"], 0.0, 0.06 * unit),
        (&["embed_tokens.weight"], 0.0, 0.05),
        (&["q_proj.weight", "k_proj.weight"], 0.0, 1.5 * unit),
        (&["o_proj.weight"], 0.0, 0.1 * unit),
        (&["down_proj.weight"], 0.0, 0.15 * unit),
    ];
    let row = table.iter().find(|(ends, ..)| ends.iter().any(|end| name.ends_with(end)));
    row.map_or((0.0, unit), |&(_, offset, scale)| (offset, scale))
}

const NORM_WEIGHTS: [&str; 5] =
    ["norm.weight", "norm1.weight", "norm2.weight", "layernorm.weight", "mlp1.0.weight"];

/// One tensor: offset + scale * v, v the top 24 bits of the stream as [-1, 1).
pub fn tensor(seed: &str, name: &str, shape: &[u64]) -> Vec<f32> {
    let (offset, scale) = offset_and_scale(name, shape);
    let (offset, scale) = (offset as f32, scale as f32);
    let count = shape.iter().product::<u64>() as usize;
    let bits = stream(&format!("{seed}/{name}")).take(count);
    bits.map(|z| {
        let v = (z >> 40) as f32 * 2f32.powi(-24) * 2.0 - 1.0;
        offset + scale * v
    })
    .collect()
}

/// Rounded to the nearest bf16, ties to even, as f32.
pub fn bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

/// u8 RGB, row by row: a slope of its own in every channel, and noise over the whole picture.
pub fn picture(name: &str, width: u32, height: u32) -> Vec<u8> {
    let mut noise = stream(name);
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let slope = x * (channel + 1) * 131 / width + y * (3 - channel) * 67 / height;
                let noise = noise.next().map_or(0, |z| (z >> 57) as u32);
                rgb.push((slope % 192 + noise).min(255) as u8);
            }
        }
    }
    rgb
}

/// Where a node is sampled: everywhere if it is short, else `count` places out of its stream.
pub fn sample_positions(name: &str, length: usize, count: usize) -> Vec<usize> {
    if length <= count {
        return (0..length).collect();
    }
    let places = stream(&format!("samples/{name}")).take(count);
    places.map(|z| (z % length as u64) as usize).collect()
}

/// The node against pseudo-random signs, over sqrt(length): sees what the samples miss.
pub fn projection(name: &str, values: &[f32]) -> f64 {
    let signs = stream(&format!("signs/{name}"));
    let sum: f64 =
        signs.zip(values).map(|(z, &v)| if z >> 63 == 1 { -f64::from(v) } else { f64::from(v) }).sum();
    sum / (values.len() as f64).sqrt()
}
