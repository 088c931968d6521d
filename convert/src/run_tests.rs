use std::io;
use std::path::PathBuf;

use super::*;
use crate::blocks::Blocks;
use crate::mixture::TypeChoice;
use crate::requantize::{Requantize, RequantizeOptions};

/// A job whose disk fails when it comes to the n-th tensor.
struct Failing {
    job: Blocks,
    at: usize,
}

impl Job for Failing {
    fn read(&self, index: usize, row: u64, take: &mut dyn FnMut(Chunk) -> bool) -> Result<()> {
        match self.order()[self.at] == index {
            true => Err(Error::io(Path::new("the disk"), io::Error::other("input/output error"))),
            false => self.job.read(index, row, take),
        }
    }

    fn config(&self, shards: Strings) -> ModelConfig {
        self.job.config(shards)
    }

    fn tensors(&self) -> Vec<owlet_format::TensorPlan> {
        self.job.tensors()
    }

    fn order(&self) -> Vec<usize> {
        self.job.order()
    }

    fn n_source_bytes(&self, index: usize) -> u64 {
        self.job.n_source_bytes(index)
    }

    fn place(&self, index: usize) -> String {
        self.job.place(index)
    }

    fn start(&self, index: usize, row: u64) -> Option<(usize, u64)> {
        self.job.start(index, row)
    }

    fn hashed(&self) -> &[SourceFile] {
        self.job.hashed()
    }

    fn n_read(&self) -> u64 {
        self.job.n_read()
    }

    fn identify(&self, id: &mut Sha256) {
        self.job.identify(id)
    }

    fn split_max_bytes(&self) -> Option<u64> {
        self.job.split_max_bytes()
    }

    fn importance(&self, index: usize) -> Option<&[f32]> {
        self.job.importance(index)
    }

    fn n_threads(&self) -> Option<usize> {
        self.job.n_threads()
    }
}

fn requantize() -> Blocks {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../demo/owlet-demo.gguf");
    let options = RequantizeOptions {
        text: Some(TypeChoice::Plain(DType::Q5_0)),
        allow_requantize: true,
        ..RequantizeOptions::default()
    };
    Requantize::from_file(&source, &options).unwrap().blocks
}

#[test]
fn a_read_that_fails_costs_nothing_that_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.gguf");
    let all = run(&requantize(), &whole, &mut (), &Cancel::new()).unwrap();
    let n_tensors = requantize().tensors().len();
    for at in [1, n_tensors / 2, n_tensors - 1] {
        let out = dir.path().join("out.gguf");
        let failing = Failing { job: requantize(), at };
        let error = run(&failing, &out, &mut (), &Cancel::new()).unwrap_err().to_string();
        assert_eq!(error, "the disk: input/output error");
        assert!(!out.exists() && dir.path().join("out.gguf.part").exists());
        let done = run(&requantize(), &out, &mut (), &Cancel::new()).unwrap();
        assert!(done.n_resumed_bytes > 0, "failed at {at}");
        assert_eq!(done.n_read_bytes + done.n_resumed_bytes, all.n_read_bytes, "failed at {at}");
        assert!(std::fs::read(&out).unwrap() == std::fs::read(&whole).unwrap(), "failed at {at}");
        std::fs::remove_file(out).unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
}
