//! Finds ONNX Runtime library files in folders.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

/// Deeper than any layout of an unpacked package in a cache.
const DEPTH: usize = 8;

/// The library file in an unpacked `onnxruntime` or `onnxruntime-gpu` wheel, or in any other unpacked release: the
/// newest of [`find_libraries`].
pub fn wheel_library(folder: &Path) -> Option<PathBuf> {
    find_libraries(folder).into_iter().next()
}

/// The library file among files, the newest; nothing is looked for.
pub fn library_among<'a>(files: impl IntoIterator<Item = &'a Path>) -> Option<PathBuf> {
    let named = |path: &&Path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_library);
    newest_first(files.into_iter().filter(named).map(Path::to_path_buf).collect()).into_iter().next()
}

/// All ONNX Runtime library files below a folder, newest version first. Unreadable folders count as empty; links to
/// folders are not followed.
pub fn find_libraries(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(folder, DEPTH, &mut found);
    newest_first(found)
}

/// The library files directly in a folder, newest first.
pub(crate) fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(folder, 0, &mut found);
    newest_first(found)
}

fn newest_first(mut found: Vec<PathBuf>) -> Vec<PathBuf> {
    found.sort_by_cached_key(|path| (Reverse(version_of(path)), path.clone()));
    found
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if depth > 0 {
                walk(&entry.path(), depth - 1, found);
            }
        } else if entry.file_name().to_str().is_some_and(is_library) {
            found.push(entry.path());
        }
    }
}

/// Whether a file is called as this system calls the library; the providers beside it are not.
fn is_library(file: &str) -> bool {
    let numbered = |version: &str| version.chars().all(|c| c.is_ascii_digit() || c == '.');
    if cfg!(windows) {
        file.eq_ignore_ascii_case("onnxruntime.dll")
    } else if cfg!(target_vendor = "apple") {
        file.strip_prefix("libonnxruntime").and_then(|f| f.strip_suffix(".dylib")).is_some_and(numbered)
    } else {
        file.strip_prefix("libonnxruntime.so").is_some_and(numbered)
    }
}

/// The version in the file's name; in a wheel's or cache's folder names where the file has none.
fn version_of(path: &Path) -> Vec<u32> {
    let parse = |name: &str| -> Vec<u32> {
        let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        let digits = digits.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap_or_default();
        digits.split('.').filter_map(|n| n.parse().ok()).collect()
    };
    let parts = path.iter().rev().filter_map(|part| part.to_str());
    parts.map(parse).find(|version| version.len() >= 2).unwrap_or_default()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn takes_the_newest_and_no_provider() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        for file in
            ["1.9.0/a/libonnxruntime.so.1.9.0", "1.31.1/b/libonnxruntime.so", "x/libonnxruntime_providers_cuda.so"]
        {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
            std::fs::write(path, "")?;
        }
        let found = find_libraries(folder.path());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(wheel_library(folder.path()).is_some_and(|p| p.ends_with("1.31.1/b/libonnxruntime.so")), "{found:?}");
        assert_eq!(wheel_library(&folder.path().join("none")), None);
        let some = found.iter().map(PathBuf::as_path).filter(|file| file.ends_with("libonnxruntime.so.1.9.0"));
        assert!(library_among(some).is_some_and(|p| p.ends_with("libonnxruntime.so.1.9.0")), "{found:?}");
        Ok(())
    }
}
