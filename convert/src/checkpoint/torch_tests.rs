use std::io::Write as _;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::super::{Checkpoint, SourceType, dtype};
use super::*;

const VIEWS: &[u8] = include_bytes!("../../../tests/golden/convert/torch-views.bin");
const MODULE: &[u8] = include_bytes!("../../../tests/golden/convert/torch-module.bin");
const OLD: &[u8] = include_bytes!("../../../tests/golden/convert/torch-old.bin");

fn open(bytes: &[u8]) -> Result<Checkpoint> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pytorch_model.bin"), bytes).unwrap();
    Checkpoint::open(dir.path())
}

/// Rows `row..row + n_rows` of a tensor as f32.
fn rows(checkpoint: &Checkpoint, name: &str, n_per_row: u64, row: u64, n_rows: u64) -> Vec<f32> {
    let tensor = &checkpoint.tensors[name];
    let mut raw = vec![0; (n_per_row * n_rows * tensor.dtype.n_bytes()) as usize];
    checkpoint.check_rows(name, tensor, n_per_row).unwrap();
    checkpoint.read_rows(tensor, n_per_row, row, &mut raw).unwrap();
    let mut values = vec![0.0; (n_per_row * n_rows) as usize];
    dtype::widen(tensor.dtype, &raw, &mut values);
    values
}

#[test]
fn reads_views_as_torch_wrote_them() {
    let checkpoint = open(VIEWS).unwrap();
    let counting = |from: u32, n: u32| (from..from + n).map(|v| v as f32).collect::<Vec<_>>();
    assert_eq!(rows(&checkpoint, "plain_bf16", 6, 0, 4), counting(0, 24));
    assert_eq!(rows(&checkpoint, "plain_f16", 6, 2, 1), counting(12, 6));
    assert_eq!(rows(&checkpoint, "window", 3, 0, 2), [8.0, 9.0, 10.0, 14.0, 15.0, 16.0]);
    assert_eq!(rows(&checkpoint, "window", 3, 1, 1), [14.0, 15.0, 16.0]);
    assert_eq!(rows(&checkpoint, "transposed", 4, 0, 1), [0.0, 6.0, 12.0, 18.0]);
    assert_eq!(rows(&checkpoint, "transposed", 4, 4, 2), [4.0, 10.0, 16.0, 22.0, 5.0, 11.0, 17.0, 23.0]);
    assert_eq!(rows(&checkpoint, "shared_head", 4, 0, 1), counting(0, 4));
    assert_eq!(rows(&checkpoint, "shared_tail", 4, 0, 2), counting(4, 8));
    assert_eq!(rows(&checkpoint, "parameter", 3, 0, 1), [1.5; 3]);
    assert_eq!(rows(&checkpoint, "scalar", 1, 0, 1), [2.5]);
    assert_eq!(rows(&checkpoint, "conv", 12, 1, 2), counting(12, 24));
    // one element a row, as 1-D tensors are streamed
    assert_eq!(rows(&checkpoint, "shared_tail", 1, 3, 2), [7.0, 8.0]);
    assert_eq!(checkpoint.tensors["positions"].dtype, SourceType::I64);
    assert_eq!(checkpoint.tensors["scalar"].shape, [0u64; 0]);

    let odd = &checkpoint.tensors["every_second"];
    let text = checkpoint.check_rows("every_second", odd, 3).unwrap_err().to_string();
    assert!(
        text.ends_with(
            "tensor every_second: shape (4, 3) with strides (6, 2): expected rows or columns without gaps"
        ),
        "{text}"
    );
}

#[test]
fn reads_a_module_with_its_metadata() {
    let checkpoint = open(MODULE).unwrap();
    assert_eq!(checkpoint.tensors.keys().collect::<Vec<_>>(), ["bias", "weight"]);
    assert_eq!(checkpoint.tensors["weight"].shape, [1, 2]);
}

