//! Graphs of two places: the CPU, and the stand-in for a device.

use std::sync::Arc;

use bytes::Bytes;

use super::misuse::panic_of;
use super::ne;
use crate::{
    Arg, Backend, Cancel, CustomOp, DType, Device, Executor, GraphBuilder, Memory, Place, StandIn, Tensor,
    TensorSpec, Tile, TileShape, Weights,
};

fn backend() -> Backend {
    Backend::with_devices(2, &[Device::stand_in()]).unwrap()
}

/// Matrices `a` and `b` `[4, 4]` of 0, 1, 2, .. and 16, 17, ..: the first on the CPU, the second on the device.
fn matrices(backend: &Backend) -> Weights {
    let values: Vec<u8> = (0..32u16).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let spec = |name: &str, offset, place| TensorSpec {
        name: name.into(),
        dtype: DType::F32,
        ne: ne(&[4, 4]),
        offset,
        place,
        turn: None,
    };
    let specs = [spec("a", 0, Place::Cpu), spec("b", 64, Place::Device(0))];
    Weights::new(backend, Bytes::from(values), &specs).unwrap()
}

/// Adds one, on the CPU.
struct Increment;

impl CustomOp for Increment {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        TileShape::columns(1)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        for column in tile.columns() {
            let n = args[0].ne()[0] as usize;
            let values = &args[0].f32s()[column * n..][..n];
            tile.column_f32(column).iter_mut().zip(values).for_each(|(out, value)| *out = value + 1.0);
        }
    }
}

/// `b * (a * x + 1) + 1`, a and the additions on the CPU, b on the device; the sums of before are in `memory`.
fn there_and_back(backend: &Backend, weights: &Weights, memory: &Memory) -> (GraphBuilder, [Tensor; 2]) {
    let mut b = GraphBuilder::new(backend, 32).unwrap();
    b.attach_weights(weights);
    b.attach_memory(memory);
    let x = b.input("x", DType::F32, ne(&[4, 2]));
    let first = b.mul_mat(weights.tensor("a").unwrap(), x);
    let first = b.custom("increment", DType::F32, ne(&[4, 2]), &[first], Arc::new(Increment));
    b.set_place(Place::Device(0));
    let second = b.mul_mat(weights.tensor("b").unwrap(), first);
    // A view goes where its source is, whatever place is set; what is computed of it does not.
    b.set_place(Place::Cpu);
    let shown = b.reshape(second, ne(&[2, 4]));
    assert_eq!((b.place_of(shown), b.place_of(first)), (Place::Device(0), Place::Cpu));
    let shown = b.reshape(shown, ne(&[4, 2]));
    let last = b.custom("increment", DType::F32, ne(&[4, 2]), &[shown], Arc::new(Increment));
    b.set_place(Place::Device(0));
    let sum = b.add(memory.tensor("sum").unwrap(), second);
    b.cpy(sum, memory.tensor("sum").unwrap());
    b.output(last);
    (b, [x, last])
}

#[test]
fn values_cross_and_weights_do_not() {
    let backend = backend();
    let weights = matrices(&backend);
    let memory = Memory::placed(&backend, &[("sum", DType::F32, ne(&[4, 2]), Place::Device(0))]).unwrap();
    let mut executor = Executor::new(&backend, 32).unwrap();
    let x = [1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 2.0, 0.0f32];
    // By hand: rows of a matrix lie one behind the other.
    let product = |first: f32, x: &[f32]| -> Vec<f32> {
        let row = |r: usize| x.iter().enumerate().map(|(i, x)| (first + (4 * r + i) as f32) * x).sum();
        (0..4).map(row).collect()
    };
    let expected: Vec<f32> = x
        .chunks(4)
        .flat_map(|x| {
            let first: Vec<f32> = product(0.0, x).into_iter().map(|v| v + 1.0).collect();
            product(16.0, &first)
        })
        .collect();
    for round in 1..=3 {
        // A new graph in each round, computed twice.
        let (graph, [input, last]) = there_and_back(&backend, &weights, &memory);
        executor.load(graph.build()).unwrap();
        for half in 0..2 {
            executor.set_f32(input, &x);
            executor.compute(&Cancel::new()).unwrap();
            let mut found = [0.0; 8];
            executor.read_f32(last, &mut found).unwrap();
            assert!(found.iter().zip(&expected).all(|(a, b)| *a == b + 1.0), "{found:?}, {expected:?}");
            let mut bytes = [0; 32];
            memory.read(memory.tensor("sum").unwrap(), 0, &mut bytes).unwrap();
            let n = (2 * round + half - 1) as f32;
            for (bytes, value) in bytes.chunks(4).zip(&expected) {
                assert_eq!(f32::from_ne_bytes(bytes.try_into().unwrap()), n * value, "round {round}");
            }
        }
    }
}

