//! Backends in files: what is none is one line and never the end of the process, and one that is takes its part of a model.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::program::{Ran, command, owlet, picture, run};

/// What this program expects of a backend.
fn ours() -> String {
    let ggml = ggml::build_info();
    format!("{} (ggml {})", ggml.ggml_source, ggml.ggml_version)
}

fn succeed(mut command: Command) {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Compiles `sources` into a library, as the backends are.
fn compile(path: &Path, sources: &[PathBuf], flags: &[String]) {
    let mut compiler = Command::new(std::env::var("CXX").unwrap_or("c++".into()));
    compiler.args(["-shared", "-fPIC", "-std=gnu++17"]).args(flags).args(sources).arg("-o").arg(path);
    succeed(compiler);
}

fn library(path: &Path, source: &str) {
    let file = path.with_extension("cpp");
    fs::write(&file, source).unwrap();
    compile(path, std::slice::from_ref(&file), &[]);
    fs::remove_file(file).unwrap();
}

/// A library that says what it was built for, and whose entry is `body`.
fn stating(built_for: &str, body: &str) -> String {
    format!(
        "extern \"C\" const char owlet_built_for[];
        const char owlet_built_for[] = \"owlet backend for {built_for}\";
        extern \"C\" void * ggml_backend_init(void) {{ {body} }}"
    )
}

/// The stand-ins as a backend in `dir`, compiled once a run of the tests.
fn stand_ins(dir: &Path, is_pulled_out: bool) {
    static MADE: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE[usize::from(is_pulled_out)].get_or_init(|| {
        let path =
            DIR.get_or_init(|| tempfile::tempdir().unwrap()).path().join(format!("{is_pulled_out}.so"));
        let tree = Path::new(env!("OWLET_GGML_TREE"));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let headers = [tree.join("include"), tree.join("src"), here.join("vendor/ggml-rs/c")];
        let mut flags: Vec<_> = headers.map(|dir| format!("-I{}", dir.display())).into();
        flags.push(format!("-DBUILT_FOR=\"{}\"", ours()));
        flags.extend(is_pulled_out.then(|| "-DPULLED_OUT".to_string()));
        let sources = ["vendor/ggml-rs/c/stand_in.cpp", "tests/suite/backends/stand_in.cpp"];
        compile(&path, &sources.map(|file| here.join(file)), &flags);
        path
    });
    fs::copy(made, dir.join("libggml-stand-in.so")).unwrap();
}

/// Libraries by name, with what is said about each.
fn libraries() -> Vec<(&'static str, String, String)> {
    let (ours, other) = (ours(), "llama-cpp-sys-2 0.0.1 (ggml 0.0.1)");
    let null = stating(&ours, "return nullptr;");
    let calls = |function: &str| {
        let declared = format!("extern \"C\" void * {function}(void);\n");
        declared + &stating(&ours, &format!("return {function}();"))
    };
    let lacking = "extern \"C\" const char * owlet_lacking(void) { return \"a card\"; }";
    let of_another = &*format!("expected a backend for {ours}, found one for {other}");
    let aborts = "extern \"C\" void ggml_abort(const char *, int, const char *, ...);\n".to_string()
        + &stating(&ours, "ggml_abort(\"here.cpp\", 7, \"no such card\"); return nullptr;");
    let table = [
        ("aborts", aborts, "it does not start: no such card"),
        ("another", null.replace(&ours, other), of_another),
        // Another ggml may have what this one lacks: the loader refuses it, and says less than there is to say.
        ("another-function", calls("ggml_was_removed").replace(&ours, other), of_another),
        ("function", calls("ggml_is_not_here"), "undefined symbol: ggml_is_not_here"),
        (
            "interface",
            stating(&ours, "static int backend[64] = {99}; return backend;"),
            "it does not start: expected version 3 of ggml's interface, found 99",
        ),
        ("lacking", format!("{null}\n{lacking}"), "it needs a card, which is not here"),
        (
            "mute",
            "int nothing;".into(),
            "expected a backend that was built for owlet, found no such statement",
        ),
        (
            "no-entry",
            null.replace("ggml_backend_init", "entry"),
            "expected an entry, ggml_backend_init, found none",
        ),
        ("null", null, "it does not start: it found nothing to start: is there a driver for it?"),
        (
            "throws",
            "#include <stdexcept>\n".to_string()
                + &stating(&ours, "throw std::runtime_error(\"no such\\ncard\");"),
            "it does not start: no such card",
        ),
        ("throws-a-number", stating(&ours, "throw 7;"), "it does not start: no more is known"),
    ];
    table.map(|(name, source, why)| (name, source, why.to_string())).into()
}

/// Files in `dir` that are called as backends are, with what is said about each, by name.
fn hostile(dir: &Path) -> Vec<(PathBuf, String)> {
    let path = |name: &str| dir.join(format!("libggml-{name}.so"));
    let mut found = Vec::new();
    for (name, source, why) in libraries() {
        library(&path(name), &source);
        found.push((path(name), why));
    }

    // One whose own library is gone.
    let (absent, caller) = (dir.join("libowlet-absent.so"), dir.join("caller.cpp"));
    library(&absent, "extern \"C\" void * absent(void) { return nullptr; }");
    fs::write(&caller, "extern \"C\" void * absent(void); void * present(void) { return absent(); }")
        .unwrap();
    compile(&path("absent"), &[caller, absent.clone()], &[]);
    fs::remove_file(&absent).unwrap();
    let absent = format!("{}: cannot open shared object file: No such file or directory", absent.display());

    let whole = fs::read(path("null")).unwrap();
    let n_bytes = whole.len() / 3;
    fs::write(path("cut-off"), &whole[..n_bytes]).unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("text"), "whatever it is called: ".repeat(9)).unwrap();
    fs::create_dir(path("folder")).unwrap();
    symlink("nowhere", path("gone")).unwrap();
    let mut pipe = Command::new("mkfifo");
    pipe.arg(path("pipe"));
    succeed(pipe);
    let others = [
        ("absent", absent),
        ("cut-off", format!(" bytes, found {n_bytes}: it is cut off")),
        ("empty", "file too short".into()),
        ("text", "invalid ELF header".into()),
        ("folder", "expected a library, found no file".into()),
        ("gone", "No such file or directory (os error 2)".into()),
        ("pipe", "expected a library, found no file".into()),
    ];
    found.extend(others.map(|(name, why)| (path(name), why)));

    // None of these is looked at.
    for name in ["libggml-notes.txt", "libother.so", "ggml-other.so", "libggml-x.so.1"] {
        fs::write(dir.join(name), "text").unwrap();
    }
    found.sort();
    found
}

