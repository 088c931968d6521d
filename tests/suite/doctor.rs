//! `owlet doctor` on a machine where all is well, and where something is not.

use std::fs;

use serde_json::Value;

use crate::models::{Kind, path};
use crate::program::{Ran, command, owlet, run, state_dir};

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn all_is_as_it_should_be() {
    fs::create_dir_all(state_dir()).unwrap();
    let ran = owlet(&["doctor", "--json", "-q"]);
    let found = report(&ran);
    assert_eq!(
        (ran.code, &found["ok"], &found["problems"]),
        (Some(0), &true.into(), &Value::Array(vec![])),
        "{ran:?}"
    );
    assert_eq!(found["model"]["file"], "built-in model");
    assert!(
        found["model"]["tensors"].as_u64().unwrap() > 50 && found["model"]["damaged"] == Value::Array(vec![])
    );
    assert!(found["model"]["kernels"].as_str().unwrap().contains("ggml"), "{found:#}");
    for test in found["bench"].as_array().unwrap() {
        assert!(test["rate"].as_f64().is_some_and(|rate| rate > 0.0), "{test}");
    }
    assert_eq!(found["bench"].as_array().unwrap().len(), 3);
    let manual = fs::read_to_string("docs/config.md").unwrap();
    for setting in found["settings"].as_array().unwrap() {
        let name = setting["name"].as_str().unwrap();
        let row = format!("| `{name}` | `OWLET_{}` |", name.to_uppercase().replace('-', "_"));
        assert!(manual.contains(&row), "docs/config.md has no {row}");
    }
    let words = owlet(&["doctor", "--no-bench"]).ok();
    for expected in [
        "checksums  right",
        "\n  self-test  ",
        "threads           -             built in",
        "all is as it should be\n",
    ] {
        assert!(words.contains(expected), "no {expected:?} in\n{words}");
    }
}

#[test]
fn what_is_wrong_is_said_and_the_rest_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged.gguf");
    let mut bytes = fs::read("demo/owlet-demo.gguf").unwrap();
    let at = bytes.len() - 1000;
    bytes[at] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, format!("threads = 1\nmodel = {:?}\n", damaged.to_str().unwrap())).unwrap();
    let in_config = |args: &[&str], variable: (&str, &str)| {
        let mut program = command(&[&["doctor", "--no-bench"], args].concat());
        program.env("OWLET_CONFIG", &file).env(variable.0, variable.1);
        run(program, b"")
    };
    let ran = in_config(&["--json"], ("OWLET_CTX", "128"));
    let found = report(&ran);
    assert_eq!((ran.code, &found["ok"]), (Some(1), &false.into()), "{ran:?}");
    let problems = found["problems"].as_array().unwrap();
    assert!(
        problems.len() == 1 && problems[0].as_str().unwrap().contains("expected SHA-256 "),
        "{problems:?}"
    );
    let source = |name: &str| {
        let settings = found["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["name"] == name).unwrap()["source"]
            .as_str()
            .unwrap()
            .to_string()
    };
    assert_eq!(source("ctx"), "OWLET_CTX");
    assert_eq!(source("threads"), format!("{}: line 1", file.display()));
    assert_eq!(source("temp"), "built in");

    let ran = in_config(&[], ("OWLET_THREADS", "none"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("wrong: OWLET_THREADS: threads: "), "{}", ran.out);
    let whole = path(Kind::Story);
    let ran = in_config(&["-m", whole.to_str().unwrap()], ("OWLET_CTX", "128"));
    assert!(ran.code == Some(0) && ran.out.contains("\n  story, "), "{ran:?}");
    let ran = in_config(&["-m", "nowhere.gguf"], ("OWLET_CTX", "128"));
    assert!(ran.code == Some(1) && ran.out.contains("wrong: nowhere.gguf: "), "{ran:?}");
}
