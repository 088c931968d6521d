//! Feature `cuda`: ggml's CUDA backend, by ggml's own CMake rules, as one more archive.
//!
//! In: ggml's tree, a CUDA toolkit (where CMake finds it, or `CUDACXX`) and `CUDAARCHS`, the GPUs to compile for, as
//! CMake takes them; by default the one in this machine. Out: what to link.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// What CMake's `find_package(CUDAToolkit)` goes by, too.
const VARIABLES: [&str; 4] = ["CUDAARCHS", "CUDACXX", "CUDA_PATH", "CUDAToolkit_ROOT"];

/// Compiles the backend of the tree in `source` below `out`.
///
/// # Errors
/// One line: what is missing, or which command failed.
pub fn build(source: &Path, out: &Path) -> Result<(), String> {
    for path in ["cuda/build.rs", "cuda/CMakeLists.txt"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for name in VARIABLES {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let dir = out.join("cuda");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg("cuda").arg("-B").arg(&dir);
    configure.arg("-DCMAKE_BUILD_TYPE=Release").arg(format!("-DGGML_SOURCE_DIR={}", source.display()));
    configure.arg(format!("-DCMAKE_CUDA_ARCHITECTURES={}", env::var("CUDAARCHS").unwrap_or("native".into())));
    if Command::new("ninja").arg("--version").output().is_ok() {
        configure.args(["-G", "Ninja"]);
    }
    run(&mut configure)?;
    let jobs = env::var("NUM_JOBS").unwrap_or("1".into());
    run(Command::new("cmake").arg("--build").arg(&dir).args(["--target", "ggml-cuda", "--parallel", &jobs]))?;

    let libraries = fs::read_to_string(dir.join("libraries.txt")).map_err(|error| error.to_string())?;
    println!("cargo::rustc-link-search=native={}", dir.join("ggml/src/ggml-cuda").display());
    println!("cargo::rustc-link-search=native={}", libraries.trim());
    println!("cargo::rustc-link-lib=static=ggml-cuda");
    // The runtime goes along; cuBLAS, some hundred megabytes, stays where it is.
    println!("cargo::rustc-link-lib=static=cudart_static");
    for library in ["cublas", "dl", "rt", "pthread"] {
        println!("cargo::rustc-link-lib={library}");
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("feature cuda: {name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = |line: &&str| line.to_lowercase().contains("error");
    let first = lines.clone().find(telling).or(lines.clone().last()).unwrap_or("no message");
    let next = lines.skip_while(|&line| line != first).nth(1).unwrap_or_default();
    Err(format!("feature cuda: {name}: {first} {next}"))
}
