//! What the program says about itself, and the `convert` door.

use std::fs;
use std::path::Path;

use crate::program::{Ran, owlet};

#[test]
fn help() {
    for words in [
        "",
        "run",
        "chat",
        "convert",
        "embed",
        "imatrix",
        "inspect",
        "quantize",
        "verify",
        "bench",
        "cache",
        "cache prune",
        "cache clear",
    ] {
        let args: Vec<_> = words.split_whitespace().chain(["--help"]).collect();
        let name = if words.is_empty() { "owlet".to_string() } else { words.replace(' ', "-") };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/help/{name}.txt"));
        let shown = owlet(&args).ok();
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(shown, expected, "{} differs from what {args:?} says:\n{shown}", path.display());
    }
}

#[test]
fn version() {
    let version = owlet(&["--version"]).ok();
    let lines: Vec<_> = version.lines().collect();
    assert!(lines[0].starts_with(concat!("owlet ", env!("CARGO_PKG_VERSION"))), "{version}");
    assert!(lines[1].starts_with("ggml ") && lines[1].contains("built for cpu "), "{version}");
}

#[test]
fn without_a_command_there_is_help_and_failure() {
    let Ran { code, out, err } = owlet::<&str>(&[]);
    assert!(code == Some(2) && out.is_empty() && err.contains("Usage: owlet <COMMAND>"), "{err}");
}

#[test]
fn convert_is_careful_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("model.gguf");
    fs::write(&there, "precious").unwrap();
    let (there, dir) = (there.to_str().unwrap(), dir.path().to_str().unwrap());
    let cases: [(&[&str], i32, String); 5] = [
        (
            &["convert", dir],
            2,
            "error: the following required arguments were not provided:\n  --output <OUT>".into(),
        ),
        (
            &["convert", dir, "-o", there, "--type", "q3"],
            2,
            "error: invalid value 'q3' for '--type <TYPE>': type \"q3\": expected one of f32, f16".into(),
        ),
        (
            &["convert", dir, "-o", there, "--set", "legacy"],
            2,
            "error: invalid value 'legacy' for '--set <KEY=VALUE>': expected key=value, found legacy".into(),
        ),
        (&["convert", dir, "-o", there], 1, format!("owlet: {there}: exists; --force replaces it\n")),
        (&["convert", dir, "-o", there, "--force"], 1, format!("owlet: {dir}/config.json: ")),
    ];
    for (args, code, text) in cases {
        let ran = owlet(args);
        assert!(
            ran.code == Some(code) && ran.out.is_empty() && ran.err.starts_with(&text),
            "{args:?}\n{ran:?}"
        );
    }
    assert_eq!(fs::read_to_string(there).unwrap(), "precious");
}
