//! Weights that share the memory of a device with others.

use bytes::Bytes;

use super::misuse::panic_of;
use super::{ne, noise};
use crate::{
    Backend, Cancel, DType, Device, Error, Executor, GraphBuilder, Place, Result, StandIn, StandInMemory,
    TensorSpec, Weights,
};

const MATRIX_BYTES: u64 = 4 * 4 * 4;

/// Three of turn 0, one of turn 1 that lies over the first of those, and one that stays.
const MATRICES: [(&str, Option<u8>); 5] =
    [("a0", Some(0)), ("b0", Some(1)), ("a1", Some(0)), ("stays", None), ("a2", Some(0))];

const A: &[&str] = &["a0", "stays", "a1", "a2"];
const B: &[&str] = &["stays", "b0"];

fn weights(backend: &Backend, place: Place) -> Weights {
    let values = noise(7, MATRICES.len() * 16);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let spec = |(i, (name, turn)): (u64, (&str, Option<u8>))| TensorSpec {
        name: name.into(),
        dtype: DType::F32,
        ne: ne(&[4, 4]),
        offset: i * MATRIX_BYTES,
        place,
        turn,
    };
    let specs: Vec<_> = (0..).zip(MATRICES).map(spec).collect();
    Weights::new(backend, Bytes::from(bytes), &specs).unwrap()
}

fn graph(backend: &Backend, weights: &Weights, factors: &[&str]) -> (GraphBuilder, [crate::Tensor; 2]) {
    let mut b = GraphBuilder::new(backend, 32).unwrap();
    b.attach_weights(weights);
    b.set_place(weights.place(weights.tensor(factors[0]).unwrap()));
    let x = b.input("x", DType::F32, ne(&[4, 2]));
    // A view of a weight is that weight, too.
    let matrix = |b: &mut GraphBuilder, name| b.reshape(weights.tensor(name).unwrap(), ne(&[4, 4]));
    let product = factors.iter().fold(x, |product, name| {
        let matrix = matrix(&mut b, name);
        b.mul_mat(matrix, product)
    });
    b.output(product);
    (b, [x, product])
}

/// The product of these matrices with numbers.
fn product(backend: &Backend, weights: &Weights, factors: &[&str], cancel: &Cancel) -> Result<[f32; 8]> {
    let (graph, [input, output]) = graph(backend, weights, factors);
    let mut executor = Executor::new(backend, 32)?;
    executor.load(graph.build())?;
    executor.set_f32(input, &noise(1, 8));
    executor.compute(cancel)?;
    let mut values = [0.0; 8];
    executor.read_f32(output, &mut values).map(|()| values)
}

/// A device that has room for them, and not for all of them at once.
fn small() -> (Device, Backend) {
    small_of(1 << 20)
}

fn small_of(n_bytes: u64) -> (Device, Backend) {
    let device = Device::small_stand_in(n_bytes);
    let backend = Backend::with_devices(1, std::slice::from_ref(&device)).unwrap();
    (device, backend)
}

fn expected(factors: &[&str]) -> [f32; 8] {
    let backend = Backend::cpu(1).unwrap();
    product(&backend, &weights(&backend, Place::Cpu), factors, &Cancel::new()).unwrap()
}

#[test]
fn turns_share_memory_and_only_what_was_overwritten_comes_back() {
    let (device, backend) = small();
    let weights = weights(&backend, Place::Device(0));
    let n_bytes = 4 * MATRIX_BYTES;
    let before = device.stand_in_memory();
    assert_eq!(before, StandInMemory { allocated: n_bytes, most: n_bytes, written: MATRIX_BYTES });
    let mut written = before.written;
    for (factors, n_matrices) in [(A, 3), (A, 0), (B, 1), (B, 0), (A, 1), (B, 1), (&["stays"], 0), (B, 0)] {
        let found = product(&backend, &weights, factors, &Cancel::new()).unwrap();
        assert_eq!(found, expected(factors), "{factors:?}");
        written += n_matrices * MATRIX_BYTES;
        assert_eq!(device.stand_in_memory().written, written, "{factors:?}");
    }
    assert_eq!(device.stand_in_memory().allocated, n_bytes, "only weights stay");
}

