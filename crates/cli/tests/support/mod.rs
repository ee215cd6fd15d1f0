//! What tests of the command share.

use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A small pipeline in a folder of its own.
pub(crate) fn small() -> TempDir {
    let folder = tempfile::tempdir().expect("temp");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/borders");
    for name in ["common", "bert"] {
        copy(&data.join(name), folder.path());
    }
    folder
}

#[allow(dead_code, reason = "not every test copies folders itself")]
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("lists").flatten() {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => _ = fs::copy(entry.path(), to).expect("copies"),
        }
    }
}
