//! How many questions of a set a model answers right: `accuracy SET [MODEL.gguf ...]`, without a file the built-in
//! model. Wrong answers go to stderr.
#![allow(clippy::unwrap_used)]

mod set;

use std::path::Path;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((set, models)) = args.split_first() else {
        eprintln!("usage: accuracy SET [MODEL.gguf ...]");
        std::process::exit(2);
    };
    let set = set::Set::read(Path::new(set));
    let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let models: Vec<_> = match models {
        [] => vec![None],
        models => models.iter().map(|model| Some(Path::new(model))).collect(),
    };
    for model in models {
        let name = model.map_or("built-in model".into(), |model| model.display().to_string());
        let table = set.ask(model, n_threads, |question, answer, is_right| {
            if !is_right {
                eprintln!("{}, found {answer:?}", question.describe());
            }
        });
        println!("{name}, {} questions\n{table}", set.n_questions());
    }
}
