//! One direction of flow, down to single files: no file of a package takes a name from one that takes a name from it, however long the
//! way around. Read off the `use` lines, behind what a file only hands on; a `mod.rs` that calls its own
//! files by their names takes nothing from them. The bindings of ggml are left out: backend, device, memory and graph hold each
//! other there as they do in ggml.

use std::collections::{BTreeMap, BTreeSet};

use super::arrows::{code, items, sources};

/// Folders of sources, with the names that others have for the package.
const PACKAGES: &[(&str, &str)] =
    &[("src/", "owlet"), ("convert/src/", "owlet_convert"), ("format/src/", "owlet_format")];

/// Circles that stay: how fast these loops are depends on which files the compiler sees together, and whether they are as fast with
/// the types moved that tie them has not been measured on a quiet machine.
const LEFT: &[&str] = &[
    "owlet: kernels::x86_64, kernels::x86_64::chunks",
    "owlet: kernels::x86_64::attention, kernels::x86_64::attention_one",
    "owlet: kernels::x86_64::panel, kernels::x86_64::tile",
];

type Path = Vec<String>;

/// The files of one package by the path of their module, from the root.
struct Package {
    name: String,
    files: BTreeMap<Path, String>,
    /// Where what a module hands on comes from.
    handed_on: BTreeMap<Path, Path>,
}

/// A name that a `use` line brings, and whether it is for others.
struct Import {
    path: Path,
    is_public: bool,
}

impl Package {
    fn of(name: &str, files: BTreeMap<Path, String>) -> Package {
        let mut package = Package { name: name.to_string(), files, handed_on: BTreeMap::new() };
        let mut handed_on = BTreeMap::new();
        for (module, text) in &package.files {
            for import in imports(text).into_iter().filter(|import| import.is_public) {
                if let (Some(from), Some(last)) =
                    (package.below_root(module, &import.path), import.path.last())
                {
                    handed_on.insert([module.as_slice(), std::slice::from_ref(last)].concat(), from);
                }
            }
        }
        package.handed_on = handed_on;
        package
    }

    /// What `path` in a file of `module` is from the package's root; `None` where it leads out.
    fn below_root(&self, module: &[String], path: &[String]) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            name if name == self.name => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let mut above = module.to_vec();
                let n = path.iter().take_while(|part| *part == "super").count();
                above.truncate(module.len().checked_sub(n)?);
                Some([above.as_slice(), &path[n..]].concat())
            }
            _ => {
                let inside = [module, path].concat();
                self.files.contains_key(&inside[..=module.len()]).then_some(inside)
            }
        }
    }

    /// The module whose file has what is at `path`.
    fn home(&self, path: &[String]) -> Option<Path> {
        let mut path = path.to_vec();
        // a chain of modules that hand something on is short
        for _ in 0..8 {
            let found = (1..=path.len()).find_map(|n| Some((n, self.handed_on.get(&path[..n])?)));
            let Some((short, from)) = found else { break };
            path = [from.as_slice(), &path[short..]].concat();
        }
        let module = (0..=path.len()).rev().find(|n| self.files.contains_key(&path[..*n]))?;
        // the module itself, by its name: what is taken from it is not said here
        (module < path.len()).then(|| path[..module].to_vec())
    }

    /// The modules that each one takes names from.
    fn arrows(&self) -> BTreeMap<&Path, BTreeSet<Path>> {
        let arrows = self.files.iter().map(|(module, text)| {
            let taken = imports(text).into_iter().filter_map(|import| {
                let home = self.home(&self.below_root(module, &import.path)?)?;
                let hands_on = import.is_public && home.starts_with(module);
                (home != *module && !hands_on).then_some(home)
            });
            (module, taken.collect())
        });
        arrows.collect()
    }

    /// Each circle once, by the modules on it.
    fn circles(&self) -> Vec<String> {
        let arrows = self.arrows();
        let mut circles = BTreeSet::new();
        for start in arrows.keys() {
            let (mut behind, mut left) = (BTreeMap::new(), vec![(*start).clone()]);
            while let Some(module) = left.pop() {
                for next in &arrows[&module] {
                    if !behind.contains_key(next) {
                        behind.insert(next.clone(), module.clone());
                        left.push(next.clone());
                    }
                }
            }
            if behind.contains_key(*start) {
                let (mut circle, mut at) = (BTreeSet::new(), *start);
                while circle.insert(at.join("::")) {
                    at = &behind[at];
                }
                circles.insert(circle);
            }
        }
        let told = |circle: BTreeSet<String>| {
            format!("{}: {}", self.name, circle.into_iter().collect::<Vec<_>>().join(", "))
        };
        circles.into_iter().map(told).collect()
    }
}

