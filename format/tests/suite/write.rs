//! What is written is read back, equal input gives equal bytes, and a file appears whole or not at all.

use std::fs;
use std::path::Path;

use owlet_format::*;

use crate::{model, open};

#[test]
fn every_type_comes_back() {
    let mut metadata = Metadata::new("out.gguf");
    metadata.put("u8", 255u8);
    metadata.put("i8", -128i8);
    metadata.put("u16", u16::MAX);
    metadata.put("i16", i16::MIN);
    metadata.put("u32", u32::MAX);
    metadata.put("i32", i32::MIN);
    metadata.put("f32", f32::MIN_POSITIVE);
    metadata.put("bool", true);
    metadata.put("text", "一 text");
    metadata.put("u64", u64::MAX);
    metadata.put("i64", i64::MIN);
    metadata.put("f64", f64::MAX);
    metadata.put("u8s", vec![1u8, 2]);
    metadata.put("i8s", vec![-1i8, 2]);
    metadata.put("u16s", vec![1u16, 2]);
    metadata.put("i16s", vec![-1i16, 2]);
    metadata.put("u32s", vec![1u32, 2]);
    metadata.put("i32s", vec![-1i32, 2]);
    metadata.put("f32s", vec![1.5f32, -0.0]);
    metadata.put("bools", vec![true, false]);
    metadata.put("texts", Strings::from_iter(["", "a", "▁", ""]));
    metadata.put("u64s", vec![1u64, 2]);
    metadata.put("i64s", vec![-1i64, 2]);
    metadata.put("f64s", vec![1.5f64, 2.5]);
    metadata.put("none", Vec::<u64>::new());
    let file = open(model::file(&metadata, &[])).unwrap();
    let mut found: Vec<_> = file.metadata().iter().collect();
    assert_eq!(found.pop().unwrap().0, CHECKSUMS_KEY);
    assert_eq!(found, metadata.iter().collect::<Vec<_>>());
}

/// A file is its layout's header, but for the checksums, and tensors where the layout says.
#[test]
fn a_layout_is_what_the_encoder_writes() {
    let bytes = model::tiny();
    let file = open(bytes.clone()).unwrap();
    let plan: Vec<_> = file
        .tensors()
        .iter()
        .map(|TensorInfo { name, dtype, shape, .. }| TensorPlan {
            name: name.clone(),
            dtype: *dtype,
            shape: *shape,
        })
        .collect();
    let layout = Layout::new(file.metadata(), &plan).unwrap();
    assert_eq!(layout.tensors, file.tensors());
    assert_eq!(layout.n_bytes, bytes.len() as u64);
    let n_checksum_bytes = plan.len() * CHECKSUM_BYTES;
    let n_differ = layout.header.iter().zip(&bytes).filter(|(a, b)| a != b).count();
    assert!((1..=n_checksum_bytes).contains(&n_differ), "{n_differ} of {n_checksum_bytes}");
    let mut hashed = layout.clone();
    hashed.set_checksums(&file.checksums().unwrap());
    assert!(hashed.header == bytes[..hashed.header.len()]);
    let mut unhashed = layout.header;
    unhashed.resize(bytes.len(), 0);
    let unhashed = open(unhashed).unwrap();
    assert_eq!(unhashed.checksums().unwrap(), vec![[0; CHECKSUM_BYTES]; plan.len()]);

    let empty = Layout::new(&Metadata::new("empty.gguf"), &[]).unwrap();
    assert_eq!(empty.n_bytes, (empty.header.len() as u64).next_multiple_of(32));
    let twice = [plan[0].clone(), plan[0].clone()];
    let error = Layout::new(&Metadata::new("twice.gguf"), &twice).unwrap_err().to_string();
    assert!(error.ends_with("expected once, found twice"), "{error}");
}