/// `c * (b * (a * x))`, a on the CPU, b on one device, c on another, which shares no memory with it.
#[test]
fn values_cross_from_device_to_device() {
    let backend = Backend::with_devices(2, &Device::stand_ins()[..2]).unwrap();
    let values: Vec<u8> = (0..12u16).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let places = [("a", Place::Cpu), ("b", Place::Device(1)), ("c", Place::Device(0))];
    let spec = |(i, (name, place)): (u64, (&str, Place))| TensorSpec {
        name: name.into(),
        dtype: DType::F32,
        ne: ne(&[2, 2]),
        offset: 16 * i,
        place,
        turn: None,
    };
    let specs: Vec<_> = (0..).zip(places).map(spec).collect();
    let weights = Weights::new(&backend, Bytes::from(values), &specs).unwrap();
    let build = |places: [Place; 3]| {
        let mut b = GraphBuilder::new(&backend, 8).unwrap();
        b.attach_weights(&weights);
        let x = b.input("x", DType::F32, ne(&[2, 1]));
        let mut y = x;
        for (name, place) in ["a", "b", "c"].into_iter().zip(places) {
            b.set_place(place);
            y = b.mul_mat(weights.tensor(name).unwrap(), y);
        }
        b.output(y);
        (b.build(), x, y)
    };
    let mut executor = Executor::new(&backend, 8).unwrap();
    let (graph, x, y) = build(places.map(|(_, place)| place));
    executor.load(graph).unwrap();
    for x_value in [1.0, -2.0] {
        executor.set_f32(x, &[x_value, 1.0]);
        executor.compute(&Cancel::new()).unwrap();
        let mut found = [0.0; 2];
        executor.read_f32(y, &mut found).unwrap();
        let mut expected = [x_value, 1.0];
        for first in [0.0, 4.0, 8.0] {
            let [p, q] = expected;
            expected = [first * p + (first + 1.0) * q, (first + 2.0) * p + (first + 3.0) * q];
        }
        assert_eq!(found, expected);
    }
    // The other device's weight is no more in reach than the CPU's.
    let (graph, ..) = build([Place::Cpu, Place::Device(0), Place::Device(0)]);
    let text = executor.load(graph).err().unwrap().to_string();
    assert!(text.starts_with("stand-in, stand-in 2: cannot compute"), "{text}");
    let twice = [Device::stand_in(), Device::stand_in()];
    let text = Backend::with_devices(1, &twice).err().unwrap().to_string();
    assert_eq!(text, "devices: expected each once, found stand-in twice");
}

#[test]
fn bytes_are_known_by_place() {
    let backend = backend();
    let weights = matrices(&backend);
    let memory = Memory::placed(&backend, &[("sum", DType::F32, ne(&[4, 2]), Place::Device(0))]).unwrap();
    let mut executor = Executor::new(&backend, 32).unwrap();
    let bytes = executor.bytes_for(there_and_back(&backend, &weights, &memory).0.build());
    assert!(
        bytes.cpu >= 64 && bytes.devices[0] >= 32 && bytes.total() == bytes.cpu + bytes.devices[0],
        "{bytes:?}"
    );
    assert!(backend.device_has_room(0, 1 << 20) && !backend.device_has_room(0, 1 << 60));
}

/// Nothing falls back in silence: what would be copied at every run, or run elsewhere, is refused.
#[test]
fn nothing_moves_by_itself() {
    let backend = backend();
    let weights = matrices(&backend);
    let refusal = |place, weight: &str| {
        let mut b = GraphBuilder::new(&backend, 8).unwrap();
        b.attach_weights(&weights);
        b.set_place(place);
        let x = b.input("x", DType::F32, ne(&[4, 2]));
        let product = b.mul_mat(weights.tensor(weight).unwrap(), x);
        b.name(product, "product");
        b.output(product);
        Executor::new(&backend, 8).unwrap().load(b.build()).err().map(|error| error.to_string())
    };
    let expected = Some("stand-in: cannot compute product (MUL_MAT) in its place".to_owned());
    assert_eq!(refusal(Place::Cpu, "b"), expected);
    assert_eq!(refusal(Place::Device(0), "a"), expected);
    assert_eq!([refusal(Place::Cpu, "a"), refusal(Place::Device(0), "b")], [None, None]);

    let mut b = GraphBuilder::new(&backend, 8).unwrap();
    b.set_place(Place::Device(0));
    let x = b.input("x", DType::F32, ne(&[4, 2]));
    let text = panic_of(|| b.custom("ours", DType::F32, ne(&[4, 2]), &[x], Arc::new(Increment)));
    assert_eq!(text, "ours: expected to run on the cpu, found a device");
    let cpu = Backend::cpu(1).unwrap();
    let mut b = GraphBuilder::new(&cpu, 8).unwrap();
    assert_eq!(
        panic_of(|| b.set_place(Place::Device(0))),
        "graph: expected a place among 0 devices, found number 0"
    );
}

