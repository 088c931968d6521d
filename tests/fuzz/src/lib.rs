//! The loop around a fuzz target: makes input, watches what becomes of it, keeps what failed.

mod mutate;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub use mutate::Mutator;

/// Longer than this is a hang. Generous, since the clock also counts what else the machine has to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is fuzzed.
pub struct Target {
    pub name: &'static str,
    /// Good input, and how many of its first bytes are worth changing.
    pub corpus: Vec<(Vec<u8>, usize)>,
    pub run: fn(&[u8]),
}

struct Options {
    seed: u64,
    first: u64,
    seconds: u64,
    trace: bool,
    files: Vec<String>,
}

impl Target {
    /// Does what the command line says: the files given, or mutations for some seconds.
    pub fn main(&self) -> ExitCode {
        let options = match options() {
            Ok(options) => options,
            Err(problem) => {
                eprintln!(
                    "{problem}\nusage: {} [--seed N] [--first N] [--seconds N] [--trace] [FILE...]",
                    self.name
                );
                return ExitCode::from(2);
            }
        };
        for path in &options.files {
            match std::fs::read(path) {
                Ok(bytes) => (self.run)(&bytes),
                Err(error) => {
                    eprintln!("{path}: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        if !options.files.is_empty() {
            return ExitCode::SUCCESS;
        }
        self.mutate(&options)
    }

    fn mutate(&self, options: &Options) -> ExitCode {
        let end = Instant::now() + Duration::from_secs(options.seconds);
        let mut n = options.first;
        while Instant::now() < end {
            if options.trace {
                eprintln!("{n}");
            }
            let input = self.input(options.seed, n);
            let start = Instant::now();
            let survived = catch_unwind(AssertUnwindSafe(|| (self.run)(&input))).is_ok();
            if !survived || start.elapsed() > PATIENCE {
                let name = format!("crash-{}-{}-{n}", self.name, options.seed);
                let saved = std::fs::File::create(&name).and_then(|mut file| file.write_all(&input));
                eprintln!("{name}: after {:?}; saved: {saved:?}", start.elapsed());
                return ExitCode::FAILURE;
            }
            n += 1;
        }
        println!("{}: {} inputs, from {}:{} on", self.name, n - options.first, options.seed, options.first);
        ExitCode::SUCCESS
    }

    fn input(&self, seed: u64, n: u64) -> Vec<u8> {
        let mut mutator = Mutator::new(seed.rotate_left(32) ^ n);
        let (good, reach) = &self.corpus[mutator.below(self.corpus.len())];
        let mut input = good.clone();
        mutator.mutate(&mut input, *reach);
        input
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options { seed: 1, first: 0, seconds: 10, trace: false, files: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let slot = match arg.as_str() {
            "--seed" => &mut options.seed,
            "--first" => &mut options.first,
            "--seconds" => &mut options.seconds,
            "--trace" => {
                options.trace = true;
                continue;
            }
            flag if flag.starts_with('-') => return Err(format!("no such flag: {flag}")),
            _ => {
                options.files.push(arg);
                continue;
            }
        };
        let value = args.next().and_then(|value| value.parse().ok());
        *slot = value.ok_or(format!("{arg} wants a number"))?;
    }
    Ok(options)
}