/// Every file by itself: nothing ends the process, and the others are looked at.
#[test]
fn what_is_no_backend_is_one_line_each() {
    let dir = tempfile::tempdir().unwrap();
    let named = dir.path().to_str().unwrap();
    let expected = hostile(dir.path());
    let Ran { code, out, err } = owlet(&["--list-devices", "--backends", named]);
    let none =
        "none: no GPU was found: is there one, a driver for it, and a backend in a file (docs/gpu.md)?\n";
    assert_eq!((code, out.as_str()), (Some(1), none), "{err}");
    let lines: Vec<_> = err.lines().collect();
    for (line, (path, why)) in lines.iter().zip(&expected) {
        let beginning = format!("owlet: passed over: {}: ", path.display());
        assert!(
            line.starts_with(&beginning) && line.ends_with(why),
            "expected {beginning}{why}\nfound {line}"
        );
    }
    assert_eq!(lines.len(), expected.len(), "{err}");

    // A directory that somebody named must be right.
    for args in
        [&["run", "Who?"][..], &["inspect", "demo/owlet-demo.gguf", "--plan"], &["bench", "--test", "decode"]]
    {
        let Ran { code, out, err } = owlet(&[args, &["--backends", named]].concat());
        let (first, why) = &expected[0];
        assert_eq!((code, out.as_str(), err), (Some(1), "", format!("owlet: {}: {why}\n", first.display())));
    }
    let nowhere = owlet(&["run", "Who?", "--backends", "nowhere"]);
    let why = "owlet: nowhere: No such file or directory (os error 2)\n";
    assert_eq!((nowhere.code, nowhere.err.as_str()), (Some(1), why));
}

