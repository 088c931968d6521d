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
        "export",
        "imatrix",
        "inspect",
        "models",
        "models use",
        "models rm",
        "pull",
        "quantize",
        "verify",
        "bench",
        "caption",
        "completions",
        "doctor",
        "cache",
        "cache prune",
        "cache clear",
        "serve",
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

/// A program that can have no device says so instead of passing over the flag; one that can is tested where there is one.
#[test]
fn flags_about_devices_are_refused_where_there_can_be_none() {
    if ggml::Device::ARE_BUILT_IN {
        println!("not run: this build has a GPU backend");
        return;
    }
    let cases: [&[&str]; 4] = [
        &["run", "Who?", "--gpu-layers", "1"],
        &["bench", "--test", "decode", "--vision-device", "gpu"],
        &["inspect", "demo/owlet-demo.gguf", "--plan", "--device", "CUDA0"],
        &["embed", "a.png", "-o", "/nowhere/a.npy", "--device", "none"],
    ];
    for args in cases {
        let flag = args.iter().rfind(|word| word.starts_with("--")).unwrap();
        let Ran { code, out, err } = owlet(args);
        let expected = format!("owlet: {flag}: this owlet was built without a GPU backend (docs/gpu.md)\n");
        assert_eq!((code, out.as_str(), err), (Some(1), "", expected), "{args:?}");
    }
    let workers = owlet(&["run", "Who?", "--rpc", "10.0.0.1:50052", "--gpu-layers", "all"]);
    let expected = "owlet: --rpc: 10.0.0.1:50052: this owlet was built without feature rpc (docs/gpu.md)\n";
    assert_eq!((workers.code, workers.err.as_str()), (Some(1), expected));
    let backends = owlet(&["run", "Who?", "--backends", "/usr/lib"]);
    let expected = "owlet: --backends: this owlet was built without feature dynamic-backends (docs/gpu.md)\n";
    assert_eq!((backends.code, backends.err.as_str()), (Some(1), expected));
    let listed = owlet(&["--list-devices"]).ok();
    assert_eq!(listed, "none: this owlet was built without a GPU backend (docs/gpu.md)\n");
    let Ran { code, err, .. } = owlet(&["run", "Who?", "--gpu-layers", "many"]);
    assert!(code == Some(2) && err.contains("expected a number, auto or all, found many"), "{err}");
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