#[test]
fn tensors_come_back_aligned_and_with_their_checksums() {
    let bytes = model::tiny();
    assert!(bytes == model::tiny(), "equal input, equal bytes");
    let file = open(bytes.clone()).unwrap();
    assert_eq!((file.alignment(), file.n_trailing_bytes(), file.bytes().len()), (64, 0, bytes.len()));
    let checksums = file.checksums().unwrap();
    for (tensor, checksum) in file.tensors().iter().zip(&checksums) {
        assert_eq!(tensor.offset % 64, 0, "{}", tensor.name);
        let data = file.data(tensor);
        assert!(data.iter().enumerate().all(|(n, &byte)| byte == n as u8), "{}", tensor.name);
        file.verify(tensor, checksum).unwrap();
    }

    let tensor = file.tensor("v.blk.1.ls2.weight").unwrap();
    let mut damaged = bytes;
    damaged[tensor.offset as usize + 5] ^= 0x10;
    let damaged = open(damaged).unwrap();
    let failed: Vec<_> = damaged
        .tensors()
        .iter()
        .zip(&checksums)
        .filter_map(|(tensor, checksum)| damaged.verify(tensor, checksum).err())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].starts_with("tiny.gguf: tensor v.blk.1.ls2.weight: expected SHA-256 "), "{failed:?}");
}

#[test]
fn the_plan_is_kept_to() {
    let config = model::config();
    let (metadata, plan) = (model::metadata(&config), model::plan(&config));
    let first = &plan[0].name;
    let n_bytes = plan[0].shape.n_bytes(plan[0].dtype).unwrap() as usize;
    let encoder = || Encoder::new(std::io::Cursor::new(Vec::new()), &metadata, &plan).unwrap();
    let said = |result: Result<()>| result.unwrap_err().to_string();

    assert_eq!(
        said(encoder().write(&[0])),
        "tiny.gguf: tensor none: expected a tensor to be begun before its bytes"
    );
    assert_eq!(
        said(encoder().begin("output.weight")),
        "tiny.gguf: tensor output.weight: expected tensor v.class_embd to be the next to be written"
    );
    let mut short = encoder();
    short.begin(first).unwrap();
    short.write(&vec![0; n_bytes - 1]).unwrap();
    assert_eq!(
        said(short.begin(&plan[1].name)),
        "tiny.gguf: tensor v.class_embd: expected 128 bytes to be written, found 127"
    );
    let mut long = encoder();
    long.begin(first).unwrap();
    assert_eq!(
        said(long.write(&vec![0; n_bytes + 1])),
        "tiny.gguf: tensor v.class_embd: expected no more bytes than its type and shape take, found more"
    );
    let mut early = encoder();
    early.begin(first).unwrap();
    early.write(&vec![0; n_bytes]).unwrap();
    assert_eq!(
        said(early.finish().map(drop)),
        "tiny.gguf: tensor v.patch_embd.weight: expected to be written, found the end"
    );

    let plan_of = |name: &str, ne: &[u64], dtype| {
        let shape = Shape::new(ne).unwrap();
        TensorPlan { name: name.into(), dtype, shape }
    };
    use ggml::DType;
    for (plan, text) in [
        (vec![plan_of("", &[1], DType::F32)], "tensor : expected a name of 1 to 63 bytes, found 0"),
        (
            vec![plan_of("t", &[1], DType::F32), plan_of("t", &[1], DType::F32)],
            "tensor t: expected once, found twice",
        ),
        (
            vec![plan_of("t", &[33], DType::Q8_0)],
            "tensor t: expected ne[0] to be a multiple of q8_0's 32, found ne [33]",
        ),
        (
            vec![plan_of("t", &[1 << 61], DType::F32)],
            "tensor t: expected a file of at most 1152921504606846976 bytes, found more",
        ),
    ] {
        let result = Encoder::new(std::io::Cursor::new(Vec::new()), &metadata, &plan);
        assert_eq!(said(result.map(drop)), format!("tiny.gguf: {text}"));
    }
}

