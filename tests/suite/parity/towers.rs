//! InternViT on its own: nodes, features and pixels against plain use of transformers, by the library and by
//! `owlet embed`.

use super::compare::{self, F32_BOUND};
use super::golden::Case;
use super::subject::{Seen, encoded, pixels};
use super::{assert_nodes, assert_traps_are_seen, assert_weights, formula, tiny};
use crate::program::owlet;
use ggml::{Backend, DType};
use owlet::model::Model;
use owlet::prompt::Pixels;
use owlet_format::{Gguf, ModelConfig};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[test]
fn tower_6b() {
    assert_parity("tower_6b", 6);
}

#[test]
fn tower_300m() {
    assert_parity("tower_300m", 5);
}

#[test]
fn tower_grid() {
    let mut case = Case::read("tower_grid");
    // what `--set image_size` does
    case.files.get_mut("config.json").unwrap()["force_image_size"] = 112.into();
    assert_parity_of(case, 1);
}

fn assert_parity(name: &str, n_traps: usize) {
    assert_parity_of(Case::read(name), n_traps);
}

fn assert_parity_of(case: Case, n_traps: usize) {
    assert_weights(&case);
    let folder = TempDir::new().unwrap();
    let file = convert(&case, folder.path());
    let config = ModelConfig::read(&Gguf::open(&file).unwrap()).unwrap();
    let image = config.image.as_ref().unwrap();
    let n_blocks = case.files["config.json"]["num_hidden_layers"].as_u64().unwrap();
    assert_eq!(u64::from(config.vision.as_ref().unwrap().n_layer), n_blocks, "all blocks run");

    let golden_picture = &case.picture;
    for golden in case.pictures.iter().chain([golden_picture]) {
        let bytes: Vec<u8> = pixels(golden, image).planes.iter().flat_map(|v| v.to_le_bytes()).collect();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, golden.pixels_sha256, "{}: {}", case.case, golden.name);
    }

    let pixels = pixels(golden_picture, image);
    let mut seen = nodes(&file, &config, &pixels);
    let side = u64::from(image.size_px);
    seen.push(Seen { name: "pixels".into(), ne: vec![side, side, 3], values: pixels.planes });
    println!("{}: family {}", case.case, config.family);
    assert_nodes(&case, &case.case, &case.nodes, &seen);
    assert_eq!(case.traps.len(), n_traps, "{}: traps recorded", case.case);
    assert_traps_are_seen(&case, &seen);
    assert_the_program_says_the_same(&case, &file, folder.path());
}

fn convert(case: &Case, folder: &Path) -> PathBuf {
    let (checkpoint, file) = (folder.join("tower"), folder.join("tower.gguf"));
    tiny::lay_out(case, &checkpoint);
    std::fs::remove_file(checkpoint.join("tokenizer.model")).unwrap();
    tiny::convert(&checkpoint, DType::F32, &file);
    file
}

fn nodes(file: &Path, config: &ModelConfig, pixels: &Pixels) -> Vec<Seen> {
    let gguf = Gguf::open(file).unwrap();
    let model = Model::load(&gguf, config, &Backend::cpu(2).unwrap()).unwrap();
    let mut seen = Vec::new();
    let rows = encoded(&model, pixels, &mut seen).features().unwrap();
    let vision = config.vision.as_ref().unwrap();
    let (n_embd, n_positions) = (u64::from(vision.n_embd), u64::from(vision.n_positions()));
    let pooled = rows[..n_embd as usize].to_vec();
    seen.push(Seen { name: "last_hidden_state".into(), ne: vec![n_embd, n_positions], values: rows });
    seen.push(Seen { name: "pooler_output".into(), ne: vec![n_embd, 1], values: pooled });
    seen
}

/// What a user gets from the picture as a PNG.
fn assert_the_program_says_the_same(case: &Case, file: &Path, folder: &Path) {
    let (picture, out) = (folder.join("picture.png"), folder.join("features.npy"));
    let golden = &case.picture;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, golden.width, golden.height);
    encoder.set_color(png::ColorType::Rgb);
    let rgb = formula::picture(&golden.name, golden.width, golden.height);
    encoder.write_header().unwrap().write_image_data(&rgb).unwrap();
    std::fs::write(&picture, bytes).unwrap();
    let words = [Path::new("embed"), Path::new("-m"), file, Path::new("-o"), &out, &picture];
    owlet(&words).ok();
    let bytes = std::fs::read(&out).unwrap();
    let node = case.nodes.iter().find(|node| node.name == "last_hidden_state").unwrap();
    let n_values = node.ne.iter().product::<u64>() as usize;
    let (head, data) = bytes.split_at(bytes.len() - 4 * n_values);
    let shape = format!("'shape': (1, {}, {})", node.ne[1], node.ne[0]);
    assert!(String::from_utf8_lossy(head).contains(&shape), "{head:?}");
    let (values, _) = data.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let error = compare::error(&values, &node.ne, node, case.samples(node));
    assert!(error <= F32_BOUND, "{}: owlet embed is {error:e} off", case.case);
}
