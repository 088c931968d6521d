//! The pickled dict of a torch file.

use std::process::ExitCode;

use owlet_convert::checkpoint::pickle;
use owlet_fuzz::Target;

/// Real files; the archives store their entries as they are.
const FILES: [&[u8]; 2] = [
    include_bytes!("../../../golden/convert/torch-views.bin"),
    include_bytes!("../../../golden/convert/torch-module.bin"),
];
const PICKLE_BYTES: usize = 1500;

fn main() -> ExitCode {
    let corpus = FILES.iter().map(|file| {
        let start = file.windows(3).position(|bytes| bytes == b"\x80\x02c").unwrap_or(0);
        let pickle = file[start..].iter().copied().take(PICKLE_BYTES).collect::<Vec<u8>>();
        let n_bytes = pickle.len();
        (pickle, n_bytes)
    });
    Target { name: "pickle", corpus: corpus.collect(), run }.main()
}

fn run(bytes: &[u8]) {
    let _ = pickle::read(bytes);
}
