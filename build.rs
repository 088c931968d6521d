//! Records the revision that this binary is built from, where git knows it.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Named only where they are: a path that does not exist would rebuild every time.
    for path in [".git/HEAD", ".git/logs/HEAD"].into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    let git = Command::new("git").args(["rev-parse", "--short=10", "HEAD"]).output();
    if let Some(output) = git.ok().filter(|output| output.status.success() && Path::new(".git").exists()) {
        println!("cargo::rustc-env=OWLET_REVISION={}", String::from_utf8_lossy(&output.stdout).trim());
    }
}
