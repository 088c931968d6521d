//! Tower and projector.

use ggml::{Cancel, DType};
use owlet_format::{Activation, NormKind, ProjectorConfig, ProjectorKind, QkNorm, Shuffle, VisionConfig};

use super::reference::{self, Nodes};
use super::tiny::{self, Compare, Everything, PROJECTOR, TOWER, noise};
use crate::Error;
use crate::model::{Arithmetic, Model, Observe, Step, VisionEncoder};

/// Largest error that f32 weights may have, against f64.
const F32_BOUND: f64 = 3e-5;

fn picture(config: &VisionConfig) -> Vec<f32> {
    noise("picture", (config.image_px * config.image_px * 3) as usize)
}

/// Features are the same with and without a projector behind them, which then does not run.
#[test]
fn a_tower_is_run_without_its_projector() {
    let config = tiny::config(Some(TOWER), Some(PROJECTOR), None);
    let (model, _) = tiny::model(&config, DType::F32, 2);
    let pixels = picture(&TOWER);
    let features = |mut encoder: VisionEncoder, total: u32| {
        let mut step = encoder.start(&pixels).unwrap();
        assert_eq!(step.total, total);
        while !step.is_last() {
            step = encoder.step(&Cancel::new()).unwrap();
        }
        (encoder.features().unwrap(), encoder.finish())
    };
    let (whole, rows) = features(VisionEncoder::new(&model).unwrap(), 4);
    assert!(rows.is_ok());
    let (alone, rows) = features(VisionEncoder::of_tower(&model).unwrap(), 3);
    assert_eq!(rows.unwrap_err().to_string(), "picture: the projector was left out");
    assert_eq!(whole, alone);
}

/// Every node of every kind of tower and projector that a file can state, by our kernels and by ggml alone.
#[test]
fn nodes_equal_the_reference() {
    let quick =
        VisionConfig { act: Activation::QuickGelu, qk_norm: QkNorm::None, layer_scale: false, ..TOWER };
    let clip = VisionConfig {
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        qkv_bias: true,
        patch_bias: false,
        pre_norm: true,
        ..quick.clone()
    };
    let layer = VisionConfig { norm: NormKind::Layer, qkv_bias: true, qk_norm: QkNorm::None, ..TOWER };
    let no_class = VisionConfig { cls: false, ..TOWER };
    let v2 = ProjectorConfig { shuffle: Shuffle::V2, ..PROJECTOR };
    let wide = ProjectorConfig { ratio: 4, ..PROJECTOR };
    let llava =
        ProjectorConfig { kind: ProjectorKind::Mlp2xGelu, shuffle: Shuffle::None, ratio: 1, ..PROJECTOR };
    let cases = [
        ("InternViT, v1", TOWER, PROJECTOR),
        ("InternViT, v2", TOWER, v2),
        ("InternViT without class token, ratio 4", no_class, wide),
        ("layer norm with biases", layer, PROJECTOR),
        ("quick GELU, LLaVA's projector", quick, llava.clone()),
        ("CLIP's build, LLaVA's projector", clip, llava),
    ];
    for (case, tower, projector) in cases {
        let config = tiny::config(Some(tower.clone()), Some(projector.clone()), None);
        let (model, tensors) = tiny::model(&config, DType::F32, 2);
        let pixels = picture(&tower);
        let mut nodes = Nodes::new();
        let rows = reference::tower(&tower, &tensors, &pixels, &mut nodes);
        nodes.insert("v.out".into(), rows[usize::from(tower.cls)..].concat());
        let expected = reference::projector(&tower, &projector, &tensors, &rows, &mut nodes).concat();

        let compared = |case: &str, model: &Model| {
            let mut encoder = VisionEncoder::new(model).unwrap();
            let mut step = encoder.start(&pixels).unwrap();
            assert_eq!(step, Step { done: 0, total: 4 });
            let mut compare = Compare::new(case, nodes.clone(), F32_BOUND);
            while !step.is_last() {
                step = encoder.step_observed(&Cancel::new(), &mut compare).unwrap();
            }
            compare.finish();
            let rows = encoder.finish().unwrap();
            assert_eq!(rows.len(), expected.len());
        };
        compared(case, &model);
        compared(&format!("{case}, by ggml"), &tiny::by_ggml(model));
    }
}

