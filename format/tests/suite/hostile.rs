//! Every size, count, offset and type that the parser reads, stated wrongly, and what it says then. The rows
//! hold what has broken other readers of this format; the ids are those of the reports.

use bytes::Bytes;
use owlet_format::{Gguf, Limits};

use crate::raw::*;

/// The whole message, in which `bad.gguf` stands for the path.
fn assert_rejects(bytes: Vec<u8>, text: &str) {
    assert_rejects_within(Limits::default(), bytes, text);
}

fn assert_rejects_within(limits: Limits, bytes: Vec<u8>, text: &str) {
    match Gguf::from_bytes_within(Bytes::from(bytes), "bad.gguf", limits) {
        Ok(_) => panic!("accepted what should say: {text}"),
        Err(error) => assert_eq!(error.to_string(), format!("bad.gguf: {text}")),
    }
}

#[test]
fn header() {
    let gguf = |change: fn(&mut Raw)| {
        let mut raw = Raw::new();
        change(&mut raw);
        raw.build()
    };
    let good = Raw::new().build();
    assert_rejects(vec![], "header: expected 4 bytes at 0, found the end of the file at 0");
    assert_rejects(good[..7].to_vec(), "header: expected 4 bytes at 4, found the end of the file at 7");
    assert_rejects(good[..23].to_vec(), "header: expected 8 bytes at 16, found the end of the file at 23");
    assert_rejects(
        gguf(|raw| raw.magic = *b"PK\x03\x04"),
        r"header: expected the letters GGUF, found PK\x03\x04",
    );
    assert_rejects(gguf(|raw| raw.version = 0), "GGUF version 0 does not exist");
    assert_rejects(gguf(|raw| raw.version = 1), "GGUF version 1 is not read: convert the model anew");
    assert_rejects(
        gguf(|raw| raw.version = 4),
        "GGUF version 4 is newer than this program, which reads 2 and 3",
    );
    for version in [1u32, 2, 3] {
        let mut raw = Raw::new();
        raw.version = version.swap_bytes();
        assert_rejects(raw.build(), "a big-endian GGUF is not read: convert the model anew");
    }
    // TALOS-2024-1912 (CVE-2024-21825, -21802, -21836, -23496, -23605), ollama #17042: counts before allocation
    assert_rejects(
        gguf(|raw| raw.n_tensors = Some(u64::MAX)),
        "header: number of tensors: expected at most 65536, found 18446744073709551615",
    );
    assert_rejects(
        gguf(|raw| raw.n_keys = Some(u64::MAX)),
        "header: number of keys: expected at most 16384, found 18446744073709551615",
    );
    // ggml PR #1516, llama.cpp PR #27188: a file of a few bytes that promises a lot
    assert_rejects(
        gguf(|raw| raw.n_tensors = Some(65_536)),
        "header: expected room for 65536 items, found 0 bytes to the end of the file",
    );
    assert_rejects(
        gguf(|raw| raw.n_keys = Some(16_384)),
        "header: expected room for 16384 items, found 0 bytes to the end of the file",
    );
}

#[test]
fn keys() {
    let key = |name: &[u8], value_type, payload: Vec<u8>| Raw::new().key(name, value_type, payload).build();
    let huge_key = |n_bytes: u64| {
        let mut bytes = Raw::new().build();
        bytes[16] = 1;
        bytes.extend(n_bytes.to_le_bytes());
        bytes.extend([b'k'; 64]);
        bytes
    };
    // TALOS-2024-1913, -1914: the length of a string, and what one more would be
    for n_bytes in [65_536, u64::MAX - 1, u64::MAX] {
        let text = format!("key number 0: length of a string: expected at most 65535, found {n_bytes}");
        assert_rejects(huge_key(n_bytes), &text);
    }
    assert_rejects(
        huge_key(65_535),
        "key number 0: expected 65535 bytes at 32, found the end of the file at 96",
    );
    assert_rejects(key(b"", U8, vec![1]), "key number 0: expected a name, found an empty one");
    assert_rejects(key(b"a\xff", U8, vec![1]), "key number 0: expected UTF-8, found another byte at 1");
    // llama.cpp PR #19856: keys that stand twice, types that do not exist
    assert_rejects(
        Raw::new().key("a", U8, [1]).key("b", U8, [1]).key("a", U8, [2]).build(),
        "key a: expected once, found twice",
    );
    for id in [13, 0x8000_0000, u32::MAX] {
        let text = format!("key a: expected a value type of 0 to 12, found {id}");
        assert_rejects(key(b"a", id, vec![0; 16]), &text);
    }
    assert_rejects(key(b"a", BOOL, vec![2]), "key a: expected a bool of 0 or 1, found 2");
    // a message is no way to a terminal
    assert_rejects(key(b"\x1b[2J", BOOL, vec![2]), r"key \u{1b}[2J: expected a bool of 0 or 1, found 2");
}

