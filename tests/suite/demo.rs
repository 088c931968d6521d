//! The built-in model on a fixed sample of pictures that it was not trained on.

#[path = "../accuracy/set.rs"]
pub mod set;

use std::path::PathBuf;
use std::process::Command;

use owlet_format::{Gguf, SELF_TEST_KEY};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The file in the program is what the converter makes of the checkpoint beside it, to the byte: on any machine, with
/// any number of threads; but for its self-test, which was recorded later.
#[test]
fn the_built_in_file_is_the_converted_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demo.gguf");
    let done = Command::new(env!("CARGO_BIN_EXE_owlet"))
        .args(["convert", "demo/checkpoint", "--type", "q8_0", "--name", "owlet-demo", "-o"])
        .arg(&out)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let [made, mut built_in] =
        [&out, &root().join("demo/owlet-demo.gguf")].map(|path| std::fs::read(path).unwrap());
    let room = Gguf::open(&out).unwrap().array_place(SELF_TEST_KEY).unwrap();
    built_in[room].fill(0);
    assert!(made == built_in, "{} bytes made, {} built in", made.len(), built_in.len());
}

/// Percent of right answers over the whole sample, measured with the file that is built in.
const MEASURED: f64 = 97.2;

/// What another processor's rounding may cost; a change that costs more has broken something.
const SLACK: f64 = 3.0;

#[test]
fn the_built_in_model_answers_as_well_as_measured() {
    let set = set::Set::read(&root().join("tests/data/demo"));
    assert!(set.n_questions() >= 60, "{} questions", set.n_questions());
    let mut wrong = Vec::new();
    let table = set.ask(None, 2, |question, answer, is_right| {
        if !is_right {
            wrong.push(format!("{}, found {answer:?}", question.describe()));
        }
    });
    let percent = table.percent("all");
    assert!(percent >= MEASURED - SLACK, "{percent:.1}%, measured {MEASURED}%\n{table}{}", wrong.join("\n"));
}
