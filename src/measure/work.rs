//! What a computation costs at least on a machine of given limits: the other half of `share_of_limit`.
//!
//! Comes in: configs, and the tensors with their types. Goes out: [`Work`], and from that the seconds that no program
//! could be below: each matrix takes its operations at the rate of its class of weights, or its bytes at the rate of
//! reading, whichever is longer; attention takes its operations at the rate of f32 products. Everything else, norms,
//! activations, reading the cache, is counted as nothing. Knows no clock.

use ggml::DType;
use owlet_format::{Part, ProjectorConfig, Role, TensorSpec, TextConfig, VisionConfig};

use super::Limits;

/// A tensor that a config implies, and the type it is stored in.
pub type Typed = (TensorSpec, DType);

/// Products of a computation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    products: Vec<Product>,
    /// Of queries with keys and of weights with values.
    attention_flops: f64,
}

/// A stored matrix times some columns.
#[derive(Clone, Debug, PartialEq)]
struct Product {
    class: Class,
    /// `2 m n k`: a multiplication and an addition each.
    operations: f64,
    /// Of the matrix, read once.
    n_bytes: f64,
}

/// Which limit a type of weights has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Float,
    /// 8 bits: pairs of products leave no room in 16 bits, so each is widened at once.
    Wide,
    /// 6 bits and fewer.
    Narrow,
}

impl Class {
    fn of(dtype: DType) -> Class {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Class::Float,
            DType::Q8_0 => Class::Wide,
            _ => Class::Narrow,
        }
    }
}

impl Work {
    /// One picture through the tower: patches and all blocks.
    pub fn vision(config: &VisionConfig, tensors: &[Typed]) -> Work {
        let (n_patches, n_positions) = (u64::from(config.n_patches()), u64::from(config.n_positions()));
        let columns = |role| match role {
            Role::Patch => n_patches,
            Role::Matrix => n_positions,
            _ => 0,
        };
        let n_pairs = n_positions as f64 * n_positions as f64;
        Work {
            products: products(tensors, Part::Vision, columns),
            attention_flops: attention(config.n_layer, config.n_embd, n_pairs),
        }
    }

    /// One picture's patches through the projector.
    pub fn projector(vision: &VisionConfig, config: &ProjectorConfig, tensors: &[Typed]) -> Work {
        let n_rows = u64::from(vision.n_patches() / (config.ratio * config.ratio));
        let columns = |role| if role == Role::Matrix { n_rows } else { 0 };
        Work { products: products(tensors, Part::Projector, columns), attention_flops: 0.0 }
    }

    /// `n_rows` positions behind `n_past` others, one after the other or all at once; the logits of the last one.
    pub fn text(config: &TextConfig, tensors: &[Typed], n_past: u32, n_rows: u32) -> Work {
        let columns = |role| match role {
            Role::Matrix => n_rows.into(),
            Role::Output => 1,
            _ => 0,
        };
        let (n_past, n_rows) = (f64::from(n_past), f64::from(n_rows));
        // A row sees the rows before it and itself.
        let n_pairs = n_rows * n_past + n_rows * (n_rows + 1.0) / 2.0;
        Work {
            products: products(tensors, Part::Text, columns),
            attention_flops: attention(config.n_layer, config.n_embd, n_pairs),
        }
    }

    /// The same where activations stay in f32, so that all weights are multiplied as floats.
    pub fn in_floats(mut self) -> Work {
        self.products.iter_mut().for_each(|product| product.class = Class::Float);
        self
    }

    /// The seconds below which no program gets on a machine of these limits.
    pub fn least_seconds(&self, limits: &Limits) -> f64 {
        let of_product = |product: &Product| {
            let rate = match product.class {
                Class::Float => limits.fma_gflop_s,
                Class::Wide => limits.madd1_gop_s,
                Class::Narrow => limits.madd8_gop_s,
            };
            (product.operations / rate).max(product.n_bytes / limits.read_gb_s)
        };
        let products: f64 = self.products.iter().map(of_product).sum();
        (products + self.attention_flops / limits.fma_gflop_s) / 1e9
    }

