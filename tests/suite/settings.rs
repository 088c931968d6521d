//! Settings from flags, the environment and the file: which one counts, and what is said about a wrong one.

use std::fs;

use serde_json::Value;

use crate::models::{Kind, path};
use crate::program::{Ran, command, owlet, run};

/// A directory for the program's configuration, with `text` as the file.
fn config(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("owlet")).unwrap();
    fs::write(dir.path().join("owlet/config.toml"), text).unwrap();
    dir
}

fn owlet_in(dir: &tempfile::TempDir, variables: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut program = command(args);
    program.env_remove("OWLET_CONFIG").env("XDG_CONFIG_HOME", dir.path()).envs(variables.iter().copied());
    run(program, b"")
}

fn completion(ran: Ran) -> (Value, u64) {
    let report: Value = serde_json::from_str(&ran.ok()).unwrap();
    (report["model"].clone(), report["tokens"]["completion"].as_u64().unwrap())
}

#[test]
fn a_flag_comes_before_the_environment_before_the_file() {
    let model = path(Kind::Endless);
    let dir = config(&format!("model = {:?}\nmax-tokens = 3\n", model.to_str().unwrap()));
    let ask = |variables: &[(&str, &str)], more: &[&str]| {
        completion(owlet_in(&dir, variables, &[&["run", "--json", "Q?"], more].concat()))
    };
    assert_eq!(ask(&[], &[]), ("endless".into(), 3));
    assert_eq!(ask(&[("OWLET_MAX_TOKENS", "4")], &[]), ("endless".into(), 4));
    assert_eq!(ask(&[("OWLET_MAX_TOKENS", "4")], &["-n", "5"]), ("endless".into(), 5));
    assert_eq!(ask(&[("OWLET_MAX_TOKENS", "")], &[]), ("endless".into(), 3), "an empty variable is none");
    let story = path(Kind::Story);
    let story = story.to_str().unwrap();
    assert_eq!(ask(&[("OWLET_MODEL", story), ("OWLET_MAX_TOKENS", "2")], &[]), ("story".into(), 2));
    assert_eq!(ask(&[("OWLET_MODEL", "nowhere.gguf")], &["-m", story, "-n", "1"]), ("story".into(), 1));
    // a file elsewhere, whose paths count from where it is
    let other = tempfile::tempdir().unwrap();
    fs::copy(story, other.path().join("s.gguf")).unwrap();
    fs::write(other.path().join("mine.toml"), "model = \"s.gguf\"\nmax-tokens = 1").unwrap();
    let mine = other.path().join("mine.toml");
    assert_eq!(ask(&[("OWLET_CONFIG", mine.to_str().unwrap())], &[]), ("story".into(), 1));
    // what the flag's default is now stands in its help
    let help = owlet_in(&dir, &[], &["run", "--help"]).ok();
    assert!(help.contains("[default: 3]"), "{help}");
}

/// Where a model lies matters to a plan of it, not to a look at its file; layers of text do not matter to pictures.
#[test]
fn a_setting_without_effect_is_no_error() {
    let dir = config("gpu-layers = \"auto\"\n");
    let model = path(Kind::Story);
    let model = model.to_str().unwrap();
    assert!(owlet_in(&dir, &[], &["inspect", model]).ok().contains("GGUF"));
    let out = dir.path().join("out.npy");
    let picture = ["embed", "-o", out.to_str().unwrap(), "examples/red-circle.png"];
    owlet_in(&dir, &[], &picture).ok();
    // As flags they are.
    let ran = owlet_in(&dir, &[], &["inspect", "--gpu-layers", "1", model]);
    assert!(ran.code == Some(2) && ran.err.contains("--plan"), "{ran:?}");
    let ran = owlet_in(&dir, &[], &[&picture[..], &["--force", "--gpu-layers", "1"]].concat());
    assert!(ran.code == Some(1) && ran.err.contains("--gpu-layers"), "{ran:?}");
}

/// Nothing is excluded by what somebody wrote into a file for another command.
#[test]
fn a_setting_excludes_no_flag() {
    let dir = config("model = \"nowhere.gguf\"\n");
    let ran = owlet_in(&dir, &[], &["bench"]);
    assert!(ran.code == Some(1) && ran.err.contains("nowhere.gguf"), "{ran:?}");
    let told = owlet_in(&dir, &[], &["bench", "--shape", "no-such-shape"]);
    assert!(
        told.code == Some(1) && told.err.contains("no-such-shape") && !told.err.contains("nowhere"),
        "{told:?}"
    );
}