/// With activations in f32 a quantized model is the f32 model of its rounded weights; with packed ones it is not.
#[test]
fn exact_activations_leave_only_what_weights_were_rounded_to() {
    let config = tiny::config(Some(TOWER), Some(PROJECTOR), None);
    let pixels = picture(&TOWER);
    let nodes = |model: &Model| {
        let mut encoder = VisionEncoder::new(model).unwrap();
        let mut step = encoder.start(&pixels).unwrap();
        let mut everything = Everything::default();
        while !step.is_last() {
            step = encoder.step_observed(&Cancel::new(), &mut everything).unwrap();
        }
        everything.0
    };
    let farthest = |model: &Model, expected: &Nodes| {
        let mut compare = Compare::new("", expected.clone(), f64::INFINITY);
        for (name, values) in nodes(model) {
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            compare.node(&name, &[], &values);
        }
        compare.errors.iter().map(|(_, error)| *error).fold(0.0, f64::max)
    };
    if !crate::kernels::Kernels::of_this_machine(Arithmetic::Exact).is_exact(DType::Q8_0) {
        println!("not run: no kernels of ours on this machine");
        return;
    }
    for dtype in [DType::Q8_0, DType::Q5_1, DType::Q4_0] {
        let expected = nodes(&tiny::rounded(&config, dtype, 2));
        let model = tiny::model(&config, dtype, 2).0;
        let packed = farthest(&model, &expected);
        let exact = farthest(&tiny::exact(model), &expected);
        println!("{dtype}: exact {exact:.1e}, packed {packed:.1e}");
        assert!(exact < F32_BOUND && packed > 100.0 * F32_BOUND, "{dtype}: {exact:e}, packed {packed:e}");
    }
}

/// Threads change no bit, and neither does watching every node, for which nodes are made that are else parts
/// of others; some weights read in f32 what others read packed.
#[test]
fn rows_depend_on_neither_observers_nor_threads() {
    let clip = VisionConfig {
        norm: NormKind::Layer,
        qkv_bias: true,
        qk_norm: QkNorm::None,
        act: Activation::QuickGelu,
        patch_bias: true,
        pre_norm: false,
        layer_scale: false,
        ..TOWER
    };
    let types: [(&str, tiny::TypeByName); 5] = [
        ("f32", |_| DType::F32),
        ("f16", |_| DType::F16),
        ("q8_0", |_| DType::Q8_0),
        ("q4_0", |_| DType::Q4_0),
        ("mixed", |name| if name.contains("attn") { DType::Q8_0 } else { DType::F16 }),
    ];
    for (tower, (dtype, dtype_of)) in [TOWER, clip].iter().flat_map(|t| types.map(|d| (t, d))) {
        let config = tiny::config(Some(tower.clone()), Some(PROJECTOR), None);
        let encoder =
            |n_threads: usize| VisionEncoder::new(&tiny::model_of(&config, dtype_of, n_threads).0).unwrap();
        let one = encode(&mut encoder(1), &picture(&TOWER));
        assert!(one.iter().all(|v| v.is_finite()));
        for n_threads in [2, 3] {
            let rows = encode(&mut encoder(n_threads), &picture(&TOWER));
            assert!(rows == one, "{dtype} with {n_threads} threads");
        }
        let mut encoder = encoder(2);
        let mut everything = Everything::default();
        let mut step = encoder.start(&picture(&TOWER)).unwrap();
        while !step.is_last() {
            step = encoder.step_observed(&Cancel::new(), &mut everything).unwrap();
        }
        assert!(everything.0.contains_key("mm.0") && everything.0.contains_key("v.blk.1.attn_out"));
        assert!(encoder.finish().unwrap() == one, "{dtype}, observed");
    }
}

/// A step that was cancelled can be tried again; two encoders that take turns do not meet.
#[test]
fn steps_can_be_cancelled_and_interleaved() {
    let (model, _) = tiny::model(&tiny::config(Some(TOWER), Some(PROJECTOR), None), DType::F32, 2);
    let pixels = picture(&TOWER);
    let mirrored: Vec<f32> = pixels.iter().rev().copied().collect();
    let mut plain = VisionEncoder::new(&model).unwrap();
    let expected = [encode(&mut plain, &pixels), encode(&mut plain, &mirrored)];

    let mut a = VisionEncoder::new(&model).unwrap();
    let mut b = VisionEncoder::new(&model).unwrap();
    let mut step = a.start(&pixels).unwrap();
    b.start(&mirrored).unwrap();
    let cancelled = Cancel::new();
    cancelled.cancel();
    while !step.is_last() {
        assert!(matches!(a.step(&cancelled), Err(Error::Cancelled)));
        let next = a.step(&Cancel::new()).unwrap();
        assert_eq!(next.done, step.done + 1);
        b.step(&Cancel::new()).unwrap();
        step = next;
    }
    assert!([a.finish().unwrap(), b.finish().unwrap()] == expected);
}