/// Every scalar type, one byte short.
#[test]
fn scalars_cut_short() {
    for (id, n_bytes) in
        [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)]
    {
        let bytes = Raw::new().key("a.long.name", id, vec![0; n_bytes - 1]).build();
        let (at, end) = (bytes.len() + 1 - n_bytes, bytes.len());
        let text =
            format!("key a.long.name: expected {n_bytes} bytes at {at}, found the end of the file at {end}");
        assert_rejects(bytes, &text);
    }
}

#[test]
fn strings() {
    let text = |payload: Vec<u8>| Raw::new().key("text", STRING, payload).build();
    let stated = |n_bytes: u64| [&n_bytes.to_le_bytes()[..], b"short"].concat();
    for n_bytes in [(16 << 20) + 1, u64::MAX - 7, u64::MAX] {
        let expected = format!("key text: length of a string: expected at most 16777216, found {n_bytes}");
        assert_rejects(text(stated(n_bytes)), &expected);
    }
    assert_rejects(
        text(stated(16 << 20)),
        "key text: expected 16777216 bytes at 48, found the end of the file at 53",
    );
    assert_rejects(text(stated(6)), "key text: expected 6 bytes at 48, found the end of the file at 53");
    assert_rejects(text(vec![1; 7]), "key text: expected 8 bytes at 40, found the end of the file at 47");
    assert_rejects(text(string(b"abc\xffdef")), "key text: expected UTF-8, found another byte at 3");
}

#[test]
fn arrays() {
    let items = |payload: Vec<u8>| Raw::new().key("list", ARRAY, payload).build();
    let too_many = |n_items: u64, left: usize| {
        format!("key list: expected room for {n_items} items, found {left} bytes to the end of the file")
    };
    // llama.cpp PR #19856 and ggml PR #1516: array exhaustion; 2^61 items of 8 bytes wrap to none
    for item_type in [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12] {
        for n_items in [u64::MAX, 1 << 63, 1 << 62, 1 << 61, 1 << 32, 17] {
            assert_rejects(items(array(item_type, n_items, [0; 16])), &too_many(n_items, 16));
        }
    }
    assert_rejects(items(array(U32, 4, [0; 15])), &too_many(4, 15));
    assert_rejects(
        items(array(ARRAY, 1, array(U8, 1, [0]))),
        "key list: expected a flat array, found an array of arrays",
    );
    for id in [13, u32::MAX] {
        let text = format!("key list: expected a value type of 0 to 12, found {id}");
        assert_rejects(items(array(id, 1, [0; 8])), &text);
    }
    assert_rejects(items(array(BOOL, 3, [0, 1, 2])), "key list: expected a bool of 0 or 1, found 2");
    assert_rejects(
        items(ARRAY.to_le_bytes().to_vec()),
        "key list: expected 8 bytes at 44, found the end of the file at 44",
    );

    let two = |second: &[u8]| items(array(STRING, 2, [&string("one"), second].concat()));
    assert_rejects(two(&string(b"\xc3")), "key list: expected UTF-8, found another byte at 0");
    assert_rejects(
        two(&9u64.to_le_bytes()),
        "key list: expected 9 bytes at 71, found the end of the file at 71",
    );
    assert_rejects(
        two(&u64::MAX.to_le_bytes()),
        "key list: length of a string: expected at most 16777216, found 18446744073709551615",
    );
}

