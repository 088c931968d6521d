//! Answers about pictures where tower and text layers share the memory of a device.

use crate::engine::loan::Loan;
use crate::engine::order::Wanted;
use crate::engine::scheduler::by_hand;
use crate::engine::{
    Engine, Event, FinishReason, Loaded, Options, Outcome, Request, Scope, Ticket, open_file,
};
use crate::model::{Arithmetic, GpuLayers, Kernels, KvType, Model, Placement, Purpose, VisionDevice, Wish};
use crate::prompt::{Message, Pixels};
use ggml::{Backend, Device, Place, StandIn};
use std::sync::Arc;
use std::time::Duration;

const N_SLOTS: u32 = 2;

/// The built-in model, all of it on a device, so many of its text layers in turns with the tower.
pub fn loaded(device: &Device, n_shared: u32) -> Loaded {
    let mut loaded = Loaded::open(None, 1).unwrap();
    let file = open_file(None).unwrap();
    let backend = Backend::with_devices(1, std::slice::from_ref(device)).unwrap();
    let n_layer = loaded.text.n_layer;
    let placement = Placement::new(&loaded.config, Place::Device(0), &[n_layer]).sharing(n_shared);
    let kernels = Kernels::of_this_machine(Arithmetic::Packed);
    loaded.model = Model::load_placed(&file, &loaded.config, &backend, kernels, placement).unwrap();
    loaded
}

pub fn options() -> Options {
    by_hand::options(512, N_SLOTS)
}

fn engine(device: &Device, n_shared: u32) -> Engine {
    Engine::start(loaded(device, n_shared), options()).unwrap()
}

pub fn n_layer() -> u32 {
    Loaded::open(None, 1).unwrap().text.n_layer
}

pub fn picture(seed: u8) -> Arc<Pixels> {
    const SIZE: usize = 112;
    let rgb: Vec<u8> = (0..SIZE * SIZE * 3).map(|i| (i as u8).wrapping_mul(seed)).collect();
    let planes = rgb.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect();
    Arc::new(Pixels { size_px: SIZE, rgb: Arc::new(rgb), planes })
}

pub fn about(seed: u8) -> Request {
    let messages = vec![Message::user("What is in the picture?", [0])];
    Request { max_tokens: 8, logprobs: Some(0), ..Request::new(messages, vec![picture(seed)]) }
}

pub fn words() -> Request {
    let messages = vec![Message::user("Who are you?", [])];
    Request { max_tokens: 8, logprobs: Some(0), ..Request::new(messages, vec![]) }
}

