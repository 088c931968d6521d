//! Feature `dynamic-backends`: the program lends its copy of ggml to the backends that it loads, so that it stays one file. It
//! keeps what only a backend calls, and its linker writes the names of all of ggml's functions where a loader finds them.

use std::env;
use std::path::Path;

/// # Errors
/// One line: the target's programs cannot lend.
pub fn check() -> Result<(), String> {
    let of_target = |name: &str| env::var(name).unwrap_or_default();
    let system = of_target("CARGO_CFG_TARGET_OS");
    if !matches!(system.as_str(), "linux" | "macos") {
        return Err(format!(
            "feature dynamic-backends: expected Linux or macOS, found {system}, where a library cannot call functions of \
             the program that loads it by their names; features cuda and vulkan put a backend into the program"
        ));
    }
    if of_target("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static") {
        let target = of_target("TARGET");
        return Err(format!(
            "feature dynamic-backends: a program that is linked statically, as for {target}, loads nothing"
        ));
    }
    Ok(())
}

/// Tells cargo how to link programs, this package's by itself and those of the packages that depend on it through
/// `DEP_GGML_LINK_ARG`, and where ggml's headers are.
pub fn to_modules(archive: &mut cc::Build, source: &Path) {
    archive.link_lib_modifier("+whole-archive");
    let link_arg = match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "-Wl,-exported_symbol,_ggml_*",
        _ => "-Wl,--export-dynamic-symbol=ggml_*",
    };
    println!("cargo::rustc-link-arg={link_arg}");
    println!("cargo::metadata=link_arg={link_arg}");
    println!("cargo::metadata=source={}", source.display());
}
