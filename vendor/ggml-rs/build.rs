//! Finds ggml's pinned source and compiles its base and CPU parts, with our shim, into one archive.
//!
//! In: the package that Cargo.lock pins (or `GGML_SOURCE_DIR`) and `OWLET_CPU`, the level that the CPU part is
//! compiled for: `native` (default) or what `-march` takes, for example `x86-64-v3`. Out: the archive, and in
//! `OWLET_GGML_*` what it was built from and for. Needs a C and a C++ compiler, nothing else; backends for GPUs need more,
//! see gpu/build.rs.

#[path = "gpu/build.rs"]
mod gpu;
#[path = "gpu/lend.rs"]
mod lend;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const PACKAGE: &str = "llama-cpp-sys-2";

/// CMake's list for ggml-base, less what nothing here calls: `ggml.cpp` (installs a terminate handler),
/// `ggml-opt.cpp` (training) and `gguf.cpp` (the container code is ours).
const BASE_C: &[&str] = &["ggml.c", "ggml-alloc.c", "ggml-quants.c"];
const BASE_CXX: &[&str] = &["ggml-backend.cpp", "ggml-backend-meta.cpp", "ggml-threading.cpp"];

/// CMake's list for ggml-cpu, less repack (a second copy of the weights) and llamafile (sums in an order that
/// depends on how many columns ride along).
const CPU_C: &[&str] = &["ggml-cpu/ggml-cpu.c", "ggml-cpu/quants.c"];
const CPU_CXX: &[&str] = &[
    "ggml-cpu/ggml-cpu.cpp",
    "ggml-cpu/traits.cpp",
    "ggml-cpu/amx/amx.cpp",
    "ggml-cpu/amx/mmq.cpp",
    "ggml-cpu/tiled/tiled.cpp",
    "ggml-cpu/tiled/tiled-kernel.cpp",
    "ggml-cpu/binary-ops.cpp",
    "ggml-cpu/unary-ops.cpp",
    "ggml-cpu/vec.cpp",
    "ggml-cpu/ops.cpp",
];

/// Instruction sets that the compiler may have used, by the macro that says so. `cpu.rs` asks the running
/// CPU for the same names.
const FEATURES: &[(&str, &str)] = &[
    ("__SSE3__", "sse3"),
    ("__SSSE3__", "ssse3"),
    ("__SSE4_1__", "sse4.1"),
    ("__SSE4_2__", "sse4.2"),
    ("__POPCNT__", "popcnt"),
    ("__AVX__", "avx"),
    ("__AVX2__", "avx2"),
    ("__FMA__", "fma"),
    ("__F16C__", "f16c"),
    ("__BMI__", "bmi1"),
    ("__BMI2__", "bmi2"),
    ("__LZCNT__", "lzcnt"),
    ("__MOVBE__", "movbe"),
    ("__AVX512F__", "avx512f"),
    ("__AVX512BW__", "avx512bw"),
    ("__AVX512CD__", "avx512cd"),
    ("__AVX512DQ__", "avx512dq"),
    ("__AVX512VL__", "avx512vl"),
    ("__AVX512IFMA__", "avx512ifma"),
    ("__AVX512VBMI__", "avx512vbmi"),
    ("__AVX512VBMI2__", "avx512vbmi2"),
    ("__AVX512VNNI__", "avx512vnni"),
    ("__AVX512BITALG__", "avx512bitalg"),
    ("__AVX512VPOPCNTDQ__", "avx512vpopcntdq"),
    ("__AVX512BF16__", "avx512bf16"),
    ("__AVX512FP16__", "avx512fp16"),
    ("__AVXVNNI__", "avxvnni"),
    ("__AVXVNNIINT8__", "avxvnniint8"),
    ("__GFNI__", "gfni"),
    ("__ARM_NEON", "neon"),
    ("__ARM_FEATURE_DOTPROD", "dotprod"),
    ("__ARM_FEATURE_FP16_VECTOR_ARITHMETIC", "fp16"),
    ("__ARM_FEATURE_MATMUL_INT8", "i8mm"),
    ("__ARM_FEATURE_SVE", "sve"),
];

