//! Weight files of both formats, up to the rows of every tensor.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use owlet_convert::checkpoint::Checkpoint;
use owlet_fuzz::Target;

const TORCH: [&[u8]; 2] = [
    include_bytes!("../../../golden/convert/torch-views.bin"),
    include_bytes!("../../../golden/convert/torch-module.bin"),
];

fn main() -> ExitCode {
    let json = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#;
    let safetensors = [&(json.len() as u64).to_le_bytes()[..], json, &[0; 16]].concat();
    let n_header = 8 + json.len();
    let mut corpus = vec![(safetensors, n_header)];
    corpus.extend(TORCH.iter().map(|file| (file.to_vec(), file.len())));
    let exit = Target { name: "weights", corpus, run }.main();
    let _ = fs::remove_dir_all(dir());
    exit
}

fn dir() -> PathBuf {
    std::env::temp_dir().join(format!("owlet-fuzz-{}", std::process::id()))
}

/// The readers go by position through a file, so there has to be one. Which format it has says its start.
fn run(bytes: &[u8]) {
    let dir = dir();
    let torch = dir.join("pytorch_model.bin");
    let safetensors = dir.join("model.safetensors");
    let (path, other) = if bytes.starts_with(b"PK") { (torch, safetensors) } else { (safetensors, torch) };
    let _ = fs::remove_file(other);
    if fs::create_dir_all(&dir).and_then(|()| fs::write(path, bytes)).is_err() {
        return;
    }
    let Ok(checkpoint) = Checkpoint::open(&dir) else { return };
    for (name, tensor) in &checkpoint.tensors {
        for n_per_row in [1, tensor.shape.last().copied().unwrap_or(1)] {
            let n_bytes = tensor.n_bytes();
            if n_per_row > 0 && n_bytes <= 1 << 20 && checkpoint.check_rows(name, tensor, n_per_row).is_ok() {
                let _ = checkpoint.read_rows(tensor, n_per_row, 0, &mut vec![0; n_bytes as usize]);
            }
        }
    }
}
