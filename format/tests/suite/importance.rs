//! Importance matrices of strangers: each lie is one line, and thousands of small ones are read or refused.

use std::fs;

use owlet_format::Importance;

use crate::mutate::Mutator;
use crate::raw::{ARRAY, BOOL, Raw, STRING, U8, U32, array, string};

const F32: u32 = 0;
const F16: u32 = 1;

/// One weight in rows of `sums`, measured `count` times.
fn raw(sums: &[f32], count: f32) -> Raw {
    let n_bytes = (sums.len() * 4).next_multiple_of(32);
    let mut data = vec![0; n_bytes + 32];
    data[n_bytes..n_bytes + 4].copy_from_slice(&count.to_le_bytes());
    sums.iter()
        .enumerate()
        .for_each(|(at, sum)| data[4 * at..4 * at + 4].copy_from_slice(&sum.to_le_bytes()));
    Raw::new()
        .key("general.type", STRING, string("imatrix"))
        .tensor("w.in_sum2", &[sums.len() as u64], F32, 0)
        .tensor("w.counts", &[1], F32, n_bytes as u64)
        .bytes(data)
}

fn read(dir: &tempfile::TempDir, bytes: &[u8]) -> Result<Importance, String> {
    let path = dir.path().join("imatrix.gguf");
    fs::write(&path, bytes).unwrap();
    let said = |error: owlet_format::Error| error.to_string().replace(&format!("{}: ", path.display()), "");
    Importance::read(&path).map_err(said)
}

#[test]
fn each_lie_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let sound = read(&dir, &raw(&[1.0, 4.0], 2.0).build()).unwrap();
    assert_eq!((sound.of("w"), sound.is_folded, sound.subject), (Some(vec![0.5, 2.0]), false, None));
    let named = |name: &str, ne: &[u64], dtype| {
        let raw = Raw::new().key("general.type", STRING, string("imatrix"));
        raw.tensor(name, ne, dtype, 0).data(64)
    };
    let cases = [
        (Raw::new(), "key general.type: expected string, found no such key"),
        (
            Raw::new().key("general.type", STRING, string("model")),
            "key general.type: expected imatrix, found model",
        ),
        (raw(&[1.0], f32::NAN), "tensor w.counts: expected finite numbers from 0 on, found NaN at 0"),
        (raw(&[1.0], 0.0), "tensor w.counts: expected rows, found 0"),
        (raw(&[1.0, -1.0], 1.0), "tensor w.in_sum2: expected finite numbers from 0 on, found -1 at 1"),
        (raw(&[f32::INFINITY], 1.0), "tensor w.in_sum2: expected finite numbers from 0 on, found inf at 0"),
        (
            raw(&[0.0, 3e38], 1.0),
            "tensor w.in_sum2: place 1: expected a mean square of at most 1e15, found more",
        ),
        (raw(&[1.0], 1e-40), "tensor w.in_sum2: place 0: expected a mean square of at most 1e15, found more"),
        (named("w.in_sum2", &[8], F32), "tensor w.counts: expected, not found"),
        (named("w.in_sum2", &[8], F16), "tensor w.in_sum2: expected f32 in a vector, found f16 in ne [8]"),
        (
            named("w.in_sum2", &[4, 2], F32),
            "tensor w.in_sum2: expected f32 in a vector, found f32 in ne [4, 2]",
        ),
        (
            raw(&[1.0], 1.0).key("imatrix.datasets", U32, [0; 4]),
            "key imatrix.datasets: expected array of string, found u32",
        ),
        (
            raw(&[1.0], 1.0).key("imatrix.chunk_count", BOOL, [1]),
            "key imatrix.chunk_count: expected u32, found bool",
        ),
        (
            raw(&[1.0], 1.0).key("owlet.imatrix.folded", U8, [1]),
            "key owlet.imatrix.folded: expected bool, found u8",
        ),
        (
            raw(&[1.0], 1.0).key("owlet.imatrix.subject", ARRAY, array(U8, 31, [0; 31])),
            "key owlet.imatrix.subject: expected 32 bytes, found 31",
        ),
    ];
    for (raw, expected) in cases {
        assert_eq!(read(&dir, &raw.build()), Err(expected.to_string()));
    }
}

#[test]
fn mutated_ones_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = raw(&[1.0; 16], 2.0).build();
    let mut mutator = Mutator::new(3);
    let mut n_accepted = 0;
    for n in 0..5_000 {
        let mut bytes = good.clone();
        let reach = bytes.len();
        mutator.mutate(&mut bytes, reach);
        if let Ok(found) = read(&dir, &bytes) {
            n_accepted += 1;
            for name in found.names() {
                let squares = found.of(name).unwrap();
                assert!(
                    squares.iter().all(|square| (0.0..=1e15).contains(square)),
                    "mutation {n}: {squares:?}"
                );
            }
        }
    }
    assert!((200..4000).contains(&n_accepted), "{n_accepted} of 5000 accepted");
}
