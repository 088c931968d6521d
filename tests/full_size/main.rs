//! Writes a model file of InternVL-Chat-V1-1's true shapes with random weights, in the types that
//! `owlet convert` would choose, so that memory and time of the 19-billion-parameter model can be seen without
//! its checkpoint.
//!
//! In: the name of the file, then how many blocks of the tower and of the text half (default: all 45 and 40).
//! Out: the file, about 14 GB. What the model says is noise, what it costs is real.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use owlet::measure::{Synthetic, shape};
use owlet_convert::checkpoint::SourceType;
use owlet_convert::{Options, Recipe};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(out) = args.first() else {
        eprintln!("usage: full-size OUT.gguf [VISION_LAYERS [TEXT_LAYERS]]");
        std::process::exit(2);
    };
    let n_layer = |at: usize| args.get(at).map(|text| text.parse().unwrap());
    let config = shape("internvl-chat-v1-1", n_layer(1), n_layer(2)).unwrap();
    let options = Options::default();
    let (vision, rules) = (options.vision, options.rules);
    let recipe = Recipe { text: options.text, vision, projector: vision, rules, has_importance: false };
    Synthetic::new(config.clone(), |spec| recipe.choose(spec, SourceType::BF16, &config).dtype)
        .write(Path::new(out))
        .unwrap();
}
