//! Backends in files of their own, `libggml-NAME.so`, which become part of the process when it runs.
//!
//! What comes in: a directory. What goes out: devices among [`Device::all`], and a line for each file that is no backend of
//! ours. A file states which ggml it was built for ([`STATEMENT`]); nothing of one that states another is called. Structs
//! of ggml cross the border, so another version would misread them. Where the system's loader itself refuses a file, for what
//! another ggml has and this one lacks, say, the statement is looked for among the file's bytes.
//!
//! A backend is code with all rights of this process, and so is whatever the loader runs of a file before anything can be asked of it:
//! whoever names a directory vouches for what is in it. What is loaded stays.

#[cfg(target_os = "linux")]
mod whole;

use std::env::consts::DLL_SUFFIX;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::fs;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use crate::backend::{install_callbacks, problem};
use crate::{Device, sys};

/// What a backend of ours has in `owlet_built_for`.
const STATEMENT: &str = concat!("owlet backend for ", env!("OWLET_GGML_BUILT_FOR"));
const BEGINNING: &str = "owlet backend for ";

/// Longer than any statement.
const MAX_STATEMENT_BYTES: usize = 200;

/// A file that was passed over, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLoaded {
    pub path: PathBuf,
    /// One line.
    pub why: String,
}

impl fmt::Display for NotLoaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

struct Loaded {
    /// Without links, so that a file is loaded once.
    path: PathBuf,
    name: String,
    devices: Vec<Device>,
}

fn loaded() -> MutexGuard<'static, Vec<Loaded>> {
    static LOADED: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Devices of all that was loaded, in that order.
pub(crate) fn devices() -> Vec<Device> {
    loaded().iter().flat_map(|backend| backend.devices.iter().cloned()).collect()
}

/// Loads the backends in `dir` by the order of their names, but those that are there already, and yields what is wrong with
/// each that could not be.
pub fn load_backends(dir: &Path) -> Vec<NotLoaded> {
    install_callbacks();
    let files = match names(dir) {
        Ok(files) => files,
        Err(error) => return vec![NotLoaded { path: dir.into(), why: error.to_string() }],
    };
    let mut loaded = loaded();
    let mut problems = Vec::new();
    for path in files {
        match load(&path, &loaded) {
            Ok(new) => loaded.extend(new),
            Err(why) => problems.push(NotLoaded { path, why }),
        }
    }
    problems
}

/// Paths of what is called as a backend is.
fn names(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("libggml-") && name.ends_with(DLL_SUFFIX) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Nothing where it is there already.
fn load(path: &Path, there: &[Loaded]) -> Result<Option<Loaded>, String> {
    let file = fs::canonicalize(path).map_err(|error| error.to_string())?;
    if there.iter().any(|backend| backend.path == file) {
        return Ok(None);
    }
    let metadata = fs::metadata(&file).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("expected a library, found no file".into());
    }
    #[cfg(target_os = "linux")]
    whole::check(&file, metadata.len())?;
    let library = open(&file)?;
    let statement =
        stated(&library).ok_or("expected a backend that was built for owlet, found no such statement")?;
    is_ours(&statement)?;
    if let Some(lacking) = lacking(&library) {
        return Err(format!("it needs {lacking}, which is not here"));
    }
    let entry = entry(&library).ok_or("expected an entry, ggml_backend_init, found none")?;
    // SAFETY: the statement says that this is ggml's entry of this version; C catches what it throws.
    let backend = NonNull::new(unsafe { sys::owlet_module_start(entry) });
    let backend = backend.ok_or_else(|| format!("it does not start: {}", problem()))?;
    // SAFETY: a backend lives as long as its library, which stays; its name ends with 0.
    let name = unsafe { CStr::from_ptr(sys::ggml_backend_reg_name(backend.as_ptr())) };
    let name = name.to_string_lossy().into_owned();
    if let Some(other) = there.iter().find(|backend| backend.name == name) {
        return Err(format!("expected each backend once, found {name} in {}, too", other.path.display()));
    }
    // SAFETY: as above.
    let n_devices = unsafe { sys::owlet_module_n_devices(backend.as_ptr()) };
    let device = |i| {
        // SAFETY: as above; a device lives as long as its backend.
        NonNull::new(unsafe { sys::owlet_module_device(backend.as_ptr(), i) }).map(Device::new)
    };
    Ok(Some(Loaded { path: file, name, devices: (0..n_devices).filter_map(device).collect() }))
}

/// A library that stays: ggml's backends start threads and keep what others point to.
type Module = ManuallyDrop<Library>;

fn open(file: &Path) -> Result<Module, String> {
    // Bound at once: a function that is missing is an error here, and the end of the process when it is called.
    // SAFETY: that what the loader runs of it does no harm is for whoever named the directory to know.
    match unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) } {
        Ok(library) => Ok(ManuallyDrop::new(library)),
        Err(error) => {
            if let Some(statement) = searched(file) {
                is_ours(&statement)?;
            }
            let text = error.to_string();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let at = format!("{}: ", file.display());
            Err(text.strip_prefix(&at).unwrap_or(&text).into())
        }
    }
}

fn is_ours(statement: &str) -> Result<(), String> {
    if statement == STATEMENT {
        return Ok(());
    }
    let found = statement.strip_prefix(BEGINNING).unwrap_or(statement);
    Err(format!("expected a backend for {}, found one for {found}", env!("OWLET_GGML_BUILT_FOR")))
}

/// What the library states.
fn stated(library: &Module) -> Option<String> {
    // SAFETY: an array of characters that ends with 0, as c/statement.cpp has it.
    let symbol: Symbol<*const c_char> = unsafe { library.get(b"owlet_built_for\0") }.ok()?;
    let text = NonNull::new((*symbol).cast_mut())?;
    // SAFETY: as above.
    Some(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
}

/// The statement of a library that cannot be loaded.
fn searched(file: &Path) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    let at = bytes.windows(BEGINNING.len()).position(|window| window == BEGINNING.as_bytes())?;
    let rest = &bytes[at..bytes.len().min(at + MAX_STATEMENT_BYTES)];
    let end = rest.iter().position(|&byte| byte == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

/// What this machine lacks for it.
fn lacking(library: &Module) -> Option<String> {
    type Lacking = unsafe extern "C" fn() -> *const c_char;
    // SAFETY: c/statement.cpp has this function, and it throws nothing.
    let text = unsafe {
        let lacking: Symbol<Lacking> = library.get(b"owlet_lacking\0").ok()?;
        NonNull::new(lacking().cast_mut())?
    };
    // SAFETY: a constant of the library that ends with 0.
    Some(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
}

fn entry(library: &Module) -> Option<sys::ModuleEntry> {
    // SAFETY: ggml gives its modules this entry.
    let entry: Symbol<sys::ModuleEntry> = unsafe { library.get(b"ggml_backend_init\0") }.ok()?;
    Some(*entry)
}
