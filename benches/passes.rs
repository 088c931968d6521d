//! Whether a change made the network slower: every pass of the built-in model, against an earlier run.
//!
//! `cargo bench --bench passes` prints medians; `-- --save FILE` keeps them, `-- --against FILE` compares with kept ones and
//! fails where a pass takes over a quarter longer. Figures of one machine mean nothing on another, so CI only builds this.

use std::process::ExitCode;

use ggml::Cancel;
use owlet::engine::Setup;
use owlet::measure::{Options, Report, Source, Test, Watch, bench};

/// A pass that takes longer by more than this is a regression; less is what machines do by themselves.
const SLACK: f64 = 1.25;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(n_slower) => {
            eprintln!("passes: {n_slower} are slower than before");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("passes: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many passes are slower than those they are compared with.
fn run() -> Result<usize, Failure> {
    // Cargo adds --bench to what the user gives.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (save, against) = match words[..] {
        [] => (None, None),
        ["--save", path] => (Some(path), None),
        ["--against", path] => (None, Some(path)),
        _ => return Err("expected --save FILE, --against FILE or nothing".into()),
    };
    let before: Option<Report> =
        against.map(|path| Ok::<_, Failure>(serde_json::from_slice(&std::fs::read(path)?)?)).transpose()?;
    let report = measured()?;
    let mut n_slower = 0;
    for result in &report.results {
        let seconds = result.seconds.unwrap_or(0.0);
        let old = before.as_ref().and_then(|before| before.result(result.test)?.seconds);
        let ratio =
            old.map_or(String::new(), |old| format!("  {:.2} times as long as before", seconds / old));
        n_slower += usize::from(old.is_some_and(|old| seconds > SLACK * old));
        println!("{:<12} {:>10.3} ms{ratio}", result.test, 1e3 * seconds);
    }
    if let Some(path) = save {
        std::fs::write(path, serde_json::to_vec(&report)?)?;
    }
    Ok(n_slower)
}

fn measured() -> Result<Report, Failure> {
    let options = Options {
        tests: vec![
            Test::Preprocess,
            Test::Vision,
            Test::Projector,
            Test::Prefill256,
            Test::Prefill512,
            Test::Decode,
        ],
        repetitions: 21,
        setup: Setup::cpu(std::thread::available_parallelism()?.get()),
        with_limits: false,
    };
    let mut silent = |_: &str, _: u64, _: u64| {};
    let mut watch = Watch { cancel: &Cancel::new(), progress: &mut silent };
    Ok(bench(&Source::File(None), &options, &mut watch)?)
}
