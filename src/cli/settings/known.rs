//! Which settings there are, and what each is called.

/// A flag that may be set elsewhere, and whether it names a file or a directory.
pub const SETTINGS: [(&str, bool); 18] = [
    ("model", true),
    ("ctx", false),
    ("threads", false),
    ("kv-type", false),
    ("low-memory", false),
    ("image-cache", true),
    ("image-cache-size", false),
    ("gpu-layers", false),
    ("vision-device", false),
    ("device", false),
    ("backends", true),
    ("temp", false),
    ("top-k", false),
    ("top-p", false),
    ("min-p", false),
    ("repeat-penalty", false),
    ("max-tokens", false),
    ("system", false),
];

/// The name of the variable that sets `name`.
pub fn variable(name: &str) -> String {
    format!("OWLET_{}", name.to_uppercase().replace('-', "_"))
}

/// The names of all settings.
pub fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|(name, _)| *name)
}