/// Each command that has a flag takes its setting, as its default.
#[test]
fn settings_reach_every_command_that_has_their_flags() {
    let dir = config("model = \"nowhere.gguf\"\nthreads = 3\nctx = 77\nkv-type = \"q8_0\"\n");
    let defaults = |name: &str| {
        let help = owlet_in(&dir, &[], &[name, "--help"]).ok();
        let of =
            |flag: &str| help.lines().skip_while(|line| !line.contains(flag)).take(8).collect::<String>();
        let is = |flag: &str, value: &str| {
            of(&format!("--{flag} <"))
                .split("--")
                .nth(1)
                .is_some_and(|text| text.contains(&format!("[default: {value}]")))
        };
        let nowhere = dir.path().join("owlet").join("nowhere.gguf");
        [is("model", nowhere.to_str().unwrap()), is("threads", "3"), is("ctx", "77"), is("kv-type", "q8_0")]
    };
    for (name, expected) in [
        ("run", [true; 4]),
        ("chat", [true; 4]),
        ("caption", [true; 4]),
        ("serve", [true; 4]),
        ("bench", [true, true, false, true]),
        ("embed", [true, true, false, false]),
        ("imatrix", [true, true, false, false]),
        ("inspect", [false, false, true, true]),
        ("verify", [false, true, false, false]),
        ("convert", [false, true, false, false]),
        ("quantize", [false, true, false, false]),
        ("doctor", [true, false, false, false]),
    ] {
        assert_eq!(defaults(name), expected, "{name}");
    }
    // and they have effect
    for (args, problem) in [
        (&["embed", "examples/red-circle.png", "-o", "x.npy"][..], "nowhere.gguf"),
        (&["imatrix", "--text", "README.md", "-o", "x.gguf"], "nowhere.gguf"),
    ] {
        let ran = owlet_in(&dir, &[], args);
        assert!(
            ran.code == Some(1) && ran.err.contains(problem) && ran.err.lines().count() == 1,
            "{args:?}: {ran:?}"
        );
    }
    let plan = |more: &[&str]| {
        let args = [&["inspect", "--plan", "--json", "demo/owlet-demo.gguf"], more].concat();
        let plan: Value = serde_json::from_str(&owlet_in(&dir, &[], &args).ok()).unwrap();
        (plan["n_ctx"].clone(), plan["kv_type"].clone())
    };
    assert_eq!(plan(&[]), (77.into(), "q8_0".into()));
    assert_eq!(plan(&["--ctx", "100", "--kv-type", "f32"]), (100.into(), "f32".into()));
    owlet_in(&dir, &[], &["inspect", "demo/owlet-demo.gguf"]).ok();
    for name in ["verify", "convert", "quantize", "inspect"] {
        let ran =
            owlet_in(&dir, &[("OWLET_THREADS", "0"), ("OWLET_CTX", "0")], &[name, "demo/owlet-demo.gguf"]);
        assert!(ran.code == Some(2) && ran.err.starts_with("owlet: OWLET_"), "{name}: {ran:?}");
    }
}

#[test]
fn a_wrong_setting_is_one_line() {
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let cases: [Case; 8] = [
        ("\nthreads = 0\n", &[], "config.toml: line 2: threads: 0 is not in 1..=4294967295, found 0\n"),
        (
            "threads = \"many\"\n",
            &[],
            "config.toml: line 1: threads: invalid digit found in string, found many\n",
        ),
        (
            "thraeds = 2\n",
            &[],
            "config.toml: line 1: thraeds: no such setting; expected one of model, ctx, threads, ",
        ),
        ("threads = 2\nthreads 3", &[], "config.toml: line 2: "),
        (
            "kv-type = \"q4_0\"",
            &[],
            "config.toml: line 1: kv-type: kv type: expected f16, f32 or q8_0, found q4_0",
        ),
        ("low-memory = 3", &[], "config.toml: line 1: low-memory: expected true or false, found 3\n"),
        ("threads = 2", &[("OWLET_THREADS", "-1")], "OWLET_THREADS: threads: "),
        ("", &[("OWLET_CONFIG", "/nowhere/config.toml")], "/nowhere/config.toml: No such file or directory"),
    ];
    for (text, variables, expected) in cases {
        let dir = config(text);
        let ran = owlet_in(&dir, variables, &["run", "Q?"]);
        assert!(ran.code == Some(2) && ran.out.is_empty(), "{text:?}: {ran:?}");
        assert!(ran.err.starts_with("owlet: ") && ran.err.contains(expected), "{text:?}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        // who asks for help, or for something else, gets it
        owlet_in(&dir, variables, &["run", "--help"]).ok();
        owlet_in(&dir, variables, &["completions", "bash"]).ok();
    }
}

#[test]
fn shells_and_man_know_every_command() {
    for (shell, word) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef owlet"),
        ("fish", "complete -c owlet"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let script = owlet(&["completions", shell]).ok();
        for expected in [word, "caption", "output-schema", "quantize"] {
            assert!(script.contains(expected), "{shell}: no {expected}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let man = dir.path().join("man1");
    owlet(&["man", man.to_str().unwrap()]).ok();
    let page = |name: &str| fs::read_to_string(man.join(name)).unwrap();
    assert!(page("owlet.1").contains("owlet\\-caption"), "{}", page("owlet.1"));
    assert!(page("owlet-run.1").contains("\\-\\-output\\-schema"), "{}", page("owlet-run.1"));
    assert!(page("owlet-cache-prune.1").contains(".TH"));
}
