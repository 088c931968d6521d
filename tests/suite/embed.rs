//! `owlet embed`: every format says the same, and what is wrong is one line and leaves nothing. The numbers themselves are
//! compared with the reference in parity/towers.rs.

use std::fs;
use std::path::{Path, PathBuf};

use ggml::Cancel;
use owlet::engine::{FeatureExtractor, Setup};
use owlet::prompt::Pixels;
use owlet_format::ModelConfig;
use serde_json::Value;

use crate::models::{Kind, path, path_of_tower};
use crate::program::{Ran, owlet, picture};

const N_EMBD: usize = 32;
const N_POSITIONS: usize = 65;

fn embed(words: &[&str], out: &Path, pictures: &[&Path]) -> Ran {
    let out = out.to_str().unwrap();
    let pictures = pictures.iter().map(|path| path.to_str().unwrap());
    let words: Vec<&str> =
        ["embed", "-o", out].into_iter().chain(words.iter().copied()).chain(pictures).collect();
    owlet(&words)
}

fn pictures() -> [PathBuf; 2] {
    [picture("embed-a.png", 90, 40, [200, 30, 30, 255]), picture("embed-b.png", 30, 70, [20, 90, 220, 255])]
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Header text and values.
fn npy(path: &Path) -> (String, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
    let n = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!((10 + n).is_multiple_of(64) && bytes[9 + n] == b'\n');
    (String::from_utf8(bytes[10..10 + n].to_vec()).unwrap(), floats(&bytes[10 + n..]))
}

/// The projector of a whole model does nothing for them.
#[test]
fn only_the_tower_runs() {
    let mut extractor = FeatureExtractor::open(Some(&path(Kind::Random)), &Setup::cpu(2)).unwrap();
    let size = extractor.image.size_px as usize;
    let pixels =
        Pixels { size_px: size, rgb: vec![128; 3 * size * size].into(), planes: vec![0.5; 3 * size * size] };
    let mut steps = Vec::new();
    extractor.encode(&pixels, &Cancel::new(), &mut |step| steps.push((step.done, step.total))).unwrap();
    assert_eq!(steps, [(0, 3), (1, 3), (2, 3)], "patches and two blocks");
}

#[test]
fn every_format_has_the_same_values() {
    let dir = tempfile::tempdir().unwrap();
    let model = path_of_tower();
    let model = ["-q", "-m", model.to_str().unwrap()];
    let [a, b] = &pictures();
    let to = |name: &str| dir.path().join(name);
    for name in ["all.npy", "all.safetensors", "all.json"] {
        embed(&model, &to(name), &[a, b]).ok();
    }
    embed(&[&model[..], &["--pooled"]].concat(), &to("pooled.npy"), &[a, b]).ok();
    embed(&[&model[..], &["--pooled"]].concat(), &to("pooled.safetensors"), &[a, b]).ok();

    let (head, hidden) = npy(&to("all.npy"));
    let said = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (2, {N_POSITIONS}, {N_EMBD}), }}");
    assert_eq!(head.trim_end(), said);
    assert_eq!(hidden.len(), 2 * N_POSITIONS * N_EMBD);
    assert!(hidden.iter().all(|value| value.is_finite()));
    assert_ne!(
        hidden[..N_POSITIONS * N_EMBD],
        hidden[N_POSITIONS * N_EMBD..],
        "two pictures, the same features"
    );
    let rows_of = |i: usize| &hidden[i * N_POSITIONS * N_EMBD..][..N_POSITIONS * N_EMBD];
    let pooled = [&rows_of(0)[..N_EMBD], &rows_of(1)[..N_EMBD]].concat();
    assert_eq!(npy(&to("pooled.npy")).1, pooled);

    for (name, has_hidden) in [("all.safetensors", true), ("pooled.safetensors", false)] {
        let bytes = fs::read(to(name)).unwrap();
        let tensors = safetensors(&bytes);
        let expected = [("last_hidden_state", &hidden), ("pooler_output", &pooled)];
        let expected = &expected[usize::from(!has_hidden)..];
        assert_eq!(tensors.len(), expected.len(), "{name}");
        for (tensor, values) in expected {
            let (shape, found) = &tensors[*tensor];
            assert_eq!(found, *values, "{name}: {tensor}");
            assert_eq!(shape.iter().product::<u64>() as usize, values.len(), "{name}: {tensor}");
            assert_eq!((shape[0], *shape.last().unwrap()), (2, N_EMBD as u64), "{name}: {tensor}");
        }
    }

    let json: Value = serde_json::from_slice(&fs::read(to("all.json")).unwrap()).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    for (i, (picture, path)) in json.as_array().unwrap().iter().zip([a, b]).enumerate() {
        assert_eq!(picture["image"], path.to_str().unwrap());
        let values = |value: &Value| -> Vec<f32> {
            value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
        };
        let rows: Vec<f32> =
            picture["last_hidden_state"].as_array().unwrap().iter().flat_map(values).collect();
        assert_eq!(rows, rows_of(i));
        assert_eq!(values(&picture["pooler_output"]), rows_of(i)[..N_EMBD]);
    }
}

