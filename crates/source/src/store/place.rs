//! Folders and files of the cache: no link is followed, the umask is respected, and what killed runs left is swept.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::{NamedTempFile, TempDir};

use crate::SourceError;

const TEMPORARY: &str = ".tmp-";

/// Makes the folder `path` below `root`, which is there.
///
/// # Errors
/// Something below `root` is a link, or no folder.
pub(crate) fn folder(root: &Path, path: &Path) -> Result<(), SourceError> {
    let mut at = root.to_owned();
    for part in path.strip_prefix(root).unwrap_or(path).components() {
        at.push(part);
        match fs::create_dir(&at) {
            Ok(()) => continue,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(SourceError::io("create", &at)(e)),
        }
        let meta = fs::symlink_metadata(&at).map_err(SourceError::io("read", &at))?;
        if !meta.is_dir() {
            return Err(SourceError::CacheLink { path: at });
        }
    }
    Ok(())
}

/// A file for unfinished work. Its errors, and those of its folder's, name what it is for, and not what `tempfile` calls it:
/// write to [`NamedTempFile::as_file_mut`].
pub(crate) fn temporary_file(folder: &Path) -> Result<NamedTempFile, SourceError> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    // Of these the umask takes some away.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o666);
    let made = tempfile::Builder::new().prefix(TEMPORARY).make_in(folder, |path| options.open(path));
    made.map_err(SourceError::io("create a file in", folder))
}

/// A folder for unfinished work.
pub(crate) fn temporary_folder(folder: &Path) -> Result<TempDir, SourceError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // Of these the umask takes some away.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let made = builder.tempdir_in(folder).map_err(|e| e.kind().into());
    made.map_err(SourceError::io("create a folder in", folder))
}

/// Removes what killed runs left in the root of a store whose lock is held.
pub(super) fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            // What cannot be removed harms nobody.
            let path = entry.path();
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                _ => fs::remove_file(&path),
            };
        }
    }
}