/// GHSA-96jg-mvhq-q7q7, llama.cpp PR #26318: an alignment that wraps what is padded with it.
#[test]
fn alignment() {
    let alignment =
        |value_type, payload: &[u8]| Raw::new().key("general.alignment", value_type, payload).build();
    for found in [0u32, 1, 4, 7, 24, 48, 65_535, 131_072, 1 << 31, u32::MAX] {
        let text = format!("key general.alignment: expected a power of two of 8 to 65536, found {found}");
        assert_rejects(alignment(U32, &found.to_le_bytes()), &text);
    }
    assert_rejects(alignment(U64, &32u64.to_le_bytes()), "key general.alignment: expected u32, found u64");
    assert_rejects(alignment(STRING, &string("32")), "key general.alignment: expected u32, found string");
    for found in [8u32, 32, 64, 65_536] {
        let file = Gguf::from_bytes(alignment(U32, &found.to_le_bytes()).into(), "good").unwrap();
        assert_eq!(file.alignment(), found);
    }
}

#[test]
fn tensor_names_shapes_and_types() {
    let one = |name: &[u8], n_dims: u32, ne: &[u64], dtype: u32| {
        Raw::new().raw_tensor(tensor(name, n_dims, ne, dtype, 0)).data(1024).build()
    };
    assert_rejects(one(b"", 1, &[8], 0), "tensor number 0: expected a name, found an empty one");
    assert_rejects(
        one(&[b'n'; 64], 1, &[8], 0),
        "tensor number 0: length of a string: expected at most 63, found 64",
    );
    assert_rejects(one(b"t\xfe", 1, &[8], 0), "tensor number 0: expected UTF-8, found another byte at 1");
    assert_rejects(
        Raw::new().tensor("t", &[8], 0, 0).tensor("t", &[8], 0, 32).data(64).build(),
        "tensor t: expected once, found twice",
    );
    // ggml PR #709, zackshen/gguf #15, antirez/gguf-tools #25: the number of dimensions
    for n_dims in [0, 5, 8, 9, u32::MAX] {
        let text = format!("tensor t: expected 1 to 4 dimensions, found {n_dims}");
        assert_rejects(one(b"t", n_dims, &[8, 1, 1, 1, 1], 0), &text);
    }
    // CVE-2025-53630, CVE-2026-33298, zackshen/gguf #15: products that wrap; a "negative" side
    for ne in [
        vec![0],
        vec![8, 0],
        vec![u64::MAX],
        vec![1 << 63],
        vec![1 << 32, 1 << 32],
        vec![1 << 16, 1 << 16, 1 << 16, 1 << 16],
        vec![(1 << 62) + 1],
    ] {
        let text =
            format!("tensor t: expected sides of at least 1 and at most 2^62 elements, found ne {ne:?}");
        assert_rejects(one(b"t", ne.len() as u32, &ne, 0), &text);
    }
    assert_rejects(
        one(b"t", 1, &[1 << 62], 0),
        "tensor t: expected fewer than 2^64 bytes, found ne [4611686018427387904] of f32",
    );
    // ggml PR #709, llama.cpp PR #19856: types that do not exist, a "negative" one, one that was removed
    for id in [4, 5, 31, 36, 99, 0x8000_0000, u32::MAX] {
        let text = format!("tensor t: expected a tensor type that ggml knows, found {id}");
        assert_rejects(one(b"t", 1, &[8], id), &text);
    }
    assert_rejects(
        one(b"t", 2, &[33, 2], 2),
        "tensor t: expected ne[0] to be a multiple of q4_0's 32, found ne [33, 2]",
    );
    assert_rejects(
        one(b"t", 1, &[3200], 12),
        "tensor t: expected ne[0] to be a multiple of q4_k's 256, found ne [3200]",
    );
}

