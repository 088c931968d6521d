//! Parts of a model on a device: every node, and what is said, is what the CPU makes of the same weights.
//!
//! On every machine with stand-ins: memory of their own, ggml's operations only. `OWLET_TEST_DEVICE` names a device of
//! this build to prove instead, or several, for example CUDA0,CUDA1, or addresses of workers.

use std::sync::OnceLock;

use ggml::{Backend, Cancel, DType, Device, Place};
use owlet_format::ModelConfig;

use super::reference::Nodes;
use super::tiny::{self, Compare, Everything, PROJECTOR, TEXT, TOWER, noise};
use crate::model::{
    Decoder, Input, KvHalf, KvRows, KvType, Model, Placement, Row, VisionEncoder, kv_row_bytes,
};

/// The largest error of any value beside the f32 network of the same rounded weights, on the stand-in and on a GPU. What a
/// wrong position, mask or scale does (a rope base that is 5% off: 0.3) is far beyond those of f32 and f16. Activations of 8
/// bits before quantized weights make 0.10 to 0.14 by themselves, so those bounds see weights or rows that are taken for
/// others, and nothing finer. q4_k makes 0.19 on the stand-in, which scales 256 activations together, and 0.24 with CUDA,
/// where minima of weights meet sums of activations as they were before rounding, so that less of the rounding cancels.
const BOUNDS: [(DType, f64, f64); 6] = [
    (DType::F32, 2e-5, 1e-2),
    (DType::F16, 8e-3, 1e-2),
    (DType::Q8_0, 0.25, 0.2),
    (DType::Q5_0, 0.25, 0.25),
    (DType::Q4_0, 0.25, 0.25),
    (DType::Q4_K, 0.3, 0.4),
];

/// The mean error of any node of the stand-in beside ggml on the CPU, which rounds the same activations alike: all of the
/// rounding is left out but what a sum in another order tips over, and a rope base that is 5% off makes 2.8e-2 to 5e-2.
/// Measured: 6e-3, and 1.4e-2 where 256 activations have one scale.
const SAME_ROUNDING_BOUNDS: [(DType, f64); 4] =
    [(DType::Q8_0, 1.5e-2), (DType::Q5_0, 1.5e-2), (DType::Q4_0, 1.5e-2), (DType::Q4_K, 2.5e-2)];

/// Keys and values of 11 bits leave no node nearer.
const F16_KV_BOUND: f64 = 1e-2;

/// Rows of the prompt: more than a step of cells.
const N_ROWS: u32 = 262;

/// The first one has the tower and the last layers.
fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| match std::env::var("OWLET_TEST_DEVICE") {
        Ok(names) => names.split(',').map(named).collect(),
        Err(_) => Device::stand_ins()[..2].to_vec(),
    })
}

fn named(name: &str) -> Device {
    #[cfg(feature = "dynamic-backends")]
    if let Some(dir) = std::env::var_os("OWLET_BACKENDS") {
        let passed_over = ggml::load_backends(dir.as_ref());
        assert!(passed_over.is_empty(), "{passed_over:?}");
    }
    #[cfg(feature = "rpc")]
    if name.contains(':') {
        return Device::remote(name).unwrap().remove(0);
    }
    let found = Device::all().into_iter().find(|device| device.name() == name);
    found.unwrap_or_else(|| panic!("OWLET_TEST_DEVICE: no {name}, only {:?}", Device::all()))
}

/// Whether the device computes by ggml's CPU code: a stand-in, or the CPU of a worker.
fn is_a_cpu() -> bool {
    let first = &devices()[0];
    first.is_remote() || *first == Device::stand_in()
}

fn bound(dtype: DType) -> f64 {
    let (_, stand_in, gpu) = BOUNDS.into_iter().find(|bound| bound.0 == dtype).unwrap();
    if is_a_cpu() { stand_in } else { gpu }
}

/// k-quants hold rows of 256, which the tower has not.
fn config(dtype: DType) -> ModelConfig {
    match dtype {
        DType::Q4_K => tiny::config(None, None, Some(TEXT)),
        _ => tiny::config(Some(TOWER), Some(PROJECTOR), Some(TEXT)),
    }
}

