//! What `owlet --version` says: this program, the revision it was built from, ggml and what that was built for.

use std::sync::LazyLock;

static LINE: LazyLock<String> = LazyLock::new(|| {
    let ggml = ggml::build_info();
    let revision = option_env!("OWLET_REVISION").map(|revision| format!(" ({revision})")).unwrap_or_default();
    let backends: String = ggml.backends.iter().map(|name| format!(" and {name}")).collect();
    format!(
        "{}{revision}\nggml {} from {}, built for cpu {}{backends}",
        env!("CARGO_PKG_VERSION"),
        ggml.ggml_version,
        ggml.ggml_source,
        ggml.cpu_level
    )
});

pub fn line() -> &'static str {
    &LINE
}