#[test]
fn tensor_offsets() {
    let two = |first: u64, second: u64| {
        Raw::new().tensor("a", &[8], 0, first).tensor("b", &[8], 0, second).data(64).build()
    };
    assert!(Gguf::from_bytes(two(0, 32).into(), "good").is_ok());
    for (first, second, text) in [
        (32, 64, "tensor a: expected offset 0, found 32, which leaves a gap"),
        (0, 64, "tensor b: expected offset 32, found 64, which leaves a gap"),
        (0, 0, "tensor b: expected offset 32, found 0, which overlaps the tensor before"),
        (0, 33, "tensor b: expected an offset aligned to 32, found 33"),
        (1, 32, "tensor a: expected an offset aligned to 32, found 1"),
        (0, u64::MAX, "tensor b: expected an offset aligned to 32, found 18446744073709551615"),
        (0, u64::MAX - 31, "tensor b: expected offset 32, found 18446744073709551584, which leaves a gap"),
    ] {
        assert_rejects(two(first, second), text);
    }
    // CVE-2026-7482: tensors that end behind the file
    let bytes = two(0, 32);
    assert_rejects(
        bytes[..bytes.len() - 1].to_vec(),
        "tensor b: expected to end inside of the file's 159 bytes, found 160",
    );
    assert_rejects(
        Raw::new().tensor("t", &[1 << 40], 0, 0).data(64).build(),
        "tensor t: expected to end inside of the file's 128 bytes, found 4398046511168",
    );
    // CVE-2025-53630, CVE-2026-27940: the sum of sizes wraps, though no size does; 2^61 f32 are 2^63 bytes
    assert_rejects(
        Raw::new().tensor("a", &[1 << 61], 0, 0).tensor("b", &[1 << 61], 0, 1 << 63).data(64).build(),
        "tensor a: expected to end inside of the file's 160 bytes, found 9223372036854775904",
    );
    assert_rejects(
        Raw::new().tensor("t", &[(1 << 62) - 1], 0, 0).data(64).build(),
        "tensor t: expected an end inside of the file, found one past 2^64",
    );
}

/// The limits of the caller's, each at what the file has and one below.
#[test]
fn limits() {
    let file = Raw::new()
        .key("text", STRING, string("twelve bytes"))
        .key("b", U8, [1])
        .tensor("t", &[8], 0, 0)
        .tensor("u", &[8], 0, 32)
        .data(64)
        .build();
    let exact = Limits { n_tensors: 2, n_keys: 2, string_bytes: 12, metadata_bytes: 140 };
    assert!(Gguf::from_bytes_within(file.clone().into(), "good", exact).is_ok());
    for (limits, text) in [
        (Limits { n_tensors: 1, ..exact }, "header: number of tensors: expected at most 1, found 2"),
        (Limits { n_keys: 1, ..exact }, "header: number of keys: expected at most 1, found 2"),
        (Limits { string_bytes: 11, ..exact }, "key text: length of a string: expected at most 11, found 12"),
        (
            Limits { metadata_bytes: 139, ..exact },
            "tensor u: bytes of metadata: expected at most 139, found 140",
        ),
    ] {
        assert_rejects_within(limits, file.clone(), text);
    }
}

/// What is unusual, but right.
#[test]
fn accepts() {
    let mut version_2 = Raw::new().tensor("t", &[8], 0, 0).data(32);
    version_2.version = 2;
    let file = Gguf::from_bytes(version_2.build().into(), "good").unwrap();
    assert_eq!((file.version(), file.alignment(), file.n_trailing_bytes()), (2, 32, 0));

    let last_not_padded = Raw::new().tensor("t", &[5], 0, 0).data(20).build();
    let file = Gguf::from_bytes(last_not_padded.into(), "good").unwrap();
    assert_eq!((file.data(file.tensor("t").unwrap()).len(), file.n_trailing_bytes()), (20, 0));

    let trailing = Raw::new().tensor("t", &[5], 0, 0).data(32 + 3).build();
    assert_eq!(Gguf::from_bytes(trailing.into(), "good").unwrap().n_trailing_bytes(), 3);

    let nothing = Gguf::from_bytes(Raw::new().build().into(), "good").unwrap();
    assert_eq!((nothing.tensors().len(), nothing.n_trailing_bytes()), (0, 0));
}

#[cfg(unix)]
#[test]
fn paths() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("locked"), "GGUF").unwrap();
    std::fs::set_permissions(path("locked"), std::fs::Permissions::from_mode(0o000)).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let mut cases = vec![
        ("missing", "cannot open: No such file or directory (os error 2)"),
        (".", "expected a file, found a directory"),
        ("empty", "expected a GGUF, found an empty file"),
        ("pipe", "expected a file, found a pipe, socket or device"),
    ];
    // root reads everything
    if std::fs::File::open(path("locked")).is_err() {
        cases.push(("locked", "cannot open: Permission denied (os error 13)"));
    } else {
        eprintln!("not run: an unreadable file, because this user reads everything");
    }
    for (name, text) in cases {
        let error = Gguf::open(&path(name)).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {text}", path(name).display()));
    }
}
