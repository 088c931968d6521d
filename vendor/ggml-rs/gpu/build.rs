//! Features `cuda`, `metal` and `vulkan`: ggml's backends for GPUs, by ggml's own CMake rules, as one more archive each, or
//! with `dynamic-backends` as one file each that the program loads.
//!
//! In: ggml's tree, and what a backend needs where CMake finds it: a CUDA toolkit (or `CUDACXX`) and `CUDAARCHS`, the GPUs
//! to compile for, as CMake takes them, by default the one in this machine; Vulkan's headers, those of SPIR-V and glslc; a
//! Mac's frameworks. Out: what to link, or `backends/libggml-NAME.so` beside the program.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The backends of this build, as ggml calls them.
pub fn backends() -> Vec<&'static str> {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
        ("vulkan", cfg!(feature = "vulkan")),
    ];
    all.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(name, _)| name).collect()
}

/// Those that become part of the program.
pub fn linked() -> Vec<&'static str> {
    if cfg!(feature = "dynamic-backends") { Vec::new() } else { backends() }
}

/// What CMake's modules go by, too.
const VARIABLES: [&str; 5] = ["CUDAARCHS", "CUDACXX", "CUDA_PATH", "CUDAToolkit_ROOT", "VULKAN_SDK"];

/// Compiles the backends of the tree in `source` below `out`; nothing where there are none. Files that are loaded state
/// what they were `built_for`.
///
/// # Errors
/// One line: what is missing, or which command failed.
pub fn build(source: &Path, out: &Path, built_for: &str) -> Result<(), String> {
    let backends = backends();
    if backends.is_empty() {
        return Ok(());
    }
    for name in VARIABLES {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let dir = out.join("gpu");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg("gpu").arg("-B").arg(&dir);
    configure.arg("-DCMAKE_BUILD_TYPE=Release").arg(format!("-DGGML_SOURCE_DIR={}", source.display()));
    for name in ["cuda", "metal", "vulkan"] {
        let is_wanted = if backends.contains(&name) { "ON" } else { "OFF" };
        configure.arg(format!("-DGGML_{}={is_wanted}", name.to_uppercase()));
    }
    if cfg!(feature = "dynamic-backends") {
        configure.arg(format!("-DOWLET_BUILT_FOR={built_for}"));
    }
    configure.arg(format!("-DCMAKE_CUDA_ARCHITECTURES={}", env::var("CUDAARCHS").unwrap_or("native".into())));
    if Command::new("ninja").arg("--version").output().is_ok() {
        configure.args(["-G", "Ninja"]);
    }
    run(&mut configure)?;
    let jobs = env::var("NUM_JOBS").unwrap_or("1".into());
    for name in backends {
        let target = format!("ggml-{name}");
        run(Command::new("cmake").arg("--build").arg(&dir).args(["--target", &target, "--parallel", &jobs]))?;
        if cfg!(feature = "dynamic-backends") {
            put_beside_the_program(&dir.join("backends").join(file_name(&target)), out)?;
            continue;
        }
        println!("cargo::rustc-link-search=native={}", dir.join("ggml/src").join(&target).display());
        println!("cargo::rustc-link-lib=static={target}");
        match name {
            "cuda" => link_cuda(&dir)?,
            "metal" => link_metal(),
            _ => link_vulkan(),
        }
    }
    Ok(())
}

fn file_name(target: &str) -> String {
    let extension = if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") { "dylib" } else { "so" };
    format!("lib{target}.{extension}")
}

/// `out` is three levels below the folder of the profile, where programs lie.
fn put_beside_the_program(file: &Path, out: &Path) -> Result<(), String> {
    let (Some(profile), Some(name)) = (out.ancestors().nth(3), file.file_name()) else {
        return Err(format!("{}: expected a folder three levels below a profile's", out.display()));
    };
    let to = profile.join("backends").join(name);
    // Renamed, since a program that runs may have the one before in its memory.
    let part = to.with_extension("part");
    let put = || {
        fs::create_dir_all(profile.join("backends"))?;
        fs::copy(file, &part)?;
        fs::rename(&part, &to)
    };
    put().map_err(|error| format!("{}: {error}", to.display()))
}

fn link_cuda(dir: &Path) -> Result<(), String> {
    let libraries = fs::read_to_string(dir.join("libraries.txt")).map_err(|error| error.to_string())?;
    println!("cargo::rustc-link-search=native={}", libraries.trim());
    // The runtime goes along; cuBLAS, some hundred megabytes, stays where it is.
    println!("cargo::rustc-link-lib=static=cudart_static");
    for library in ["cublas", "dl", "rt", "pthread"] {
        println!("cargo::rustc-link-lib={library}");
    }
    Ok(())
}

fn link_metal() {
    for framework in ["Foundation", "Metal", "MetalKit"] {
        println!("cargo::rustc-link-lib=framework={framework}");
    }
}

/// On Linux c/vulkan_loader.cpp asks for the loader when the program runs.
fn link_vulkan() {
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("windows") => {
            if let Ok(sdk) = env::var("VULKAN_SDK") {
                println!("cargo::rustc-link-search=native={}", Path::new(&sdk).join("Lib").display());
            }
            println!("cargo::rustc-link-lib=vulkan-1");
        }
        Ok("linux") => println!("cargo::rustc-link-lib=dl"),
        _ => println!("cargo::rustc-link-lib=vulkan"),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let features = backends().join(", ");
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("feature {features}: {name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = |line: &&str| line.to_lowercase().contains("error");
    let first = lines.clone().find(telling).or(lines.clone().next_back()).unwrap_or("no message");
    let next = lines.skip_while(|&line| line != first).nth(1).unwrap_or_default();
    Err(format!("feature {features}: {name}: {first} {next}"))
}