/// A graph that is kept sees its own weights each time, whoever computed meanwhile.
#[test]
fn a_loaded_graph_finds_its_weights() {
    let (_, backend) = small();
    let weights = weights(&backend, Place::Device(0));
    let (kept, [input, output]) = graph(&backend, &weights, A);
    let mut executor = Executor::new(&backend, 32).unwrap();
    executor.load(kept.build()).unwrap();
    executor.set_f32(input, &noise(1, 8));
    for _ in 0..3 {
        let other = product(&backend, &weights, B, &Cancel::new()).unwrap();
        executor.compute(&Cancel::new()).unwrap();
        let mut found = [0.0; 8];
        executor.read_f32(output, &mut found).unwrap();
        assert_eq!((found, other), (expected(A), expected(B)));
    }
}

#[test]
fn a_device_may_be_lost_while_weights_come() {
    for (state, why) in [
        (StandIn::Throws, "it was pulled out"),
        (StandIn::Aborts, "stand-in error: it was torn out"),
        // What did not come is not computed with, even where the device would.
        (StandIn::ThrowsOnce, "it was pulled out"),
    ] {
        let (device, backend) = small();
        let first = weights(&backend, Place::Device(0));
        product(&backend, &first, B, &Cancel::new()).unwrap();
        device.set_stand_in(state, 2 * MATRIX_BYTES);
        for _ in 0..2 {
            let text = product(&backend, &first, A, &Cancel::new()).unwrap_err().to_string();
            assert_eq!(text, format!("small stand-in: lost, with all that is on it: {why}"));
        }
        device.set_stand_in(StandIn::Works, 0);
        let again = backend.again().unwrap();
        let weights = first.again(&again).unwrap();
        for factors in [A, B, A] {
            assert_eq!(product(&again, &weights, factors, &Cancel::new()).unwrap(), expected(factors));
        }
    }
}

#[test]
fn a_cancelled_graph_brings_nothing() {
    let (device, backend) = small();
    let weights = weights(&backend, Place::Device(0));
    let cancel = Cancel::new();
    cancel.cancel();
    let text = product(&backend, &weights, A, &cancel).unwrap_err().to_string();
    assert_eq!((text.as_str(), device.stand_in_memory().written), ("cancelled", MATRIX_BYTES));
}

/// Between two of many matrices, whenever somebody raises it there; those that came stay.
#[test]
fn weights_on_their_way_can_be_cancelled() {
    const N: u64 = 64;
    const SIDE: u64 = 128;
    let matrix_bytes = SIDE * SIDE * 4;
    let (device, backend) = small_of(1 << 28);
    let bytes = Bytes::from(vec![0; (N * matrix_bytes) as usize]);
    let spec = |i| TensorSpec {
        name: format!("a{i}"),
        dtype: DType::F32,
        ne: ne(&[SIDE, SIDE]),
        offset: i * matrix_bytes,
        place: Place::Device(0),
        turn: Some(0),
    };
    let specs: Vec<_> = (0..N).map(spec).collect();
    let is_caught = || {
        let weights = Weights::new(&backend, bytes.clone(), &specs).unwrap();
        let mut b = GraphBuilder::new(&backend, 256).unwrap();
        b.attach_weights(&weights);
        b.set_place(Place::Device(0));
        let x = b.input("x", DType::F32, ne(&[SIDE, 1]));
        let out = specs.iter().fold(x, |x, spec| b.mul_mat(weights.tensor(&spec.name).unwrap(), x));
        b.output(out);
        let mut executor = Executor::new(&backend, 256).unwrap();
        executor.load(b.build()).unwrap();
        executor.set_f32(x, &[0.0; SIDE as usize]);
        let written = || device.stand_in_memory().written;
        let (before, cancel) = (written(), Cancel::new());
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while written() == before {
                    std::hint::spin_loop();
                }
                cancel.cancel();
            });
            executor.compute(&cancel)
        });
        let part = written() - before;
        executor.compute(&Cancel::new()).unwrap();
        assert_eq!(written() - before, N * matrix_bytes, "each came once");
        matches!(result, Err(Error::Cancelled)) && part < N * matrix_bytes
    };
    assert!((0..100).any(|_| is_caught()), "nobody is ever heard");
}

#[test]
fn no_graph_has_weights_of_two_turns_or_of_another_backend() {
    let (_, backend) = small();
    let (_, other) = small();
    let weights = weights(&backend, Place::Device(0));
    let text = panic_of(|| graph(&backend, &weights, &["a0", "b0"]).0.build());
    assert_eq!(text, "graph: expected weights of one turn, found some of two");
    let text = panic_of(|| graph(&other, &weights, B));
    assert_eq!(text, "graph: expected weights of the same backend");
}
