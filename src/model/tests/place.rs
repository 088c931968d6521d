//! Where parts go, and what they need there.

use ggml::{Backend, DType, Device, Place};
use owlet_format::{ModelConfig, TextConfig};

use super::tiny::{self, PROJECTOR, TEXT, TOWER};
use crate::model::place::{Ask, Needs, no_room};
use crate::model::{
    Decoder, GpuLayers, KvType, Placement, Purpose, VisionDevice, VisionEncoder, Wish, kv_bytes,
};

fn config() -> ModelConfig {
    tiny::config(Some(TOWER), Some(PROJECTOR), Some(TextConfig { n_layer: 40, ..TEXT }))
}

/// What a wish comes to where `room` text layers fit beside the tower and four more in its place.
fn most(layers: GpuLayers, vision: VisionDevice, room: Option<u32>) -> Option<(Place, u32)> {
    let place = |ask: &Ask| {
        let (vision, fits) = match (ask.vision, room) {
            (true, room) => (Place::Device(0), room.is_some_and(|room| ask.n_layers <= room)),
            (false, room) => (Place::Cpu, ask.n_layers <= room.unwrap_or(0) + 4),
        };
        (fits && !ask.shares).then(|| Placement::new(&config(), vision, &[ask.n_layers]))
    };
    let most = Wish { layers, vision }.most(&config(), place)?;
    Some((most.vision(), most.n_device_layers()))
}

#[test]
fn the_tower_comes_first_and_what_was_asked_for_stays() {
    use GpuLayers::{All, Auto, Last};
    let (cpu, device) = (Place::Cpu, Place::Device(0));
    let cases = [
        (Auto, VisionDevice::Auto, Some(40), Some((device, 40))),
        (Auto, VisionDevice::Auto, Some(7), Some((device, 7))),
        (Auto, VisionDevice::Auto, Some(0), Some((device, 0))),
        (Auto, VisionDevice::Auto, None, Some((cpu, 4))),
        (Auto, VisionDevice::Gpu, None, None),
        (Auto, VisionDevice::Cpu, Some(7), Some((cpu, 11))),
        (All, VisionDevice::Auto, Some(7), None),
        (All, VisionDevice::Auto, Some(36), Some((cpu, 40))),
        (Last(9), VisionDevice::Auto, Some(7), Some((cpu, 9))),
        (Last(9), VisionDevice::Gpu, Some(7), None),
        (Last(99), VisionDevice::Gpu, Some(40), Some((device, 40))),
        (Last(0), VisionDevice::Auto, Some(0), Some((device, 0))),
    ];
    for (layers, vision, room, expected) in cases {
        assert_eq!(most(layers, vision, room), expected, "{layers:?}, {vision:?}, room for {room:?}");
    }
}

#[test]
fn tensors_go_with_their_part() {
    let placed = Placement::new(&config(), Place::Device(1), &[2, 1]);
    let cases = [
        ("v.blk.1.ln1.weight", Place::Device(1)),
        ("mm.0.weight", Place::Device(1)),
        ("token_embd.weight", Place::Cpu),
        ("blk.36.attn_q.weight", Place::Cpu),
        ("blk.37.attn_q.weight", Place::Device(1)),
        ("blk.38.attn_q.weight", Place::Device(0)),
        ("blk.39.ffn_norm.weight", Place::Device(0)),
        ("output_norm.weight", Place::Device(0)),
        ("output.weight", Place::Device(0)),
    ];
    for (tensor, expected) in cases {
        assert_eq!(placed.of(tensor), expected, "{tensor}");
    }
    assert!(cases.iter().all(|(tensor, _)| Placement::cpu().of(tensor) == Place::Cpu));
    assert_eq!(placed.to_string(), "the vision half and 3 of 40 text layers");
    let shares = [0, 1, 2].map(|device| placed.on_device(device));
    let words = ["2 of 40 text layers", "the vision half and 1 of 40 text layers"];
    assert_eq!(shares, [Some(words[0].into()), Some(words[1].into()), None]);
}

/// Sizes are whole numbers: a layer 10, the output matrix 5, buffers of the text 3, the tower 100.
fn needs() -> Needs {
    Needs { vision_weights: 90, vision_buffers: 10, layers: vec![8; 40], kv: 2, output: 5, text_buffers: 3 }
}

