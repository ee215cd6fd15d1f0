//! Files that appear whole or not at all.

use crate::OnnxError;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Files written beside their final places, which they take on [`Output::commit`]; dropped before, they vanish.
#[derive(Default)]
pub(crate) struct Output {
    files: Vec<(NamedTempFile, PathBuf)>,
}

impl Output {
    /// Writes a file that is to be at `path`. An [`OnnxError`] inside the error of `fill` is returned as it is.
    pub(crate) fn write(
        &mut self,
        path: &Path,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), OnnxError> {
        check_place(path)?;
        let folder = folder_of(path);
        let failed = |source| OnnxError::Write { path: path.to_path_buf(), source };
        // The umask takes away what the user does not grant. What `tempfile` opens itself has errors that name it, and
        // not the file that the user asked for.
        let open = |path: &Path| File::options().read(true).write(true).create_new(true).mode(0o666).open(path);
        let mut builder = tempfile::Builder::new();
        let mut temp = builder.prefix(".lorac-").suffix(".tmp").make_in(folder, open).map_err(failed)?;
        fill(temp.as_file_mut()).map_err(|e| e.downcast::<OnnxError>().unwrap_or_else(failed))?;
        temp.as_file().sync_all().map_err(failed)?;
        self.files.push((temp, path.to_path_buf()));
        Ok(())
    }

    /// Moves the files to their places, in the order in which they were written.
    pub(crate) fn commit(self) -> Result<(), OnnxError> {
        for (temp, path) in self.files {
            let failed = |source| OnnxError::Write { path: path.clone(), source };
            temp.persist(&path).map_err(|e| failed(e.error))?;
            File::open(folder_of(&path)).and_then(|d| d.sync_all()).map_err(failed)?;
        }
        Ok(())
    }
}

/// Refuses a place in which no file can be, or which a file must not take: that of a folder, a pipe or a device. A link is
/// replaced, and what it leads to is left alone.
pub(crate) fn check_place(path: &Path) -> Result<(), OnnxError> {
    let failed = |source| OnnxError::Write { path: path.to_path_buf(), source };
    if !folder_of(path).is_dir() {
        return Err(OnnxError::NoFolder { path: path.to_path_buf() });
    }
    if path.is_dir() || path.file_name().is_none() {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() && !meta.is_symlink() => {
            Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "a pipe or a device is there")))
        }
        _ => Ok(()),
    }
}

/// The folder that `path` is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