/// A zip of stored entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(CompressionMethod::Stored))
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A dict of one f32 tensor `a` over storage `0`.
fn dict_of(n_storage: u8, offset: u8, size: &[u8], stride: &[u8]) -> Vec<u8> {
    let ints =
        |values: &[u8]| [b"(", &*values.iter().flat_map(|v| [b'K', *v]).collect::<Vec<_>>(), b"t"].concat();
    let text = |s: &str| [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat();
    [
        b"\x80\x02}(".to_vec(),
        text("a"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        vec![b'K', n_storage, b't', b'Q', b'K', offset],
        ints(size),
        ints(stride),
        b"\x89NtRu.".to_vec(),
    ]
    .concat()
}

#[test]
fn refuses_archives_that_lie() {
    let good = dict_of(6, 0, &[2, 3], &[3, 1]);
    let storage: &[u8] = &[0; 24];
    assert!(open(&archive(&[("x/data.pkl", &good), ("x/data/0", storage)])).is_ok());

    let with = |pickle: &[u8]| archive(&[("x/data.pkl", pickle), ("x/data/0", storage)]);
    let mut truncated = with(&good);
    truncated.truncate(truncated.len() - 30);
    let mut compressed = with(&good);
    let at = compressed.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    compressed[at + 10] = 8;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (OLD.to_vec(), "pytorch_model.bin: expected a zip archive, found the format of torch before 1.6"),
        (b"hello there".to_vec(), "expected a zip archive as torch.save writes it, found something else"),
        (vec![], "expected a zip archive as torch.save writes it, found something else"),
        (b"PK\x03\x04 and no more".to_vec(), "truncated, or no sound zip archive"),
        (truncated, "truncated, or no sound zip archive"),
        (compressed, "entry x/data/0: expected stored bytes, found them compressed or encrypted"),
        (
            archive(&[("x/data/0", storage)]),
            "expected one entry data.pkl in the archive, found none or several",
        ),
        (archive(&[("x/data.pkl", &good), ("y/data.pkl", &good)]), "found none or several"),
        (
            archive(&[("x/data.pkl", &good)]),
            "tensor a: expected its storage in entry x/data/0, found no such entry",
        ),
        (
            archive(&[("x/data.pkl", &good), ("x/data/0", storage), ("x/byteorder", b"big")]),
            "expected byte order little, found another",
        ),
        (
            with(&dict_of(5, 0, &[2, 3], &[3, 1])),
            "tensor a: expected a storage of 5 elements of f32, found 24 bytes",
        ),
        (
            with(&dict_of(6, 1, &[2, 3], &[3, 1])),
            "tensor a: expected shape (2, 3) with strides (3, 1) from element 1 inside its storage of 6",
        ),
        (with(&dict_of(6, 0, &[2, 3], &[255, 1])), "found it reaching beyond"),
        (
            with(b"\x80\x02cos\nsystem\n."),
            "x/data.pkl: byte 2: global os.system is not one that files of tensors use",
        ),
    ];
    for (bytes, expected) in cases {
        let text = open(&bytes).unwrap_err().to_string();
        assert!(text.contains(expected), "expected {expected}\n   found {text}");
    }
}

#[test]
fn mutations_of_a_real_file_never_panic() {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pytorch_model.bin");
    for _ in 0..1500 {
        let mut bytes = MODULE.to_vec();
        for _ in 0..=random() % 4 {
            let at = random() % bytes.len();
            match random() % 8 {
                0 => bytes.truncate(at.max(1)),
                _ => bytes[at] = random() as u8,
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let Ok(checkpoint) = Checkpoint::open(dir.path()) else { continue };
        for (name, tensor) in &checkpoint.tensors {
            if tensor.dtype.is_float() && checkpoint.check_rows(name, tensor, 1).is_ok() {
                let mut raw = vec![0; tensor.n_bytes() as usize];
                let _ = checkpoint.read_rows(tensor, 1, 0, &mut raw);
            }
        }
    }
}
