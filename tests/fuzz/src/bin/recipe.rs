//! Recipe files.

use std::process::ExitCode;

use owlet_convert::Rules;
use owlet_fuzz::Target;

const GOOD: &[&str] = &[
    "# the first block is kept\n^blk\\.0\\. = bf16\nattn_(q|k)\\. = q5_k\nmm\\.[1-3] = iq4_nl\n",
    "v\\.blk\\.(1?\\d|2[0-4])\\.ffn_(up|down)\\.weight$ = q8_0\n(a|b)*c{2,5}[^x-z]+ = q4_0\n",
];

fn main() -> ExitCode {
    let corpus = GOOD.iter().map(|text| (text.as_bytes().to_vec(), text.len())).collect();
    Target { name: "recipe", corpus, run }.main()
}

fn run(bytes: &[u8]) {
    if let Ok(rules) = Rules::parse(bytes, "fuzz") {
        let names = ["blk.0.attn_q.weight", "v.blk.24.ffn_down.weight", "mm.1.weight", &"abc".repeat(20)];
        let _ = rules.refuse_idle(&names);
        rules.lines().for_each(drop);
    }
}
