//! What an earlier run left in a folder, by its manifest.

use crate::output::{Artifact, sha256_file};
use serde::Deserialize;
use std::path::{Component, Path};

/// Files that the manifest of a folder lists.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    files: Vec<Artifact>,
}

/// What is read of a manifest: those of other versions may differ in the rest.
#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "lorac_version")]
    _version: String,
    artifacts: Vec<Artifact>,
}

impl Earlier {
    /// Reads `manifest.json`; none where there is none of lorac's. Paths that lead out of the folder are left out.
    pub(super) fn read(folder: &Path) -> Option<Earlier> {
        const LIMIT: u64 = 1 << 26;
        let path = folder.join("manifest.json");
        let meta = path.symlink_metadata().ok()?;
        if !meta.is_file() || meta.len() > LIMIT {
            return None;
        }
        let listed: Listed = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        let inside = |a: &Artifact| {
            let mut parts = Path::new(&a.path).components();
            !a.path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        Some(Earlier { files: listed.artifacts.into_iter().filter(inside).collect() })
    }

    pub(super) fn lists(&self, name: &Path) -> bool {
        self.files.iter().any(|a| Path::new(&a.path) == name)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Artifact> {
        self.files.iter()
    }
}

/// Whether a file is still what its run has written.
pub(super) fn unchanged(file: &Path, written: &Artifact) -> bool {
    let size = std::fs::metadata(file).map(|m| m.len());
    size.is_ok_and(|size| size == written.size) && sha256_file(file).is_ok_and(|(sha256, _)| sha256 == written.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_the_folder_are_of_an_earlier_run() {
        let folder = tempfile::tempdir().expect("temp");
        assert!(Earlier::read(folder.path()).is_none());
        let manifest = folder.path().join("manifest.json");
        let write = |text: &str| std::fs::write(&manifest, text).expect("writes");
        for foreign in ["earlier", "{}", "{\"artifacts\": []}"] {
            write(foreign);
            assert!(Earlier::read(folder.path()).is_none(), "{foreign}");
        }
        let listed = |path: &str| serde_json::json!({"path": path, "sha256": "", "size": 0, "kind": "model"});
        let paths = ["model.onnx", "adapter/a", "../up", "/etc/passwd", "a/../../b", "", "./x"];
        let all: Vec<_> = paths.iter().map(|p| listed(p)).collect();
        write(&serde_json::json!({"lorac_version": "9", "new": 1, "artifacts": all}).to_string());
        let earlier = Earlier::read(folder.path()).expect("a manifest");
        let read: Vec<&str> = earlier.files().map(|a| a.path.as_str()).collect();
        assert_eq!(read, ["model.onnx", "adapter/a"]);
        assert!(earlier.lists(Path::new("adapter/a")) && !earlier.lists(Path::new("adapter")));
    }
}