fn placements(config: &ModelConfig) -> Vec<(&'static str, Placement)> {
    let tower = Place::Device(0);
    let mut placements = vec![
        ("all", Placement::new(config, tower, &[2])),
        ("the tower", Placement::new(config, tower, &[])),
        ("a layer", Placement::new(config, Place::Cpu, &[1])),
        ("the text half", Placement::new(config, Place::Cpu, &[2])),
    ];
    if devices().len() > 1 {
        placements.extend([
            ("the tower, and a layer on each", Placement::new(config, tower, &[1, 1])),
            ("the tower, and a layer elsewhere", Placement::new(config, tower, &[0, 1])),
        ]);
    }
    placements
}

fn on_device(dtype: DType, placement: &Placement) -> Model {
    let backend = Backend::with_devices(2, devices()).unwrap();
    tiny::placed(&config(dtype), dtype, &backend, placement.clone()).0
}

fn rows(first: u32, n: u32) -> Vec<Row> {
    let input = |pos: u32| match pos % 3 {
        2 => Input::Embd(pos as usize),
        _ => Input::Token((pos * 31 + 7) % TEXT.n_vocab),
    };
    (first..first + n).map(|pos| Row { input: input(pos), seq: 0, pos, want_logits: true }).collect()
}

fn embeddings() -> Vec<f32> {
    noise("embeddings", (N_ROWS * TEXT.n_embd) as usize)
}

/// All nodes of a picture and of a prompt.
fn nodes(model: &Model, kv_type: KvType) -> Nodes {
    let mut everything = Everything::default();
    let cancel = Cancel::new();
    if let Ok(mut encoder) = VisionEncoder::new(model) {
        let pixels = noise("picture", (TOWER.image_px * TOWER.image_px * 3) as usize);
        let mut step = encoder.start(&pixels).unwrap();
        while !step.is_last() {
            step = encoder.step_observed(&cancel, &mut everything).unwrap();
        }
        let rows = encoder.finish().unwrap();
        everything.0.insert("rows".into(), rows.into_iter().map(f64::from).collect());
    }
    let mut decoder = Decoder::new(model, 300, 1, kv_type).unwrap();
    decoder.forward_observed(&rows(0, N_ROWS), &embeddings(), &cancel, &mut everything).unwrap();
    everything.0
}

#[test]
fn nodes_of_f32_are_those_of_the_cpu() {
    compare_nodes(DType::F32);
}

#[test]
fn nodes_of_f16_are_those_of_the_cpu() {
    compare_nodes(DType::F16);
}

#[test]
fn nodes_of_q8_0_are_those_of_the_cpu() {
    compare_nodes(DType::Q8_0);
}

#[test]
fn nodes_of_q5_0_are_those_of_the_cpu() {
    compare_nodes(DType::Q5_0);
}

#[test]
fn nodes_of_q4_0_are_those_of_the_cpu() {
    compare_nodes(DType::Q4_0);
}

#[test]
fn nodes_of_q4_k_are_those_of_the_cpu() {
    compare_nodes(DType::Q4_K);
}

