//! What runs that were killed have left in a folder.

use crate::output::TEMPORARY;
use std::path::{Path, PathBuf};

/// Removes unfinished files and folders of lorac directly in these folders. Nobody else may be writing to them.
pub(super) fn sweep(folders: &[PathBuf]) {
    for folder in folders.iter().filter(|f| is_folder(f)) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(|n| n.starts_with(TEMPORARY.0) && n.ends_with(TEMPORARY.1));
            if !ours {
                continue;
            }
            // What cannot be removed does no harm.
            _ = match is_folder(&entry.path()) {
                true => std::fs::remove_dir_all(entry.path()),
                false => std::fs::remove_file(entry.path()),
            };
        }
    }
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.is_dir())
}