#[test]
fn layers_are_spread_by_free_memory() {
    let needs = needs();
    // The tower, layers, and what devices have free: where the tower goes, and how many layers each device gets.
    let expect = |vision, n_layers, rooms: &[u64], expected: Option<(Place, &[u32])>| {
        let placement = needs.spread(&config(), Ask { vision, n_layers, shares: false }, rooms);
        for (device, &room) in rooms.iter().enumerate() {
            let used = placement.as_ref().map_or(0, |placement| needs.on_device(placement, device));
            assert!(used <= room, "{rooms:?}: {placement:?}");
        }
        let expected = expected.map(|(vision, n)| Placement::new(&config(), vision, n));
        assert_eq!(placement, expected, "{vision}, {n_layers}, {rooms:?}");
    };
    let (cpu, device) = (Place::Cpu, Place::Device);
    expect(true, 40, &[508], Some((device(0), &[40])));
    expect(true, 40, &[507], None);
    // The output matrix is with the last layers.
    expect(false, 40, &[1000, 1000], Some((cpu, &[20, 20])));
    expect(false, 40, &[1500, 500], Some((cpu, &[30, 10])));
    expect(true, 40, &[1100, 1000], Some((device(0), &[20, 20])));
    // To the last byte of both, and one byte less.
    expect(false, 40, &[208, 203], Some((cpu, &[20, 20])));
    expect(false, 40, &[207, 203], None);
    // The first device is too small for anything, or for the tower only.
    expect(true, 10, &[2, 300], Some((device(1), &[0, 10])));
    expect(true, 9, &[99, 110], Some((device(1), &[9, 0])));
}

