//! Which pictures are meant: files as they are named, directories by the endings of names, patterns.

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Endings of names that a directory's pictures have.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// The pictures of `paths` in their order, each once; those of a directory sorted by name, files before what is below.
///
/// # Errors
/// `Io` where something cannot be read, `Request` where a pattern is none or nothing is found.
pub fn pictures(paths: &[PathBuf], is_recursive: bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let n_before = found.len();
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => walk(path, is_recursive, &mut found)?,
            Ok(_) => found.push(path.clone()),
            Err(_) if is_pattern(path) => by_pattern(path, &mut found)?,
            Err(cause) => return Err(Error::io(path, cause)),
        }
        if found.len() == n_before {
            let deeper = if is_recursive { "" } else { " (-r looks into directories below)" };
            return Err(Error::request(format!("{}: no picture found{deeper}", path.display())));
        }
    }
    let mut seen = HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    Ok(found)
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

fn by_pattern(pattern: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let text = pattern.to_string_lossy();
    let matches = glob::glob(&text)
        .map_err(|error| Error::request(format!("{text}: {} at {}", error.msg, error.pos)))?;
    for entry in matches {
        let path = entry.map_err(|error| {
            let path = error.path().to_path_buf();
            Error::io(path, error.into())
        })?;
        if path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Hidden files are left out, and links to directories, which may lead round in a circle.
fn walk(dir: &Path, is_recursive: bool, found: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |cause| Error::io(dir, cause);
    let (mut files, mut below) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(failed)?.is_dir() {
            below.push(path);
        } else if has_picture_ending(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    found.append(&mut files);
    if is_recursive {
        below.sort();
        below.iter().try_for_each(|dir| walk(dir, true, found))?;
    }
    Ok(())
}

fn has_picture_ending(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}
