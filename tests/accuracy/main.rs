//! How many questions of a set a model answers right, and how far its numbers are from a reference's:
//!
//!     accuracy SET [MODEL.gguf ...]                                    without a file the built-in model
//!     accuracy SET --against REFERENCE.gguf [--nodes] MODEL.gguf ...   tables in Markdown
//!
//! Wrong answers go to stderr in the first form. In the second, `exact:FILE` runs a file with activations in f32.
#![allow(clippy::unwrap_used)]

mod cost;
mod set;
mod watched;

use std::path::Path;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    match args.split_first() {
        Some((set, [against, reference, rest @ ..])) if against == "--against" => {
            let is_all = rest.first().is_some_and(|word| word == "--nodes");
            let models = &rest[usize::from(is_all)..];
            let set = set::Set::read(Path::new(set));
            print!("{}", cost::compare(&set, reference, models, n_threads, is_all));
        }
        Some((set, models)) => count(Path::new(set), models, n_threads),
        None => {
            eprintln!("usage: accuracy SET [--against REFERENCE.gguf [--nodes]] [MODEL.gguf ...]");
            std::process::exit(2);
        }
    }
}

fn count(set: &Path, models: &[String], n_threads: usize) {
    let set = set::Set::read(set);
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