/// An answer, and how likely its tokens were.
fn answer(ticket: &Ticket) -> crate::Result<(Outcome, Vec<f32>)> {
    let mut likely = Vec::new();
    loop {
        match ticket.next_event() {
            Event::Chosen(token) => likely.push(token.logprob),
            Event::Done(outcome) => return Ok((outcome, likely)),
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
}

fn ask(engine: &Engine, request: Request) -> (String, Vec<f32>) {
    let (outcome, likely) = answer(&engine.submit(request).unwrap()).unwrap();
    (outcome.text, likely)
}

fn written(device: &Device) -> u64 {
    device.stand_in_memory().written
}

#[test]
fn answers_are_those_of_layers_that_share_nothing() {
    let (apart, device) = (engine(&Device::stand_in(), 0), Device::small_stand_in(1 << 30));
    let shared = engine(&device, n_layer());
    let questions = || [about(3), words(), about(7), about(5), words()];
    for (expected, found) in questions().into_iter().zip(questions()) {
        assert_eq!(ask(&shared, found), ask(&apart, expected));
    }
    // What was looked at before needs no tower.
    let before = written(&device);
    for seed in [3, 5, 7] {
        assert_eq!(ask(&shared, about(seed)), ask(&apart, about(seed)));
    }
    assert_eq!(written(&device), before);
}

/// Two pictures that wait cost one exchange, as one does.
#[test]
fn pictures_that_wait_are_looked_at_together() {
    let device = Device::small_stand_in(1 << 30);
    let engine = engine(&device, n_layer());
    ask(&engine, about(2));
    let alone = ask_all(&engine, &device, &[3]);
    assert!(alone > 0);
    // Whoever comes a moment later than the other may have to wait for text.
    let both = [[11, 12], [13, 14], [15, 16]].map(|seeds| ask_all(&engine, &device, &seeds));
    assert_eq!(both.into_iter().min(), Some(alone), "{both:?}");
    // Features of pictures alike; text has its weights to bring afterwards.
    let features = |seed| engine.embed(Scope::SHARED, picture(seed)).unwrap();
    let before = written(&device);
    let both = [features(21), features(22)];
    for features in both {
        features.wait_within(Duration::from_secs(60)).unwrap().unwrap();
    }
    ask(&engine, words());
    assert_eq!(written(&device) - before, alone);
}

/// Asks about all of these at once; yields what that wrote to the device.
fn ask_all(engine: &Engine, device: &Device, seeds: &[u8]) -> u64 {
    let before = written(device);
    // What is submitted while a borrower has the slots is admitted when they are given back.
    let slots = 0..N_SLOTS as usize;
    let loans: Vec<_> = slots.map(|slot| Loan::new(&engine.orders, Wanted::Slot(slot)).unwrap()).collect();
    let tickets: Vec<_> = seeds.iter().map(|&seed| engine.submit(about(seed)).unwrap()).collect();
    drop(loans);
    tickets.iter().for_each(|ticket| drop(answer(ticket).unwrap()));
    written(device) - before
}

/// Streams go on beside each other, each with its own pictures, and say what they say alone.
#[test]
fn two_streams_have_pictures() {
    let (alone, device) = (engine(&Device::stand_in(), 0), Device::small_stand_in(1 << 30));
    let shared = engine(&device, n_layer());
    let streams = [[31, 32, 33], [41, 42, 43]];
    let expected = streams.map(|seeds| seeds.map(|seed| ask(&alone, about(seed)).0));
    std::thread::scope(|scope| {
        for (seeds, expected) in streams.into_iter().zip(expected) {
            let shared = &shared;
            scope.spawn(move || assert_eq!(seeds.map(|seed| ask(shared, about(seed)).0), expected));
        }
    });
}

/// With half of the weights of either half there.
#[test]
fn a_device_lost_in_an_exchange_costs_one_answer() {
    let (apart, device) = (engine(&Device::stand_in(), 0), Device::small_stand_in(1 << 30));
    let shared = engine(&device, n_layer());
    ask(&shared, about(1));
    let before = written(&device);
    ask(&shared, about(2));
    let exchange = written(&device) - before;
    // In the tower's weights, and in those of the text behind them.
    for (seed, n_bytes) in [(3, exchange / 4), (4, exchange / 4 * 3)] {
        device.set_stand_in(StandIn::Throws, n_bytes);
        let error = answer(&shared.submit(about(seed)).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("small stand-in: lost"), "{error}");
        device.set_stand_in(StandIn::Works, 0);
        assert_eq!(ask(&shared, about(seed)), ask(&apart, about(seed)));
        assert_eq!(ask(&shared, words()), ask(&apart, words()));
    }
}

/// At each step of the tower, and in the prompt behind it.
#[test]
fn a_cancelled_exchange_costs_one_answer() {
    let (apart, device) = (engine(&Device::stand_in(), 0), Device::small_stand_in(1 << 30));
    let shared = engine(&device, n_layer());
    for (n, seed) in (50..60).enumerate() {
        let ticket = shared.submit(about(seed)).unwrap();
        for _ in 0..n {
            ticket.next_event();
        }
        ticket.cancel().cancel();
        let (outcome, _) = answer(&ticket).unwrap();
        assert!(n > 4 || outcome.finish_reason == FinishReason::Cancelled, "{n}");
        let request = || if n % 2 == 0 { words() } else { about(seed) };
        assert_eq!(ask(&shared, request()), ask(&apart, request()), "{n}");
    }
}

/// What is planned by the memory of a device, and that it is enough.
#[test]
fn a_plan_shares_where_not_all_fits() {
    const RESERVE: u64 = 768 << 20;
    let file = open_file(None).unwrap();
    let loaded = Loaded::open(None, 1).unwrap();
    let purpose = Purpose { n_ctx: 512, n_seq: 1, kv_type: KvType::F16 };
    let plan = |n_bytes: u64, layers, vision| {
        let device = Device::small_stand_in(RESERVE + n_bytes);
        let backend = Backend::with_devices(1, std::slice::from_ref(&device)).unwrap();
        let fit = Placement::plan(&file, &loaded.config, &backend, Wish { layers, vision }, purpose);
        fit.inspect(|fit| assert!(fit.device_bytes[0] <= n_bytes))
    };
    let (auto, all) = ((GpuLayers::Auto, VisionDevice::Auto), (GpuLayers::All, VisionDevice::Gpu));
    let fit = plan(1 << 30, auto.0, auto.1).unwrap();
    assert!(!fit.placement.shares() && fit.placement.n_device_layers() == n_layer());
    assert_eq!(fit.exchanged_bytes, 0);
    let enough = fit.device_bytes[0];
    for wish in [auto, all] {
        let fit = plan(enough - 1, wish.0, wish.1).unwrap();
        assert!(fit.placement.shares() && fit.placement.n_device_layers() == n_layer(), "{wish:?}");
        assert!(fit.placement.vision().is_device() && fit.exchanged_bytes > 0, "{wish:?}");
    }
    let too_little = plan(1 << 20, all.0, all.1).unwrap_err().to_string();
    assert!(too_little.contains("away while a picture is looked at) need "), "{too_little}");
}