fn main() {
    for path in ["build.rs", "Cargo.toml", "c", "gpu"] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=GGML_SOURCE_DIR");
    println!("cargo::rerun-if-env-changed=OWLET_CPU");
    if cfg!(feature = "dynamic-backends") {
        lend::check().unwrap_or_else(|error| fail(&error));
    }

    let source = Source::find();
    let out = PathBuf::from(var("OUT_DIR"));
    let version = source.version();
    let built_for = format!("{} (ggml {version})", source.label);
    fs::write(
        out.join("ggml-version.h"),
        format!("#define GGML_VERSION \"{version}\"\n#define GGML_COMMIT \"{}\"\n", source.label),
    )
    .expect("write ggml-version.h");

    let cpu = CpuLevel::from_env();
    let features = cpu.features(&out);

    let base = |cxx| {
        let mut build = compiler(&source, &out, cxx);
        // The quantizers live here. Fused multiply-adds would make files depend on the machine that made them.
        build.flag_if_supported("-ffp-contract=off");
        // ggml_abort() lies in C, and what c/fatal.cpp throws goes through it.
        build.flag_if_supported("-fexceptions");
        build
    };
    let for_cpu = |cxx| {
        let mut build = compiler(&source, &out, cxx);
        cpu.apply(&mut build);
        build
    };
    let arch = match var("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" | "x86" => Some("ggml-cpu/arch/x86/quants.c"),
        "aarch64" | "arm" => Some("ggml-cpu/arch/arm/quants.c"),
        _ => None,
    };

    let mut objects = Vec::new();
    objects.extend(source.add(&mut for_cpu(true), CPU_CXX).compile_intermediates());
    let mut cpu_c = for_cpu(false);
    if arch.is_none() {
        cpu_c.define("GGML_CPU_GENERIC", None);
    }
    if var("CARGO_CFG_TARGET_ARCH") == "x86_64" && env::var_os("CARGO_CFG_UNIX").is_some() {
        cpu_c.flag("-include").flag(Path::new(&var("CARGO_MANIFEST_DIR")).join("c/yield.h"));
    }
    source.add(&mut cpu_c, CPU_C);
    objects.extend(source.add(&mut cpu_c, arch.as_slice()).compile_intermediates());
    objects.extend(source.add(&mut base(false), BASE_C).compile_intermediates());
    let mut shim = base(true);
    for name in gpu::linked() {
        shim.define(&format!("OWLET_{}", name.to_uppercase()), None);
    }
    source.add(&mut shim, BASE_CXX).files(["c/shim.cpp", "c/devices.cpp", "c/fatal.cpp", "c/stand_in.cpp"]);
    if gpu::linked().contains(&"vulkan") {
        shim.file("c/vulkan_loader.cpp");
    }
    if cfg!(feature = "dynamic-backends") {
        shim.file("c/modules.cpp");
    }
    if cfg!(feature = "rpc") {
        shim.file("c/rpc.cpp");
    }
    objects.extend(shim.compile_intermediates());
    // One archive, so that calls between its parts need no order of libraries.
    let mut archive = cc::Build::new();
    if cfg!(feature = "dynamic-backends") {
        lend::to_modules(&mut archive, &source.dir);
    }
    archive.cpp(true).objects(objects).compile("owlet_ggml");
    gpu::build(&source.dir, &out, &built_for).unwrap_or_else(|error| fail(&error));

    println!("cargo::rustc-env=OWLET_GGML_SOURCE={}", source.label);
    println!("cargo::rustc-env=OWLET_GGML_BUILT_FOR={built_for}");
    println!("cargo::rustc-env=OWLET_GGML_CPU={}", cpu.name);
    println!("cargo::rustc-env=OWLET_GGML_FEATURES={}", features.join(","));
}

/// Where ggml's tree lies, and what to call it.
struct Source {
    dir: PathBuf,
    label: String,
}

impl Source {
    fn find() -> Source {
        if let Some(dir) = env::var_os("GGML_SOURCE_DIR") {
            let source = Source { dir: dir.into(), label: "GGML_SOURCE_DIR".into() };
            // Someone works on that source; the pinned one never changes.
            println!("cargo::rerun-if-changed={}", source.dir.display());
            return source.checked();
        }
        // Without the network first: a build must not need it when the package is already here.
        let metadata = cargo_metadata(&["--offline"]).or_else(|_| cargo_metadata(&[]));
        let metadata = metadata.unwrap_or_else(|e| fail(&format!("cargo metadata: {e}")));
        let (version, manifest) = package(&metadata)
            .unwrap_or_else(|| fail(&format!("cargo metadata does not list the package {PACKAGE}")));
        let dir = Path::new(&manifest).with_file_name("llama.cpp").join("ggml");
        Source { dir, label: format!("{PACKAGE} {version}") }.checked()
    }

    fn checked(self) -> Source {
        if !self.dir.join("src/ggml.c").is_file() {
            fail(&format!("{}: expected ggml's source tree, found no src/ggml.c", self.dir.display()));
        }
        self
    }

    /// The version as ggml's CMakeLists.txt sets it.
    fn version(&self) -> String {
        let text = fs::read_to_string(self.dir.join("CMakeLists.txt")).unwrap_or_default();
        let part = |name: &str| {
            let at = text.find(&format!("set(GGML_VERSION_{name} "))?;
            text[at..].split([' ', ')']).nth(1).map(str::to_owned)
        };
        match (part("MAJOR"), part("MINOR"), part("PATCH")) {
            (Some(major), Some(minor), Some(patch)) => format!("{major}.{minor}.{patch}"),
            _ => "unknown".into(),
        }
    }

