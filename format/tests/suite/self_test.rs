//! The room of the self-test: one length, sealed or empty, and never read as what it is not.

use std::fs;
use std::path::PathBuf;

use owlet_format::*;
use sha2::{Digest, Sha256};

use crate::{model, open};

const SEAL: usize = 32;

fn record() -> SelfTest {
    SelfTest {
        recorded_by: "owlet, 圆".into(),
        n_positions: 7,
        embedding: (0..64).map(|n| n as f32 / 8.0 - 3.0).collect(),
        embedding_bound: 0.25,
        logits: (0..16).map(|n| (n * 3, 9.0 - n as f32)).collect(),
        logits_bound: 0.5,
    }
}

/// The tiny model with an empty room, and one without.
fn with_room() -> Vec<u8> {
    let mut metadata = model::metadata(&model::config());
    SelfTest::reserve(&mut metadata);
    model::file(&metadata, &model::plan(&model::config()))
}

fn written(dir: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join("tiny.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

fn room_of(bytes: &[u8]) -> std::ops::Range<usize> {
    open(bytes.to_vec()).unwrap().array_place(SELF_TEST_KEY).unwrap()
}

#[test]
fn what_is_recorded_comes_back_and_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let empty = with_room();
    let path = written(&dir, &empty);
    let before = Gguf::open(&path).unwrap();
    assert_eq!(SelfTest::read(&before).unwrap(), SelfTestRoom::Empty);
    assert_eq!(SelfTest::read(&open(model::tiny()).unwrap()).unwrap(), SelfTestRoom::Absent);

    for record in [record(), SelfTest { embedding: vec![1.5], logits: vec![], ..record() }] {
        record.record(Gguf::open(&path).unwrap()).unwrap();
        let after = Gguf::open(&path).unwrap();
        assert_eq!(SelfTest::read(&after).unwrap(), SelfTestRoom::Recorded(record));
        assert_eq!(after.identity(), before.identity());
        // whoever mapped the file before has the same model
        for tensor in before.tensors() {
            assert!(before.data(tensor) == after.data(tensor), "{}", tensor.name);
        }
        let mut bytes = fs::read(&path).unwrap();
        assert!(bytes != empty);
        bytes[room_of(&empty)].fill(0);
        assert!(bytes == empty, "no byte outside of the room");
    }
    // what is too long for the room is cut between two letters
    let long = SelfTest { recorded_by: "圆".repeat(1000), ..record() };
    long.record(Gguf::open(&path).unwrap()).unwrap();
    let SelfTestRoom::Recorded(found) = SelfTest::read(&Gguf::open(&path).unwrap()).unwrap() else {
        panic!()
    };
    assert!((100..500).contains(&found.recorded_by.chars().count()));
    assert!(long.recorded_by.starts_with(&found.recorded_by));
}

#[test]
fn another_header_breaks_the_seal() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, &with_room());
    record().record(Gguf::open(&path).unwrap()).unwrap();
    let recorded = fs::read(&path).unwrap();
    let at = recorded.windows(4).position(|window| window == b"Tiny").unwrap();
    let mut renamed = recorded;
    renamed[at] = b'P';
    assert_eq!(SelfTest::read(&open(renamed).unwrap()).unwrap(), SelfTestRoom::Broken);
}

/// A file that was replaced meanwhile is not written into.
#[test]
fn another_file_in_its_place_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, &with_room());
    let file = Gguf::open(&path).unwrap();
    let other = model::tiny();
    fs::write(dir.path().join("other.gguf"), &other).unwrap();
    fs::rename(dir.path().join("other.gguf"), &path).unwrap();
    let error = record().record(file).unwrap_err().to_string();
    assert!(error.ends_with("expected the file that was read, found another one in its place"), "{error}");
    assert!(fs::read(&path).unwrap() == other);
    let error = record().record(Gguf::open(&path).unwrap()).unwrap_err().to_string();
    assert!(error.ends_with("key owlet.self_test: expected an array of u8 in a file, found none"), "{error}");
    let error = record().record(open(with_room()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("found none"), "{error}");
}

/// Sealed by somebody who knows how.
#[test]
fn what_is_no_self_test_is_refused() {
    let empty = with_room();
    let room = room_of(&empty);
    let identity = open(empty.clone()).unwrap().identity();
    let sealed = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = empty.clone();
        let content = &mut bytes[room.start + SEAL..room.end];
        // version 1, no values, bounds of 0
        content[0] = 1;
        change(content);
        let seal: [u8; SEAL] = Sha256::new().chain_update(identity).chain_update(&content).finalize().into();
        bytes[room.start..room.start + SEAL].copy_from_slice(&seal);
        SelfTest::read(&open(bytes).unwrap()).map_err(|error| error.to_string())
    };
    assert!(matches!(sealed(&|_| ()), Ok(SelfTestRoom::Recorded(SelfTest { n_positions: 0, .. }))));
    let nan = f32::NAN.to_le_bytes();
    type Change<'a> = &'a dyn Fn(&mut [u8]);
    let cases: [(&str, Change); 8] = [
        ("version", &|content| content[0] = 2),
        ("values", &|content| content[8] = 65),
        ("many values", &|content| content[8..12].fill(0xff)),
        ("logits", &|content| content[12] = 17),
        ("bound", &|content| content[16..20].copy_from_slice(&nan)),
        ("negative bound", &|content| content[20..24].copy_from_slice(&(-1.0f32).to_le_bytes())),
        ("value", &|content| {
            content[8] = 1;
            content[24..28].copy_from_slice(&nan);
        }),
        ("text", &|content| content[408] = 0xff),
    ];
    for (what, change) in cases {
        let found = sealed(change);
        let expected = "tiny.gguf: key owlet.self_test: expected a self-test behind its seal, found none that this \
                        program reads: upgrade owlet";
        assert_eq!(found, Err(expected.to_string()), "{what}");
    }
    let mut metadata = model::metadata(&model::config());
    for (value, problem) in [
        (Value::from(vec![0u8; 1023]), "expected 1024 bytes, found 1023"),
        (Value::from(vec![0u32; 1024]), "expected array of u8, found array of u32"),
    ] {
        metadata.put(SELF_TEST_KEY, value);
        let file = open(model::file(&metadata, &model::plan(&model::config()))).unwrap();
        let error = SelfTest::read(&file).unwrap_err().to_string();
        assert_eq!(error, format!("tiny.gguf: key owlet.self_test: {problem}"));
    }
}