/// Where nobody named it, a file that is no backend is noted and the program goes on; it is never looked for where the program happens to be run.
#[test]
fn backends_lie_beside_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("bin")).unwrap();
    let program = at("bin/owlet");
    let built = env!("CARGO_BIN_EXE_owlet");
    fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
    let put = |folder: &str| {
        fs::create_dir_all(at(folder)).unwrap();
        let path = at(folder).join("libggml-loud.so");
        let source = "#include <cstdio>\n[[gnu::constructor]] static void loud() { std::fputs(\"LOADED\\n\", stderr); }";
        library(&path, source);
        let why = "expected a backend that was built for owlet, found no such statement";
        format!("{}: {why}\n", path.canonicalize().unwrap().display())
    };
    put("elsewhere/backends");
    let ask = |args: &[&str]| {
        let template = command(args);
        let mut elsewhere = Command::new(&program);
        elsewhere.args(args).envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
        elsewhere.env_remove("OWLET_BACKENDS").current_dir(at("elsewhere"));
        run(elsewhere, b"")
    };
    let question = ["run", "Who?", "-n", "2", "-q"];
    assert_eq!(ask(&question).err, "");

    let inside = put("lib/owlet/backends");
    let noted = format!("LOADED\nowlet: passed over: {inside}");
    let found = ask(&question);
    assert_eq!((found.code, found.err.as_str()), (Some(0), noted.as_str()));
    let beside = put("bin/backends");
    let found = ask(&question);
    assert_eq!((found.code, found.err), (Some(0), format!("LOADED\nowlet: passed over: {beside}")));
    let listed = ask(&["--list-devices"]);
    assert_eq!((listed.code, listed.err), (Some(0), format!("LOADED\nowlet: passed over: {beside}")));
    let checked = ask(&["doctor", "--no-bench", "-q"]);
    assert!(checked.code == Some(1) && checked.out.contains(&format!("wrong: {beside}")), "{checked:?}");

    // The device may be missing because of that file.
    let missing = ask(&["run", "Who?", "--device", "CUDA0"]);
    assert_eq!((missing.code, missing.err), (Some(1), format!("LOADED\nowlet: {beside}")));
    // Nothing is loaded where no device is wanted.
    for flags in [&["--device", "none"][..], &["--exact"]] {
        assert_eq!(ask(&[&question[..], flags].concat()).err, "", "{flags:?}");
    }
}

/// The real program over a backend from a file: what it calls of ggml, it finds in the program.
#[test]
fn a_backend_in_a_file_says_what_the_cpu_says() {
    let dir = tempfile::tempdir().unwrap();
    stand_ins(dir.path(), false);
    let named = dir.path().to_str().unwrap();
    let red = picture("backends-red.png", 60, 40, [255, 0, 0, 255]);
    let ask = |flags: &[&str]| {
        let asked =
            ["run", "What colour is it?", "--temp", "0", "--image-cache", "off", "-i", red.to_str().unwrap()];
        owlet(&[&asked[..], flags].concat())
    };
    let listed = owlet(&["--list-devices", "--backends", named]).ok();
    let names: Vec<_> = listed.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(names, ["stand-in", "stand-in 2", "stand-in 3"], "{listed}");

    let on_cpu = ask(&["--device", "none"]).ok();
    let spread = ["--backends", named, "--gpu-layers", "all", "--vision-device", "gpu"];
    let on_one = ask(&spread);
    assert!(
        on_one.err.contains("stand-in (the CPU in the place of a device): the vision half and "),
        "{on_one:?}"
    );
    assert_eq!(on_one.ok(), on_cpu);
    let on_two = ask(&[&spread[..], &["--device", "stand-in,stand-in 2"]].concat());
    assert!(on_two.err.contains("stand-in 2 (the CPU in the place of a device): "), "{on_two:?}");
    assert_eq!(on_two.ok(), on_cpu);

    let plan = ["inspect", "demo/owlet-demo.gguf", "--plan", "--device", "stand-in 3"];
    let mut by_environment = command(&plan);
    by_environment.env("OWLET_BACKENDS", named);
    let text = run(by_environment, b"").ok();
    assert!(text.contains("On stand-in 3 (the CPU in the place of a device)"), "{text}");
    let mut listing = command(&["--list-devices"]);
    listing.env("OWLET_BACKENDS", named);
    assert_eq!(run(listing, b"").ok().lines().count(), 3);

    let file = dir.path().join("libggml-stand-in.so");
    let again = dir.path().join("libggml-twice.so");
    fs::copy(&file, &again).unwrap();
    symlink(&file, dir.path().join("libggml-link.so")).unwrap();
    let twice = owlet(&["--list-devices", "--backends", named]);
    let why = format!(
        "expected each backend once, found stand-ins in {}, too",
        file.canonicalize().unwrap().display()
    );
    assert_eq!(twice.err, format!("owlet: passed over: {}: {why}\n", again.display()));
    assert_eq!(twice.out.lines().count(), 3);
    let version = owlet(&["--version"]).ok();
    assert!(version.contains(" and backends in files"), "{version}");
}

/// What a backend throws while it computes ends where it ends for a backend that was built in.
#[test]
fn a_device_that_is_lost_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    stand_ins(dir.path(), true);
    let named = dir.path().to_str().unwrap();
    let lost = owlet(&["run", "Who?", "--backends", named, "--device", "stand-in 3", "--gpu-layers", "all"]);
    let why = "owlet: stand-in 3: lost, with all that is on it: it was pulled out\n";
    assert_eq!((lost.code, lost.err.as_str()), (Some(1), why));
}