#[test]
fn memory_of_a_device_is_zero_at_first_and_keeps_what_is_written() {
    let backend = backend();
    let specs = [("k", DType::F16, ne(&[3, 5]), Place::Device(0)), ("v", DType::F32, ne(&[2]), Place::Cpu)];
    let memory = Memory::placed(&backend, &specs).unwrap();
    let (k, v) = (memory.tensor("k").unwrap(), memory.tensor("v").unwrap());
    let mut bytes = [1; 30];
    memory.read(k, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 30]);
    memory.write(k, 28, &[7, 8]).unwrap();
    memory.write(v, 0, &[1; 8]).unwrap();
    memory.read(k, 0, &mut bytes).unwrap();
    assert_eq!(&bytes[26..], [0, 0, 7, 8]);
    let huge = ("k", DType::F32, [1 << 20, 1 << 22, 1, 1], Place::Device(0));
    let text = Memory::placed(&backend, &[huge]).err().unwrap().to_string();
    assert_eq!(text, "out of memory: 17592186044416 bytes for the memory of a session");
}

#[test]
fn a_device_says_what_it_is() {
    let device = Device::stand_in();
    assert_eq!(
        (device.name().as_str(), device.description().as_str()),
        ("stand-in", "the CPU in the place of a device")
    );
    assert!(device.memory().total >= device.memory().free && device.memory().total > 0);
    assert!(backend().devices().eq([&device]) && Backend::cpu(1).unwrap().n_devices() == 0);
    assert!(Device::ARE_BUILT_IN || Device::all().is_empty());
    assert!(backend().device_has_flash_attn(0, 32, [4, 2], DType::F16));
}

/// What ggml throws, and what it cannot go on with, is one error, again and again; the same weights serve once the device is
/// back.
#[test]
fn a_device_that_is_lost_is_an_error() {
    for (state, why) in [
        (StandIn::Throws, "it was pulled out"),
        // What the backend logged says more than its last words.
        (StandIn::Aborts, "stand-in error: it was torn out"),
    ] {
        let [_, _, device] = Device::stand_ins();
        let backend = Backend::with_devices(2, std::slice::from_ref(&device)).unwrap();
        let weights = matrices(&backend);
        let specs = [("sum", DType::F32, ne(&[4, 2]), Place::Device(0))];
        let memory = Memory::placed(&backend, &specs).unwrap();
        let run = |backend: &Backend, weights: &Weights, memory: &Memory| {
            let mut executor = Executor::new(backend, 32).unwrap();
            let (graph, [input, last]) = there_and_back(backend, weights, memory);
            executor.load(graph.build())?;
            executor.set_f32(input, &[1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 2.0, 0.0]);
            executor.compute(&Cancel::new())?;
            let mut found = [0.0; 8];
            executor.read_f32(last, &mut found).map(|()| found)
        };
        let expected = run(&backend, &weights, &memory).unwrap();
        let mut loaded = Executor::new(&backend, 32).unwrap();
        loaded.load(there_and_back(&backend, &weights, &memory).0.build()).unwrap();
        device.set_stand_in(state, 0);
        // Nothing that it has is freed now: with CUDA's backend that would end the process.
        drop(loaded);
        drop(Memory::placed(&backend, &specs));
        let text = format!("stand-in 3: lost, with all that is on it: {why}");
        for _ in 0..2 {
            assert_eq!(run(&backend, &weights, &memory).unwrap_err().to_string(), text);
        }
        // What was computed there may be wrong, whatever can still be read.
        let sum = memory.tensor("sum").unwrap();
        assert_eq!(memory.read(sum, 0, &mut [0; 32]).unwrap_err().to_string(), text);
        assert_eq!(backend.check().unwrap_err().to_string(), text);

        device.set_stand_in(StandIn::Works, 0);
        let again = backend.again().unwrap();
        let weights = weights.again(&again).unwrap();
        memory.release();
        let memory = Memory::placed(&again, &specs).unwrap();
        assert_eq!(run(&again, &weights, &memory).unwrap(), expected);
    }
}