/// However small the pieces, and also where they change or one of them is tried twice, rows have the bits that whole steps give.
#[test]
fn pieces_of_steps_change_no_bit() {
    let clip = VisionConfig { norm: NormKind::Layer, qkv_bias: true, qk_norm: QkNorm::None, ..TOWER };
    // Of a block's 65 rows; the projector has 16.
    let sizes: [&[u64]; 4] = [&[0], &[30], &[0, u64::MAX, 40], &[64, 17, 0, 31]];
    for (tower, dtype) in
        [TOWER, clip].iter().flat_map(|t| [DType::F32, DType::F16, DType::Q4_0].map(|d| (t, d)))
    {
        let config = tiny::config(Some(tower.clone()), Some(PROJECTOR), None);
        let (model, _) = tiny::model(&config, dtype, 2);
        let whole = encode(&mut VisionEncoder::new(&model).unwrap(), &picture(&TOWER));
        for sizes in sizes {
            let mut encoder = VisionEncoder::new(&model).unwrap();
            let mut step = encoder.start(&picture(&TOWER)).unwrap();
            let (mut n_pieces, mut n_operations) = (0, 0);
            let cancelled = Cancel::new();
            cancelled.cancel();
            for rows in sizes.iter().cycle() {
                if step.is_last() {
                    break;
                }
                // A row of the dearer half of a block.
                let max = rows.saturating_mul(96 * (96 + 2 * 160 + 2 * 65));
                assert!(matches!(encoder.step_within(max, &cancelled), Err(Error::Cancelled)));
                let progress = encoder.step_within(max, &Cancel::new()).unwrap();
                assert!((step.done..=step.done + 1).contains(&progress.step.done));
                step = progress.step;
                n_pieces += 1;
                n_operations += progress.n_operations;
            }
            assert!(encoder.finish().unwrap() == whole, "{dtype}, pieces of {sizes:?}");
            let of_block = 65 * 96 * (4 * 96 + 2 * 160 + 2 * 65);
            let of_projector = 16 * (4 * 96 + 256) * 256;
            assert_eq!(n_operations, 64 * 108 * 96 + 2 * of_block + of_projector, "{sizes:?}");
            let is_cut = model.kernels().starts_with("owlet");
            assert!(n_pieces > 4 || !is_cut, "{dtype}: {n_pieces} pieces of {sizes:?}, {}", model.kernels());
        }
    }
}

/// What is planned before a picture is there is what one allocates, and some scratch beside that.
#[test]
fn bytes_are_known_before_a_picture_is_there() {
    for dtype in [DType::F32, DType::Q8_0] {
        let (model, _) = tiny::model(&tiny::config(Some(TOWER), Some(PROJECTOR), None), dtype, 2);
        let mut encoder = VisionEncoder::new(&model).unwrap();
        let bytes = encoder.bytes().unwrap().total();
        assert_eq!(encoder.allocated_bytes(), 0);
        let expected = encode(&mut VisionEncoder::new(&model).unwrap(), &picture(&TOWER));
        assert!(encode(&mut encoder, &picture(&TOWER)) == expected, "asking changes no answer");
        // Hidden rows and the picture are the encoder's own.
        let allocated = encoder.allocated_bytes() + (65 * 96 + 48 * 48 * 3) * 4;
        assert!((allocated..2 * allocated).contains(&bytes), "{dtype}: {bytes}, {allocated}");
        assert_eq!(encoder.bytes().unwrap().total(), bytes, "the same answer after a picture");
    }
}

#[test]
fn misuse_is_an_error() {
    let (model, _) = tiny::model(&tiny::config(Some(TOWER), Some(PROJECTOR), None), DType::F32, 1);
    let mut encoder = VisionEncoder::new(&model).unwrap();
    let cancel = Cancel::new();
    let texts = [
        encoder.step(&cancel).unwrap_err().to_string(),
        encoder.start(&[0.0; 5]).unwrap_err().to_string(),
        encoder.start(&picture(&TOWER)).and_then(|_| encoder.finish()).unwrap_err().to_string(),
        encoder.features().unwrap_err().to_string(),
    ];
    assert_eq!(
        texts,
        [
            "picture: none was started",
            "picture: expected [48, 48, 3] values, found 5",
            "picture: expected 4 steps, found 0",
            "picture: expected 4 steps, found 0",
        ]
    );
    let (tower, _) = tiny::model(&tiny::config(Some(TOWER), None, None), DType::F32, 1);
    let mut encoder = VisionEncoder::new(&tower).unwrap();
    let mut step = encoder.start(&picture(&TOWER)).unwrap();
    assert_eq!(step.total, 3);
    while !step.is_last() {
        step = encoder.step(&cancel).unwrap();
    }
    assert_eq!(encoder.features().unwrap().len(), 96 * 65);
    assert_eq!(encoder.finish().unwrap_err().to_string(), "tiny: the file has no projector");
}

fn encode(encoder: &mut VisionEncoder, pixels: &[f32]) -> Vec<f32> {
    let mut step = encoder.start(pixels).unwrap();
    while !step.is_last() {
        step = encoder.step(&Cancel::new()).unwrap();
    }
    encoder.finish().unwrap()
}
