//! Records the revision that this binary is built from, where git knows it, and links it as ggml-rs asks for.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Named only where they are: a path that does not exist would rebuild every time.
    for path in [".git/HEAD", ".git/logs/HEAD"].into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    // Feature dynamic-backends: see vendor/ggml-rs/gpu/lend.rs.
    if let Ok(link_arg) = env::var("DEP_GGML_LINK_ARG") {
        println!("cargo::rustc-link-arg={link_arg}");
    }
    // For a test that builds a backend.
    if let Ok(source) = env::var("DEP_GGML_SOURCE") {
        println!("cargo::rustc-env=OWLET_GGML_TREE={source}");
    }
    let git = Command::new("git").args(["rev-parse", "--short=10", "HEAD"]).output();
    if let Some(output) = git.ok().filter(|output| output.status.success() && Path::new(".git").exists()) {
        println!("cargo::rustc-env=OWLET_REVISION={}", String::from_utf8_lossy(&output.stdout).trim());
    }
}
