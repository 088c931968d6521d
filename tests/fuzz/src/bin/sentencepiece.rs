//! tokenizer.model.

use std::process::ExitCode;

use owlet_convert::hf::sentencepiece::SentencePiece;
use owlet_fuzz::Target;

fn main() -> ExitCode {
    let good = include_bytes!("../../../golden/parity/tokenizer.model").to_vec();
    let n_bytes = good.len();
    Target { name: "sentencepiece", corpus: vec![(good, n_bytes)], run }.main()
}

fn run(bytes: &[u8]) {
    let _ = SentencePiece::parse(bytes, "fuzz");
}
