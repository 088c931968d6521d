//! A case's checkpoint: laid out as Hugging Face does, converted as a user would.
//!
//! Comes in: a golden case. Goes out: a folder with its files, or the GGUF made from it.

use super::formula;
use super::golden::{self, Case};
use crate::checkpoint::{Float, Layout, Weight, write_weights};
use ggml::quantize::dequantize;
use ggml::{Cancel, DType};
use owlet_convert::{Input, Options, Plan, TypeChoice};
use owlet_format::{Encoder, Gguf, Metadata, ModelConfig, TensorInfo, TensorPlan};
use std::fs;
use std::path::Path;

/// The checkpoint's tensors: the formula's values, rounded where the case stores bf16.
pub fn weights(case: &Case) -> Vec<Weight> {
    weights_of(case, &case.tensors)
}

/// Those of the tower beside it.
pub fn tower_weights(case: &Case) -> Vec<Weight> {
    case.tower.as_ref().map_or_else(Vec::new, |tower| weights_of(case, &tower.tensors))
}

fn weights_of(case: &Case, tensors: &[golden::Tensor]) -> Vec<Weight> {
    let weight = |tensor: &golden::Tensor| {
        let mut values = formula::tensor(&case.seed, &tensor.name, &tensor.shape);
        match float(case) {
            Float::BF16 => values.iter_mut().for_each(|value| *value = formula::bf16(*value)),
            Float::F16 | Float::F32 => {}
        }
        Weight::new(&tensor.name, &tensor.shape, values)
    };
    tensors.iter().map(weight).collect()
}

/// Everything that the repository has beside its code, and the tower's in `tower`. bf16 weights lie in pickle shards, as V1-1's do.
pub fn lay_out(case: &Case, folder: &Path) {
    lay_out_with(case, &weights(case), folder);
}

/// The same with these weights.
pub fn lay_out_with(case: &Case, weights: &[Weight], folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (name, value) in &case.files {
        fs::write(folder.join(name), value.to_string()).unwrap();
    }
    fs::copy(golden::path(&case.tokenizer), folder.join("tokenizer.model")).unwrap();
    let layout = match float(case) {
        Float::BF16 => Layout::Torch { shards: 4 },
        Float::F16 | Float::F32 => Layout::Safetensors { shards: 1 },
    };
    write_weights(folder, weights, float(case), layout);
    if let Some(tower) = &case.tower {
        fs::create_dir_all(folder.join(TOWER)).unwrap();
        for (name, value) in &tower.files {
            fs::write(folder.join(TOWER).join(name), value.to_string()).unwrap();
        }
        let layout = Layout::Torch { shards: 1 };
        let layout = if case.case.ends_with("legacy") { layout } else { Layout::Safetensors { shards: 1 } };
        write_weights(&folder.join(TOWER), &tower_weights(case), float(case), layout);
    }
}

/// Where a tower of its own lies.
const TOWER: &str = "tower";

/// Converts `folder` with one type for all matrices.
pub fn convert(folder: &Path, dtype: DType, out: &Path) {
    let plain = TypeChoice::Plain(dtype);
    let vision_tower = Some(folder.join(TOWER)).filter(|tower| tower.exists()).map(Input::of_dir);
    let options =
        Options { text: plain, vision: plain, vision_tower, n_threads: Some(2), ..Options::default() };
    let plan = Plan::from_dir(folder, &options).unwrap();
    plan.run(out, &mut (), &Cancel::new()).unwrap();
}

/// Writes the model at `from` in f32: each weight what its block says.
pub fn unpack(from: &Path, to: &Path) {
    let file = Gguf::open(from).unwrap();
    let tensor = |tensor: &TensorInfo| TensorPlan {
        dtype: DType::F32,
        name: tensor.name.clone(),
        shape: tensor.shape,
    };
    let plan: Vec<_> = file.tensors().iter().map(tensor).collect();
    let mut metadata = Metadata::new("unpacked");
    ModelConfig::read(&file).unwrap().write(&mut metadata);
    let mut encoder = Encoder::new(fs::File::create(to).unwrap(), &metadata, &plan).unwrap();
    for tensor in file.tensors() {
        let mut values = vec![0.0; tensor.shape.n_elements() as usize];
        dequantize(tensor.dtype, file.data(tensor), &mut values).unwrap();
        encoder.begin(&tensor.name).unwrap();
        encoder.write(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }
    encoder.finish().unwrap();
}

fn float(case: &Case) -> Float {
    match case.weights.as_str() {
        "f32" => Float::F32,
        "bf16" => Float::BF16,
        other => panic!("{}: weights in {other}", case.case),
    }
}