/// In all placements, over both types of caches that every device has.
fn compare_nodes(dtype: DType) {
    let config = config(dtype);
    let expected = nodes(&tiny::rounded(&config, dtype, 2), KvType::F32);
    let mut wrong = Vec::new();
    for (what, placement) in placements(&config) {
        for kv_type in [KvType::F32, KvType::F16] {
            let case = format!("{dtype} weights, {kv_type:?} cache, {what} on {:?}", devices());
            let bound = if kv_type == KvType::F16 { bound(dtype).max(F16_KV_BOUND) } else { bound(dtype) };
            let mut compare = Compare::new(&case, expected.clone(), bound);
            for (name, values) in nodes(&on_device(dtype, &placement), kv_type) {
                let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
                compare.see(&name, &values);
            }
            println!("{case}: {:.1e}", compare.largest());
            wrong.extend(compare.wrong());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A value that tips over is off by a whole step, but few do: so the mean counts here.
#[test]
fn nodes_of_quantized_weights_are_those_of_the_same_rounding() {
    if !is_a_cpu() {
        println!("not run: this device rounds in its own way");
        return;
    }
    let mut wrong = Vec::new();
    for (dtype, bound) in SAME_ROUNDING_BOUNDS {
        let config = config(dtype);
        let expected = nodes(&tiny::by_ggml(tiny::model(&config, dtype, 2).0), KvType::F32);
        for (what, placement) in placements(&config) {
            let found = nodes(&tiny::by_ggml(on_device(dtype, &placement)), KvType::F32);
            assert_eq!(found.len(), expected.len(), "{dtype}, {what}");
            let errors = found.iter().map(|(name, values)| (mean_error(values, &expected[name]), name));
            let (error, node) = errors.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            let line = format!("{dtype}, {what}: {node} is off by {error:.1e}");
            println!("{line}");
            if error.is_nan() || error > bound {
                wrong.push(format!("{line}, bound {bound:.1e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `rms(a - b) / rms(b)`
fn mean_error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    (squares(&mut a.iter().zip(b).map(|(a, b)| a - b)) / squares(&mut b.iter().copied())).sqrt()
}

/// Caches of 8 bits where the device can attend over them, else one line that says so.
#[test]
fn quantized_caches_serve_or_are_refused() {
    let config = config(DType::F32);
    let expected = nodes(&tiny::rounded(&config, DType::F32, 2), KvType::F32);
    let model = on_device(DType::F32, &Placement::new(&config, Place::Device(0), &[2]));
    match Decoder::new(&model, 300, 1, KvType::Q8_0) {
        Ok(_) => {
            let mut compare = Compare::new("q8_0 cache", expected, 0.12);
            for (name, values) in nodes(&model, KvType::Q8_0) {
                compare.see(&name, &values.into_iter().map(|v| v as f32).collect::<Vec<_>>());
            }
            compare.finish();
        }
        Err(error) => assert_eq!(
            error.to_string(),
            "kv type q8_0: layers on the device need f16 or f32 for heads of 32, 8 of 4"
        ),
    }
}

/// What is said, token by token, behind a prompt that came in parts.
#[test]
fn the_same_is_said_wherever_layers_are() {
    let said = |model: &Model, chunk: usize| {
        let mut decoder = Decoder::new(model, 300, 1, KvType::F32).unwrap();
        let (embd, cancel) = (embeddings(), Cancel::new());
        let mut last = Vec::new();
        for rows in rows(0, N_ROWS).chunks(chunk) {
            let logits = decoder.forward(rows, &embd, &cancel).unwrap();
            last = logits.rows().last().unwrap().to_vec();
        }
        let best = |l: &[f32]| (0..l.len()).max_by(|&a, &b| l[a].total_cmp(&l[b])).unwrap() as u32;
        let mut said = vec![best(&last)];
        while said.len() < 24 {
            let pos = N_ROWS + said.len() as u32 - 1;
            let input = Input::Token(said[said.len() - 1]);
            let row = Row { input, seq: 0, pos, want_logits: true };
            let logits = decoder.forward(&[row], &embd, &cancel).unwrap();
            said.push(best(logits.rows().next().unwrap()));
        }
        said
    };
    let config = config(DType::F32);
    let (on_cpu, _) = tiny::model(&config, DType::F32, 2);
    let expected = said(&on_cpu, 300);
    for (what, placement) in placements(&config) {
        let model = on_device(DType::F32, &placement);
        for chunk in [300, 100, 7] {
            assert_eq!(said(&model, chunk), expected, "{what}, chunks of {chunk}");
        }
    }
}

/// Rows go out of the device's cache and into another one, which grows, forgets, and goes on with the same bits.
#[test]
fn caches_on_a_device_are_caches() {
    const SEQ: u32 = 1;
    let config = config(DType::F32);
    let (embd, cancel) = (embeddings(), Cancel::new());
    let rows = |first, n| rows(first, n).into_iter().map(|row| Row { seq: SEQ, ..row }).collect::<Vec<_>>();
    for (what, placement) in placements(&config) {
        let model = on_device(DType::F32, &placement);
        for kv_type in [KvType::F32, KvType::F16] {
            let what = format!("{what}, {kv_type:?}");
            let row_bytes = kv_row_bytes(&TEXT, kv_type) as usize;
            let new = |n_ctx| Decoder::new(&model, n_ctx, 2, kv_type).unwrap();
            let mut first = new(300);
            first.forward(&rows(0, 259), &embd, &cancel).unwrap();
            let mut second = new(260);
            second.assume(SEQ, 259).unwrap();
            for (layer, half) in [0, 1].into_iter().flat_map(|il| [(il, KvHalf::Keys), (il, KvHalf::Values)])
            {
                // In two parts, neither of which ends where a step of cells does.
                for (from, n) in [(0, 200), (200, 59)] {
                    let rows = KvRows { layer, half, first: from, n };
                    let bytes = first.read_rows(SEQ, rows).unwrap();
                    let mut read = bytes.chunks(row_bytes);
                    assert!(read.all(|row| row.iter().any(|&byte| byte != 0)), "{what}");
                    second.write_rows(SEQ, rows, &bytes).unwrap();
                }
            }
            second.grow(600).unwrap();
            second.truncate(SEQ, 255);
            first.truncate(SEQ, 255);
            let next = |decoder: &mut Decoder| decoder.forward(&rows(255, 3), &embd, &cancel).unwrap();
            assert!(next(&mut first) == next(&mut second), "{what}");
        }
    }
}

/// Two sequences in one cache say what each says alone, also when one was wiped because of numbers that are none.
#[test]
fn sequences_on_a_device_do_not_see_each_other() {
    let config = config(DType::F32);
    let (embd, cancel) = (embeddings(), Cancel::new());
    let of_seq = |seq: u32, rows: Vec<Row>| rows.into_iter().map(move |row| Row { seq, ..row });
    let last = |logits: &[f32]| logits.iter().copied().map(f64::from).collect::<Vec<_>>();
    for (what, placement) in placements(&config) {
        let model = on_device(DType::F32, &placement);
        for kv_type in [KvType::F32, KvType::F16] {
            let new = |n_seq| Decoder::new(&model, 300, n_seq, kv_type).unwrap();
            let alone = |n: u32| {
                let logits = new(1).forward(&rows(0, n), &embd, &cancel).unwrap();
                last(logits.rows().last().unwrap())
            };
            let (short, long) = (alone(5), alone(259));
            let mut both = new(2);
            let together: Vec<_> = of_seq(0, rows(0, 5)).chain(of_seq(1, rows(0, 258))).collect();
            let logits = both.forward(&together, &embd, &cancel).unwrap();
            let is_near = |found: &[f32], expected: &[f64]| mean_error(&last(found), expected) < 5e-3;
            assert!(is_near(logits.rows().nth(4).unwrap(), &short), "{what}, {kv_type:?}");
            let poison = vec![f32::NAN; embd.len()];
            let next: Vec<_> = of_seq(0, rows(5, 1)).collect();
            let error = both.forward(&next, &poison, &cancel).unwrap_err().to_string();
            assert!(error.ends_with("logits: expected numbers, found infinities or NaN"), "{error}");
            assert_eq!((both.n_past(0), both.n_past(1)), (0, 258));
            for (seq, rows, expected) in [(0, rows(0, 5), &short), (1, rows(258, 1), &long)] {
                let rows: Vec<_> = of_seq(seq, rows).collect();
                let logits = both.forward(&rows, &embd, &cancel).unwrap();
                assert!(
                    is_near(logits.rows().last().unwrap(), expected),
                    "{what}, {kv_type:?}, sequence {seq}"
                );
            }
        }
    }
}

/// Bytes are planned by where they will be, and are what is then allocated there.
#[test]
fn bytes_are_planned_where_they_will_be() {
    let config = config(DType::F32);
    for (what, placement) in placements(&config) {
        let model = on_device(DType::F32, &placement);
        let text = Decoder::new(&model, 300, 1, KvType::F16).unwrap().pass_bytes(64).unwrap();
        let vision = VisionEncoder::new(&model).unwrap().bytes().unwrap();
        for device in 0..devices().len() {
            let place = Place::Device(device);
            assert_eq!(text.devices[device] > 0, placement.n_layers(place) > 0, "{what}: {text:?}");
            assert_eq!(vision.devices[device] > 0, placement.vision() == place, "{what}: {vision:?}");
        }
        assert!(text.cpu > 0 && vision.cpu > 0, "{what}: {text:?}, {vision:?}");
    }
}