/// What the `use` lines of a source without comments bring.
fn imports(code: &str) -> Vec<Import> {
    let mut imports = Vec::new();
    for statement in code.split(';') {
        let Some(at) = statement.rfind("use ") else { continue };
        let (before, tree) = (&statement[..at], &statement[at + "use ".len()..]);
        let before = before.rsplit('\n').next().unwrap_or("").trim();
        let is_public = before.starts_with("pub");
        if before.is_empty() || (is_public && before.split_whitespace().count() == 1) {
            let paths = leaves(tree).into_iter();
            imports.extend(paths.map(|path| Import { path, is_public }));
        }
    }
    imports
}

/// The paths of a tree of names: `a::{b, c::d}` has two.
fn leaves(tree: &str) -> Vec<Path> {
    let Some((head, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or("");
        return vec![path.split("::").map(|part| part.trim().to_string()).collect()];
    };
    items(list).iter().flat_map(|item| leaves(&format!("{head}{}", item.trim()))).collect()
}

/// `src/model/place.rs` is `[model, place]`, a `mod.rs` its folder, and `lib.rs` the root.
fn module(file: &str) -> Path {
    let path: Path = file.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    match path.split_last() {
        Some((last, folder)) if last == "mod" || last == "lib" => folder.to_vec(),
        _ => path,
    }
}

#[test]
fn files_name_each_other_in_one_direction() {
    let (sources, mut circles) = (sources(), Vec::new());
    for (folder, name) in PACKAGES {
        let inside = sources.iter().filter_map(|(path, text)| Some((path.strip_prefix(folder)?, text)));
        let package = Package::of(name, inside.map(|(path, text)| (module(path), code(text))).collect());
        let n_arrows: usize = package.arrows().values().map(BTreeSet::len).sum();
        assert!(n_arrows > package.files.len(), "{name}: found only {n_arrows} arrows");
        circles.extend(package.circles());
    }
    assert_eq!(circles, LEFT);
}

#[test]
fn the_reader_of_circles_sees_them() {
    let circles = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(path, text)| (module(path), text.to_string()));
        Package::of("house", files.collect()).circles()
    };
    let hands_on = ("mod.rs", "mod a; mod b;\npub use a::A;\npub use b::B;");
    // straight, and by way of who hands both on
    for a in ["use super::b::B;", "use super::B;", "use crate::{B};", "use crate::b::{self, B as C};"] {
        let files = [hands_on, ("a.rs", a), ("b.rs", "use house::{\n    A,\n};")];
        assert_eq!(circles(&files), ["house: a, b"], "{a}");
    }
    let long = [("a.rs", "use super::b::B;"), ("b.rs", "use super::c::C;"), ("c.rs", "use super::a::A;")];
    assert_eq!(circles(&long), ["house: a, b, c"]);
    let child = [("a/mod.rs", "mod b;\nuse b::B;"), ("a/b.rs", "use super::A;")];
    assert_eq!(circles(&child), ["house: a, a::b"]);
    let none =
        [hands_on, ("a.rs", "use super::b::B;\nuse std::fmt;"), ("b.rs", "use std::fmt; use other::A;")];
    assert!(circles(&none).is_empty());
}