fn write_all(target: &Path, stop_after: usize) -> Result<Written> {
    let config = model::config();
    let mut writer = Writer::create(target, &model::metadata(&config), &model::plan(&config))?;
    for tensor in writer.tensors().to_vec().iter().take(stop_after) {
        writer.begin(&tensor.name)?;
        writer.write(&(0..tensor.n_bytes).map(|n| n as u8).collect::<Vec<_>>())?;
    }
    writer.finish()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("m.gguf");
    fs::write(&target, "the file before").unwrap();

    let written = write_all(&target, usize::MAX).unwrap();
    assert!(fs::read(&target).unwrap() == b"the file before");
    assert!(fs::read(written.path()).unwrap() == model::tiny());
    drop(written);
    assert_eq!(names(dir.path()), ["m.gguf"], "dropped before it was published");

    let error = write_all(&target, 3).map(drop).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{}: tensor v.position_embd.weight: expected to be written, found the end", target.display())
    );
    let panicked = std::panic::catch_unwind(|| {
        let _writer = Writer::create(&target, &model::metadata(&model::config()), &[]).unwrap();
        panic!("in the middle");
    });
    assert!(panicked.is_err());
    assert_eq!(names(dir.path()), ["m.gguf"], "left by an error or a panic");
    assert!(fs::read(&target).unwrap() == b"the file before");

    write_all(&target, usize::MAX).unwrap().publish().unwrap();
    assert_eq!(names(dir.path()), ["m.gguf"]);
    assert!(fs::read(&target).unwrap() == model::tiny());
}

/// Two writers of one target don't share a part file, and the last to publish wins.
#[test]
fn two_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("m.gguf");
    let (one, two) = (write_all(&target, usize::MAX).unwrap(), write_all(&target, usize::MAX).unwrap());
    assert_ne!(one.path(), two.path());
    one.publish().unwrap();
    two.publish().unwrap();
    assert_eq!(names(dir.path()), ["m.gguf"]);
}

#[cfg(unix)]
#[test]
fn a_link_keeps_pointing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("disk")).unwrap();
    fs::write(dir.path().join("disk/m.gguf"), "old").unwrap();
    let link = dir.path().join("m.gguf");
    std::os::unix::fs::symlink("disk/m.gguf", &link).unwrap();
    write_all(&link, usize::MAX).unwrap().publish().unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read(dir.path().join("disk/m.gguf")).unwrap() == model::tiny());
}

#[cfg(unix)]
#[test]
fn targets_that_can_not_be_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for (target, text) in [
        (dir.path().to_path_buf(), "expected a file to write, found a directory"),
        ("/dev/null".into(), "expected a file to write, found a pipe, socket or device"),
        (dir.path().join("missing/m.gguf"), "cannot create: No such file or directory (os error 2)"),
        (dir.path().join("file/m.gguf"), "cannot create: Not a directory (os error 20)"),
        (dir.path().join("missing/.."), "expected a file to write, found no file name"),
    ] {
        let error = write_all(&target, usize::MAX).map(drop).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {text}", target.display()));
    }
}

/// A disk that is full after `room` bytes.
struct Full {
    inner: std::io::Cursor<Vec<u8>>,
    room: usize,
}

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = bytes.len().min(self.room);
        if n == 0 && !bytes.is_empty() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.room -= n;
        self.inner.write(&bytes[..n])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Seek for Full {
    fn seek(&mut self, position: std::io::SeekFrom) -> std::io::Result<u64> {
        self.inner.seek(position)
    }
}

/// The disk is full at every thousandth byte, or just before the checksums are in.
#[test]
fn a_full_disk_is_an_error_wherever_it_is() {
    let config = model::config();
    let (metadata, plan) = (model::metadata(&config), model::plan(&config));
    let attempt = |room: usize| -> Result<()> {
        let out = Full { inner: std::io::Cursor::new(Vec::new()), room };
        let mut encoder = Encoder::new(out, &metadata, &plan)?;
        for tensor in encoder.tensors().to_vec() {
            encoder.begin(&tensor.name)?;
            encoder.write(&vec![0; tensor.n_bytes as usize])?;
        }
        encoder.finish().map(drop)
    };
    let needed = model::tiny().len() + plan.len() * CHECKSUM_BYTES;
    for room in (0..needed).step_by(1000).chain([needed - 1]) {
        let error = attempt(room).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert_eq!(error.to_string(), "tiny.gguf: cannot write: no storage space");
    }
    attempt(needed).unwrap();
}