    fn add<'a>(&self, build: &'a mut cc::Build, files: &[&str]) -> &'a mut cc::Build {
        build.files(files.iter().map(|file| self.dir.join("src").join(file)))
    }
}

fn cargo_metadata(mode: &[&str]) -> Result<String, String> {
    let output = Command::new(var("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(mode)
        .current_dir(var("CARGO_MANIFEST_DIR"))
        .output()
        .map_err(|e| e.to_string())?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(|e| e.to_string())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// (version, manifest path) of the pinned package. cargo prints a package's fields in one fixed order, which
/// spares a JSON parser among the build dependencies.
fn package(metadata: &str) -> Option<(String, String)> {
    let start = format!("{{\"name\":\"{PACKAGE}\",\"version\":\"");
    let rest = &metadata[metadata.find(&start)? + start.len()..];
    let version = rest.split('"').next()?.to_owned();
    let key = "\"manifest_path\":\"";
    let path = rest[rest.find(key)? + key.len()..].split('"').next()?;
    Some((version, path.replace("\\\\", "\\")))
}

/// What ggml-cpu is compiled for.
struct CpuLevel {
    name: String,
    flag: Option<String>,
}

impl CpuLevel {
    fn from_env() -> CpuLevel {
        let name = env::var("OWLET_CPU").unwrap_or_else(|_| "native".into());
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b)) || name.is_empty() {
            fail(&format!("OWLET_CPU: expected native or what -march takes, found {name:?}"));
        }
        let arch = var("CARGO_CFG_TARGET_ARCH");
        if name == "native" && !var("HOST").starts_with(&arch) {
            fail(&format!("OWLET_CPU: native is not possible when building for {arch} on {}", var("HOST")));
        }
        let flag = match (var("CARGO_CFG_TARGET_ENV").as_str(), name.as_str()) {
            ("msvc", "native" | "x86-64-v3") => Some("/arch:AVX2".into()),
            ("msvc", "x86-64-v4") => Some("/arch:AVX512".into()),
            ("msvc", _) => None,
            (_, "native") if arch == "aarch64" => Some("-mcpu=native".into()),
            _ => Some(format!("-march={name}")),
        };
        CpuLevel { name, flag }
    }

    fn apply(&self, build: &mut cc::Build) {
        build.flags(&self.flag);
    }

    /// The instruction sets of this level, as the compiler itself names them.
    fn features(&self, out: &Path) -> Vec<&'static str> {
        let probe = out.join("features.c");
        let lines =
            FEATURES.iter().map(|(name, feature)| format!("#ifdef {name}\nowlet {feature};\n#endif\n"));
        fs::write(&probe, lines.collect::<String>()).expect("write features.c");
        let mut build = cc::Build::new();
        self.apply(&mut build);
        let text = build.file(probe).warnings(false).try_expand().unwrap_or_else(|error| {
            fail(&format!("the compiler does not work with OWLET_CPU={}: {error}", self.name))
        });
        let text = String::from_utf8_lossy(&text);
        let has = |feature: &str| text.lines().any(|line| line.trim() == format!("owlet {feature};"));
        FEATURES.iter().map(|&(_, feature)| feature).filter(|feature| has(feature)).collect()
    }
}

/// What every file is compiled with. `NDEBUG` always: the live asserts would end the process on a NaN. Full
/// optimization in the debug profile too: without it a test of one layer takes minutes.
fn compiler(source: &Source, out: &Path, cxx: bool) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(cxx)
        .std(if cxx { "gnu++17" } else { "gnu11" })
        .opt_level(3)
        .debug(false)
        .warnings(false)
        .flag_if_supported("-w")
        .define("NDEBUG", None)
        .define("GGML_SCHED_MAX_COPIES", "4")
        .include(source.dir.join("include"))
        .include(source.dir.join("src"))
        .include(source.dir.join("src/ggml-cpu"))
        .include(out);
    match var("CARGO_CFG_TARGET_OS").as_str() {
        "linux" | "android" => build.define("_XOPEN_SOURCE", "600").define("_GNU_SOURCE", None),
        "macos" | "ios" => build.define("_XOPEN_SOURCE", "600").define("_DARWIN_C_SOURCE", None),
        "windows" => build.define("_CRT_SECURE_NO_WARNINGS", None),
        _ => build.define("_XOPEN_SOURCE", "600"),
    };
    build
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

/// Ends the build with one line.
fn fail(text: &str) -> ! {
    println!("cargo::error={}", text.trim_end().replace('\n', "; "));
    std::process::exit(1)
}
