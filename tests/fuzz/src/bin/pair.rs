//! A pair of llama.cpp's files, one of them changed: keys, tensors and their places, as far as a plan goes.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use ggml::Cancel;
use owlet_convert::{Export, Pair, PairOptions};
use owlet_format::{Activation, Gguf, ModelConfig, NormKind, ProjectorKind, QkNorm, Shuffle, Template};
use owlet_fuzz::Target;
use tempfile::TempDir;

#[allow(clippy::unwrap_used, dead_code)]
#[path = "../../../../format/tests/suite/model.rs"]
mod model;

/// Both files as they should be, and a folder.
struct Good {
    dir: TempDir,
    files: [Vec<u8>; 2],
}

static GOOD: OnceLock<Good> = OnceLock::new();

fn main() -> ExitCode {
    let good = match good() {
        Ok(good) => GOOD.get_or_init(|| good),
        Err(error) => {
            eprintln!("no pair to begin with: {error}");
            return ExitCode::FAILURE;
        }
    };
    let reach = |bytes: &Vec<u8>| {
        let file = Gguf::from_bytes(bytes.clone().into(), "good").ok();
        file.and_then(|file| Some(file.tensors().first()?.offset as usize)).unwrap_or(bytes.len())
    };
    let corpus = good.files.iter().map(|bytes| (bytes.clone(), reach(bytes))).collect();
    Target { name: "pair", corpus, run }.main()
}

/// A tiny LLaVA, exported.
fn good() -> Result<Good, Box<dyn std::error::Error>> {
    let dir = TempDir::new()?;
    let path = dir.path().join("good.gguf");
    let config = config();
    fs::write(&path, model::file(&model::metadata(&config), &model::plan(&config)))?;
    let exported = Export::from_file(&path)?.run(dir.path(), &mut (), &Cancel::new())?;
    let [text, mmproj] = &exported.files[..] else { return Err("expected two files".into()) };
    let files = [fs::read(&text.0)?, fs::read(&mmproj.0)?];
    Ok(Good { dir, files })
}

/// The tiny model with LLaVA's tower and projector.
fn config() -> ModelConfig {
    let mut config = model::config();
    config.family = "llava-1.5".into();
    if let (Some(vision), Some(projector)) = (&mut config.vision, &mut config.projector) {
        (vision.norm, vision.qk_norm, vision.act) = (NormKind::Layer, QkNorm::None, Activation::QuickGelu);
        (vision.qkv_bias, vision.patch_bias, vision.pre_norm, vision.layer_scale) =
            (true, false, true, false);
        (projector.kind, projector.shuffle, projector.ratio) = (ProjectorKind::Mlp2xGelu, Shuffle::None, 1);
    }
    if let (Some(image), Some(prompt)) = (&mut config.image, &mut config.prompt) {
        (image.n_tokens, prompt.template) = (16, Template::VicunaV1);
    }
    config
}

/// The bytes in the place of either file.
fn run(bytes: &[u8]) {
    let Some(Good { dir, files }) = GOOD.get() else { return };
    let place = |which: usize| -> PathBuf { dir.path().join(["text.gguf", "mmproj.gguf"][which]) };
    for which in [0, 1] {
        let written =
            fs::write(place(which), bytes).and_then(|()| fs::write(place(1 - which), &files[1 - which]));
        if written.is_ok()
            && let Ok(pair) = Pair::from_files(&place(0), &place(1), &PairOptions::default())
        {
            let _ = pair.to_string();
        }
    }
}
