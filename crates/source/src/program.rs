//! Programs of this machine, by absolute paths alone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The file that a program's name stands for. A name is looked for in the folders of `PATH`, where relative and empty
/// ones, which would be below the folder that lorac happens to run in, are passed over; a path is taken as it is.
pub(super) fn find(name: &Path) -> Option<PathBuf> {
    find_in(name, std::env::var_os("PATH").as_deref().unwrap_or_default())
}

fn find_in(name: &Path, path: &OsStr) -> Option<PathBuf> {
    if name.components().count() != 1 || name.is_absolute() {
        return std::path::absolute(name).ok().filter(|file| is_program(file));
    }
    let file = match name.extension() {
        None if !std::env::consts::EXE_EXTENSION.is_empty() => name.with_extension(std::env::consts::EXE_EXTENSION),
        _ => name.to_owned(),
    };
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|f| f.join(&file)).find(|f| is_program(f))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_absolute_folders_are_searched() {
        let dir = tempfile::tempdir().unwrap();
        let program = |folder: &str, mode: u32| {
            let folder = dir.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("tool"), "#!/bin/sh\n").unwrap();
            fs::set_permissions(folder.join("tool"), fs::Permissions::from_mode(mode)).unwrap();
            folder
        };
        let (plain, right) = (program("plain", 0o644), program("right", 0o755));
        let path = |folders: &[&Path]| std::env::join_paths(folders).unwrap();
        let found = find_in(Path::new("tool"), &path(&[Path::new(""), Path::new("."), &plain, &right]));
        assert_eq!(found, Some(right.join("tool")));
        assert_eq!(find_in(Path::new("Cargo.toml"), &path(&[Path::new("."), Path::new("")])), None);
        assert_eq!(find_in(&right.join("tool"), OsStr::new("")), Some(right.join("tool")));
    }
}