/// What a wish comes to on devices with so much free, how many layers share memory, and what a picture moves then.
#[test]
fn layers_share_memory_with_the_tower_where_that_brings_more_of_them() {
    use GpuLayers::{All, Auto, Last};
    let needs = needs();
    let (cpu, first, second) = (Place::Cpu, Place::Device(0), Place::Device(1));
    type Expected = Option<(Place, &'static [u32], u32, u64)>;
    let cases: [(_, _, &[u64], Expected); 18] = [
        // All of both fit beside each other, to the last byte; then a layer has to share, then more.
        (Auto, VisionDevice::Auto, &[508], Some((first, &[40], 0, 0))),
        (Auto, VisionDevice::Auto, &[507], Some((first, &[40], 1, 2 * 8))),
        (Auto, VisionDevice::Auto, &[420], Some((first, &[40], 11, 2 * 88))),
        // Layers that share are more than the tower: what lies behind it stays when pictures come.
        (Auto, VisionDevice::Auto, &[419], Some((first, &[40], 12, 2 * 90))),
        // Sharing has an end, since caches stay.
        (Auto, VisionDevice::Auto, &[417], Some((first, &[39], 11, 2 * 88))),
        (Auto, VisionDevice::Auto, &[110], Some((first, &[1], 1, 2 * 8))),
        (Auto, VisionDevice::Auto, &[109], Some((first, &[], 0, 0))),
        (Auto, VisionDevice::Auto, &[99], Some((cpu, &[9], 0, 0))),
        // What is asked for shares only where it does not fit otherwise.
        (All, VisionDevice::Gpu, &[420], Some((first, &[40], 11, 2 * 88))),
        (All, VisionDevice::Gpu, &[417], None),
        (All, VisionDevice::Auto, &[417], Some((cpu, &[40], 0, 0))),
        (Auto, VisionDevice::Cpu, &[420], Some((cpu, &[40], 0, 0))),
        (Last(9), VisionDevice::Auto, &[198], Some((first, &[9], 0, 0))),
        (Last(9), VisionDevice::Auto, &[197], Some((first, &[9], 1, 2 * 8))),
        (Last(0), VisionDevice::Auto, &[197], Some((first, &[], 0, 0))),
        // Layers of another device do not.
        (Auto, VisionDevice::Auto, &[100, 408], Some((first, &[0, 40], 0, 0))),
        (Auto, VisionDevice::Auto, &[99, 420], Some((second, &[9, 31], 0, 0))),
        (Auto, VisionDevice::Auto, &[30, 420], Some((second, &[2, 38], 8, 2 * 64))),
    ];
    for (layers, vision, rooms, expected) in cases {
        let place = |ask: &Ask| needs.spread(&config(), *ask, rooms);
        let placement = Wish { layers, vision }.most(&config(), place);
        let case = format!("{layers:?}, {vision:?}, {rooms:?}");
        for (device, &room) in rooms.iter().enumerate() {
            let used = placement.as_ref().map_or(0, |placement| needs.on_device(placement, device));
            assert!(used <= room, "{case}: {used} on {device}");
        }
        let exchanged = placement.as_ref().map(|placement| needs.exchanged(placement));
        let found = placement.zip(exchanged);
        let expected = expected.map(|(vision, n_layers, n_shared, exchanged)| {
            (Placement::new(&config(), vision, n_layers).sharing(n_shared), exchanged)
        });
        assert_eq!(found, expected, "{case}");
    }
}

#[test]
fn the_first_layers_on_the_towers_device_share_its_memory() {
    let placed = Placement::new(&config(), Place::Device(1), &[2, 3]).sharing(2);
    let cases = [
        ("v.blk.1.ln1.weight", Some(0)),
        ("mm.0.weight", Some(0)),
        ("blk.34.attn_q.weight", None),
        ("blk.35.attn_q.weight", Some(1)),
        ("blk.36.ffn_norm.weight", Some(1)),
        ("blk.37.attn_q.weight", None),
        ("blk.39.attn_q.weight", None),
        ("output.weight", None),
        ("token_embd.weight", None),
    ];
    for (tensor, expected) in cases {
        assert_eq!(placed.turn(tensor), expected, "{tensor}");
        assert_eq!(Placement::new(&config(), Place::Device(1), &[2, 3]).turn(tensor), None, "{tensor}");
    }
    assert_eq!(
        placed.on_device(1).unwrap(),
        "the vision half and 3 of 40 text layers (2 of them away while a picture is looked at)"
    );
    assert_eq!(placed.on_device(0).unwrap(), "2 of 40 text layers");
    // There is nothing to share on the CPU, nor more than there is.
    assert!(!Placement::new(&config(), Place::Cpu, &[2]).sharing(2).shares());
    assert_eq!(placed.clone().sharing(9), placed.sharing(3));
}

/// What is planned is at least what is then there, and not half as much again.
#[test]
fn needs_are_what_is_then_allocated() {
    const N_CTX: u32 = 512;
    let config = tiny::config(Some(TOWER), Some(PROJECTOR), Some(TEXT));
    let purpose = Purpose { n_ctx: N_CTX, n_seq: 1, kv_type: KvType::F16 };
    let specs = config.tensors();
    let tensors = || specs.iter().map(|spec| (spec.name.as_str(), spec.ne.n_bytes(DType::F32).unwrap()));
    let needs = Needs::of(tensors(), &config, purpose);
    let placement = Placement::new(&config, Place::Device(0), &[2]);
    let caches = needs.kv * u64::from(TEXT.n_layer);
    let weights = needs.vision_weights + needs.output + needs.layers.iter().sum::<u64>() + caches;
    let is_placed = |name: &str| placement.of(name).is_device();
    let of_tensors: u64 = tensors().filter(|(name, _)| is_placed(name)).map(|(_, n_bytes)| n_bytes).sum();
    let placed = of_tensors + kv_bytes(&TEXT, N_CTX, 1, KvType::F16);
    assert!((placed..placed + placed / 50).contains(&weights), "{weights}, {placed}");

    let backend = Backend::with_devices(2, &[Device::stand_in()]).unwrap();
    let (model, _) = tiny::placed(&config, DType::F32, &backend, placement);
    let vision = VisionEncoder::new(&model).unwrap().bytes().unwrap().devices[0];
    let text = Decoder::new(&model, N_CTX, 1, KvType::F16).unwrap().pass_bytes(512).unwrap().devices[0];
    println!("vision {vision} of {}, text {text} of {}", needs.vision_buffers, needs.text_buffers);
    assert!(vision <= needs.vision_buffers && needs.vision_buffers < 2 * vision);
    assert!(text <= needs.text_buffers);
}

#[test]
fn too_little_is_said_with_what_would_fit() {
    let config = tiny::config(Some(TOWER), Some(PROJECTOR), Some(TextConfig { n_layer: 1, ..TEXT }));
    let needs = Needs {
        vision_weights: 6_000_000_000,
        vision_buffers: 300_000_000,
        layers: vec![150_000_000],
        kv: 50_000_000,
        output: 100_000_000,
        text_buffers: 400_000_000,
    };
    let wanted = Placement::new(&config, Place::Device(0), &[1]);
    let said = |fitting| no_room(&[&Device::stand_in()], &needs, &wanted, &fitting).to_string();
    let text = said(Placement::new(&config, Place::Cpu, &[1]));
    let start = "stand-in: the vision half and 1 of 1 text layers need 7.00 GB and 0.81 GB beside them, ";
    assert!(text.starts_with(start) && text.ends_with(" are free; 1 of 1 text layers fit"), "{text}");
    assert!(said(Placement::cpu()).ends_with("; nothing of it fits"));
    let text = said(Placement::new(&config, Place::Device(0), &[1]).sharing(1));
    let end = "; the vision half and 1 of 1 text layers (1 of them away while a picture is looked at) fit";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn words_of_the_command_line() {
    let layers = ["auto", "all", "0", "41"].map(|word| word.parse::<GpuLayers>().unwrap());
    assert_eq!(layers, [GpuLayers::Auto, GpuLayers::All, GpuLayers::Last(0), GpuLayers::Last(41)]);
    let text = "-1".parse::<GpuLayers>().unwrap_err().to_string();
    assert_eq!(text, "gpu layers: expected a number, auto or all, found -1");
    let text = "npu".parse::<VisionDevice>().unwrap_err().to_string();
    assert_eq!(text, "vision device: expected auto, cpu or gpu, found npu");
}
