//! What runs that were killed have left in a folder.

use super::moves;
use crate::output::TEMPORARY;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file in every folder of lorac that is not finished.
pub(super) const MARK: &str = ".lorac-stage";
/// Characters that a temporary name has between its ends.
const RANDOM: usize = 6;

/// Removes unfinished files and folders of lorac directly in these folders: of the names that lorac gives, of this user,
/// and of folders those with the mark, once what a killed process has moved from or to them is put back. Nobody else may be writing to them.
pub(super) fn sweep(folders: &[PathBuf], user: u32) {
    for folder in folders.iter().filter(|f| f.symlink_metadata().is_ok_and(|m| m.is_dir())) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            if !name.to_str().is_some_and(is_temporary) {
                continue;
            }
            // What cannot be removed does no harm.
            _ = match path.symlink_metadata() {
                Ok(meta) if meta.uid() != user => Ok(()),
                Ok(meta) if meta.is_dir() && is_marked(&path) => {
                    moves::recover(folder, &path);
                    std::fs::remove_dir_all(path)
                }
                Ok(meta) if meta.is_file() => std::fs::remove_file(path),
                _ => Ok(()),
            };
        }
    }
}

fn is_temporary(name: &str) -> bool {
    let random = name.strip_prefix(TEMPORARY.0).and_then(|rest| rest.strip_suffix(TEMPORARY.1));
    random.is_some_and(|r| r.len() == RANDOM && r.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn is_marked(folder: &Path) -> bool {
    folder.join(MARK).symlink_metadata().is_ok_and(|m| m.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_lorac_makes() {
        let folder = tempfile::tempdir().expect("temp");
        let file = crate::output::temporary(folder.path()).expect("makes");
        assert!(is_temporary(file.path().file_name().and_then(|n| n.to_str()).expect("a name")));
        for other in [".lorac-mine.tmp", ".lorac-.tmp", ".lorac-my-own.tmp", ".lorac-abcdefg.tmp", ".lorac-abcdef.tmp2"]
        {
            assert!(!is_temporary(other), "{other}");
        }
        let user = file.as_file().metadata().expect("is open").uid();
        sweep(&[folder.path().into()], user + 1);
        assert!(file.path().exists(), "of another user");
        sweep(&[folder.path().into()], user);
        assert!(!file.path().exists());
    }
}