    /// How many times this work `other` is. Where `limits` are not known, those of a common laptop stand in: only their
    /// proportions matter.
    pub fn times(&self, other: &Work, limits: Option<&Limits>) -> f64 {
        const COMMON: Limits =
            Limits { read_gb_s: 30.0, fma_gflop_s: 150.0, madd1_gop_s: 300.0, madd8_gop_s: 430.0 };
        let limits = limits.unwrap_or(&COMMON);
        other.least_seconds(limits) / self.least_seconds(limits)
    }
}

/// The products of a part; `columns` says how many a tensor of each role is multiplied with.
fn products(tensors: &[Typed], part: Part, columns: impl Fn(Role) -> u64) -> Vec<Product> {
    let product = |(spec, dtype): &Typed| {
        let n_columns = columns(spec.role);
        if spec.part != part || n_columns == 0 {
            return None;
        }
        Some(Product {
            class: Class::of(*dtype),
            operations: 2.0 * spec.ne.n_elements() as f64 * n_columns as f64,
            n_bytes: spec.ne.n_bytes(*dtype)? as f64,
        })
    };
    tensors.iter().filter_map(product).collect()
}

/// Two products of `n_embd` values for each of `n_pairs` rows and cells, in every layer.
fn attention(n_layer: u32, n_embd: u32, n_pairs: f64) -> f64 {
    4.0 * f64::from(n_layer) * f64::from(n_embd) * n_pairs
}

#[cfg(test)]
mod tests {
    use owlet_format::{Activation, NormKind, ProjectorKind, QkNorm, Shape, Shuffle};

    use super::*;

    fn tensor(part: Part, role: Role, ne: &[u64], dtype: DType) -> Typed {
        (TensorSpec { name: "t".into(), ne: Shape::new(ne).unwrap(), part, role }, dtype)
    }

    /// Every operation a nanosecond or a simple part of it, so that seconds can be worked out by hand.
    const LIMITS: Limits = Limits { read_gb_s: 1.0, fma_gflop_s: 2.0, madd1_gop_s: 4.0, madd8_gop_s: 8.0 };

    fn nanoseconds(work: &Work) -> f64 {
        (work.least_seconds(&LIMITS) * 1e12).round() / 1e3
    }

    #[test]
    fn exact_products_take_floats() {
        let tensors = [tensor(Part::Text, Role::Matrix, &[64, 32], DType::Q8_0)];
        let work = Work::text(&TextConfig { n_layer: 0, ..TEXT }, &tensors, 0, 3);
        assert_eq!((nanoseconds(&work), nanoseconds(&work.in_floats())), (3072.0, 6144.0));
    }

    /// A matrix of 64 x 32 takes 4,096 operations a column and its bytes once.
    #[test]
    fn a_matrix_takes_what_is_longer() {
        let of = |dtype, n_rows| {
            let tensors = [tensor(Part::Text, Role::Matrix, &[64, 32], dtype)];
            let text = TextConfig { n_layer: 0, ..TEXT };
            nanoseconds(&Work::text(&text, &tensors, 0, n_rows))
        };
        let cases = [
            // 8,192 bytes, 2,048 ns a column
            (DType::F32, 1, 8192.0),
            (DType::F32, 4, 8192.0),
            (DType::F32, 5, 10_240.0),
            (DType::BF16, 1, 4096.0),
            (DType::F16, 3, 6144.0),
            // 34 bytes a block of 32: 2,176; 1,024 ns a column
            (DType::Q8_0, 1, 2176.0),
            (DType::Q8_0, 3, 3072.0),
            // 18, 24 and 22 bytes a block; 512 ns a column
            (DType::Q4_0, 1, 1152.0),
            (DType::Q4_0, 100, 51_200.0),
            (DType::Q5_1, 3, 1536.0),
            (DType::Q5_0, 2, 1408.0),
        ];
        for (dtype, n_rows, expected) in cases {
            assert_eq!(of(dtype, n_rows), expected, "{dtype} {n_rows}");
        }
        // 210 bytes a block of 256, and 144: rows of 64 are none of theirs.
        let k_quants = [
            tensor(Part::Text, Role::Matrix, &[256, 8], DType::Q6_K),
            tensor(Part::Text, Role::Matrix, &[256, 8], DType::Q4_K),
        ];
        let text = TextConfig { n_layer: 0, ..TEXT };
        assert_eq!(nanoseconds(&Work::text(&text, &k_quants, 0, 1)), 1680.0 + 1152.0);
        assert_eq!(nanoseconds(&Work::text(&text, &k_quants, 0, 10)), 2.0 * 5120.0);
    }

