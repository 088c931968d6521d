//! The law of the house, read off the source: which room may name which, who may print, where `unsafe` may
//! stand. ARCHITECTURE.md says the same in prose.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room of `src/` with the rooms it may name. A room that is not listed here fails the test.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("token", &[]),
    ("fetch", &["error"]),
    ("kernels", &[]),
    ("model", &["error", "token", "kernels"]),
    ("prompt", &["error", "token"]),
    ("engine", &["error", "token", "model", "prompt"]),
    ("measure", &["error", "token", "model", "prompt", "engine"]),
    ("serve", &["error", "token", "fetch", "prompt", "engine"]),
    ("cli", &["error", "token", "fetch", "model", "prompt", "engine", "measure", "serve"]),
    ("main", &["error", "cli"]),
];

/// Each package with the packages of the house that it may depend on.
const PACKAGES: &[(&str, &[&str])] = &[
    ("vendor/ggml-rs", &[]),
    ("format", &["ggml"]),
    ("convert", &["ggml", "owlet-format"]),
    (".", &["ggml", "owlet-format", "owlet-convert"]),
];

/// Where `unsafe` may stand: the C bindings, our kernels, the one file of `format` that maps files, the one that handles the
/// signal of a map that was lost, and the instruction sequences that a bench measures the machine with.
const UNSAFE_MAY_STAND: &[&str] = &[
    "vendor/ggml-rs/",
    "src/kernels/x86_64/",
    "format/src/container/map.rs",
    "format/src/lost_maps.rs",
    "src/measure/limits_x86_64.rs",
];

/// Who may write to the terminal.
const MAY_PRINT: &[&str] = &["src/cli/", "src/serve/log.rs", "src/main.rs"];

/// Longer than this and a joint is missing.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the four packages (sources and build scripts, not folders of tests), with its path from the root.
pub fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for package in PACKAGES {
        let dir = root().join(package.0);
        collect(&dir.join("src"), &mut found);
        if let Ok(text) = fs::read_to_string(dir.join("build.rs")) {
            found.insert(relative(&dir.join("build.rs")), text);
        }
    }
    assert!(found.len() > 20, "found only {} source files", found.len());
    found
}

fn collect(dir: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                collect(&path, into);
            }
        } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("tests.rs") {
            into.insert(relative(&path), fs::read_to_string(&path).unwrap());
        }
    }
}

fn relative(path: &Path) -> String {
    let text = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
    text.trim_start_matches("./").to_string()
}

/// The source without comments, and without its trailing test module.
pub fn code(text: &str) -> String {
    let body = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    body.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The rooms that a source names as `crate::room` or `owlet::room`, alone or in a braced list.
fn rooms_named(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("owlet::")) {
        let rest = &code[at..];
        let rest = &rest[rest.find("::").map_or(0, |p| p + 2)..];
        if let Some(list) = rest.strip_prefix('{') {
            named.extend(items(list).iter().map(|item| first_word(item)));
        } else {
            named.push(first_word(rest));
        }
    }
    named.retain(|word| !word.is_empty());
    named
}

/// The items of a list, from behind its opening brace to where that closes.
pub fn items(list: &str) -> Vec<String> {
    let (mut items, mut depth) = (vec![String::new()], 1);
    for c in list.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match (c, depth, items.last_mut()) {
            (_, 0, _) => break,
            (',', 1, _) => items.push(String::new()),
            (_, _, Some(item)) => item.push(c),
            _ => {}
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// `src/model/text.rs` -> `model`, `src/error.rs` -> `error`.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let room = inside.split('/').next()?;
    Some(room.strip_suffix(".rs").unwrap_or(room))
}

#[test]
fn arrows_between_rooms_only_go_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(room) = room_of(&path).filter(|room| *room != "lib") else { continue };
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{path}: room {room} is not in the map"));
            continue;
        };
        for named in rooms_named(&code(&text)) {
            let is_room = ROOMS.iter().any(|(name, _)| *name == named);
            if is_room && named != room && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{path}: {room} names {named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn packages_depend_only_downwards() {
    let house = ["ggml", "owlet-format", "owlet-convert", "owlet"];
    for (package, allowed) in PACKAGES {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let name = line.split(['.', '=', ' ']).next().unwrap_or("");
            if section == "[dependencies]" && house.contains(&name) {
                assert!(allowed.contains(&name), "{package}: depends on {name}");
            }
        }
    }
}

#[test]
fn unsafe_stands_only_inside_the_fence() {
    for (path, text) in sources() {
        let inside = UNSAFE_MAY_STAND.iter().any(|place| path.starts_with(place));
        let uses = code(&text).split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        assert!(inside || !uses, "{path}: unsafe outside the fence");
    }
}

#[test]
fn only_the_doors_print() {
    let words = ["println!", "print!", "eprintln!", "eprint!", "dbg!", "todo!", "unimplemented!"];
    for (path, text) in sources() {
        let door = MAY_PRINT.iter().any(|place| path.starts_with(place)) || path.ends_with("build.rs");
        let code = code(&text);
        for word in words {
            let stub = word == "todo!" || word == "unimplemented!" || word == "dbg!";
            assert!((door && !stub) || !code.contains(word), "{path}: {word} below the doors");
        }
    }
}

#[test]
fn no_file_grew_past_its_purpose() {
    for (path, text) in sources() {
        let n_lines = text.lines().count();
        assert!(n_lines <= MAX_LINES, "{path}: {n_lines} lines, expected at most {MAX_LINES}");
    }
}

#[test]
fn the_reader_of_arrows_sees_them() {
    let cases: &[(&str, &[&str])] = &[
        ("use crate::model::Model;", &["model"]),
        ("use crate::{error::Error, prompt::{self, image}, token};", &["error", "prompt", "token"]),
        ("let x = crate::engine::start();", &["engine"]),
        ("fn a() {}", &[]),
    ];
    for (source, expected) in cases {
        assert_eq!(rooms_named(&code(source)), *expected, "{source}");
    }
    assert_eq!(rooms_named(&code("// crate::model is not named here")), Vec::<String>::new());
}