type Tensors = std::collections::BTreeMap<String, (Vec<u64>, Vec<f32>)>;

fn safetensors(bytes: &[u8]) -> Tensors {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    let data = &bytes[8 + n..];
    let mut end = 0;
    let mut tensors = Tensors::new();
    for (name, entry) in header.as_object().unwrap() {
        assert_eq!(entry["dtype"], "F32");
        let numbers = |key: &str| -> Vec<u64> {
            entry[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
        };
        let at = numbers("data_offsets");
        end = end.max(at[1]);
        tensors.insert(name.clone(), (numbers("shape"), floats(&data[at[0] as usize..at[1] as usize])));
    }
    assert_eq!(end as usize, data.len(), "bytes that no tensor has");
    tensors
}

/// A whole model's tower serves as well: the built-in one's.
#[test]
fn the_built_in_model_has_a_tower() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("features.npy");
    let ran = embed(&[], &out, &[&pictures()[0]]);
    assert!(ran.code == Some(0) && ran.out.is_empty(), "{ran:?}");
    let vision = ModelConfig::read(&owlet::engine::open_file(None).unwrap()).unwrap().vision.unwrap();
    let (n_positions, n_embd) = (vision.n_positions(), vision.n_embd);
    let said = format!("1 picture, {n_positions} rows of {n_embd} values each, by ");
    assert!(ran.err.contains(&said), "{ran:?}");
    assert_eq!(npy(&out).1.len(), (n_positions * n_embd) as usize);
}

#[test]
fn what_is_wrong_is_one_line_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [a, _] = &pictures();
    let no_picture = dir.path().join("no.png");
    let there = dir.path().join("there.json");
    fs::write(&there, "precious").unwrap();
    let new = |name: &str| dir.path().join(name);
    let tower = path_of_tower();
    let tower = tower.to_str().unwrap();
    let cases: [(&[&str], PathBuf, &Path, i32, String); 4] = [
        (&[], new("x.txt"), a, 2, "expected a name that ends in .npy, .safetensors or .json".into()),
        (&[], there.clone(), a, 1, format!("owlet: {}: exists; --force replaces it\n", there.display())),
        (&[], new("x.npy"), &no_picture, 1, format!("owlet: {}: No such file", no_picture.display())),
        (&["-m", "no.gguf"], new("x.npy"), a, 1, "owlet: no.gguf: ".into()),
    ];
    for (words, out, picture, code, text) in cases {
        let ran = embed(words, &out, &[picture]);
        assert!(ran.code == Some(code) && ran.err.contains(&text), "{words:?}: {ran:?}");
    }
    // the second picture fails when the first one is written
    let ran = embed(&["--force"], &there, &[a, &no_picture]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(fs::read_to_string(&there).unwrap(), "precious");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");

    for words in [&["run", "-m", tower, "What?"][..], &["chat", "-m", tower]] {
        let ran = owlet(words);
        let said = format!(
            "owlet: {tower}: this model has no text half, so it cannot answer; owlet embed writes what its tower sees\n"
        );
        assert!(ran.code == Some(1) && ran.err == said, "{ran:?}");
    }
}