    /// Only the last row goes through the head, tokens are looked up, and a row sees itself and what is before it.
    #[test]
    fn text() {
        let tensors = [
            tensor(Part::Text, Role::Embedding, &[64, 1000], DType::F32),
            tensor(Part::Text, Role::Norm, &[64], DType::F32),
            tensor(Part::Text, Role::Output, &[64, 1000], DType::Q8_0),
            tensor(Part::Vision, Role::Matrix, &[64, 1000], DType::F32),
        ];
        // The head's 68,000 bytes, and 4 * 2 layers * 64 / 2 = 256 ns a pair.
        for (n_past, n_rows, n_pairs) in [(0, 1, 1.0), (0, 4, 10.0), (10, 1, 11.0), (10, 4, 50.0)] {
            let found = nanoseconds(&Work::text(&TEXT, &tensors, n_past, n_rows));
            assert_eq!(found, 68_000.0 + 256.0 * n_pairs, "{n_rows} behind {n_past}");
        }
    }

    /// 2 x 2 patches and a class token: 5 positions, 25 pairs; one image token.
    #[test]
    fn vision_and_projector() {
        let tensors = [
            tensor(Part::Vision, Role::Patch, &[2, 2, 3, 8], DType::F32),
            tensor(Part::Vision, Role::Position, &[8, 5], DType::F32),
            tensor(Part::Vision, Role::Matrix, &[8, 32], DType::F16),
            tensor(Part::Vision, Role::Bias, &[32], DType::F32),
            tensor(Part::Projector, Role::Matrix, &[32, 64], DType::F16),
            tensor(Part::Projector, Role::Norm, &[32], DType::F32),
        ];
        // 2 * 96 * 4 columns / 2, 2 * 256 * 5 columns / 2, and 4 * 3 layers * 8 * 25 pairs / 2.
        assert_eq!(nanoseconds(&Work::vision(&VISION, &tensors)), 384.0 + 1280.0 + 1200.0);
        // 4,096 bytes; 2 * 2,048 operations of one column would be 2,048 ns.
        assert_eq!(nanoseconds(&Work::projector(&VISION, &PROJECTOR, &tensors)), 4096.0);
    }

    #[test]
    fn deeper_models_are_so_many_times_the_work() {
        let layers = |n: usize| {
            let tensors = vec![tensor(Part::Text, Role::Matrix, &[64, 64], DType::Q4_0); n];
            Work::text(&TextConfig { n_layer: n as u32, ..TEXT }, &tensors, 7, 1)
        };
        for limits in [None, Some(&LIMITS)] {
            let times = layers(2).times(&layers(9), limits);
            assert!((times - 4.5).abs() < 1e-9, "{times}");
        }
    }

    const TEXT: TextConfig = TextConfig {
        n_vocab: 1000,
        n_ctx_train: 1024,
        n_embd: 64,
        n_layer: 2,
        n_ff: 64,
        n_head: 2,
        n_head_kv: 2,
        norm_eps: 1e-5,
        rope_dim: 32,
        rope_base: 1e4,
    };

    const VISION: VisionConfig = VisionConfig {
        n_embd: 8,
        n_head: 1,
        n_layer: 3,
        n_ff: 32,
        patch_px: 2,
        image_px: 4,
        norm: NormKind::Rms,
        norm_eps: 1e-6,
        qk_norm: QkNorm::None,
        qkv_bias: false,
        act: Activation::GeluErf,
        cls: true,
        patch_bias: true,
        pre_norm: false,
        layer_scale: false,
        source_n_layer: 3,
    };

    const PROJECTOR: ProjectorConfig = ProjectorConfig {
        kind: ProjectorKind::Mlp1,
        norm_eps: 1e-5,
        shuffle: Shuffle::V1,
        ratio: 2,
        n_embd_out: 64,
    };
}
