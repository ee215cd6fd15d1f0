//! Space on the disk that is set aside for what a run will write.

use crate::output::OutputError;
use std::fs::File;
use std::io;
use std::path::Path;

/// Files without a name that take up the space of others, until this is dropped or the process ends.
#[derive(Default)]
pub(crate) struct Reserve {
    _files: Vec<File>,
}

/// Sets space aside in a folder, so many bytes for each file. A file system that cannot do that promises nothing.
///
/// # Errors
/// [`OutputError::Space`]
pub(super) fn reserve(folder: &Path, sizes: &[u64]) -> Result<Reserve, OutputError> {
    let mut reserve = Reserve::default();
    for &size in sizes.iter().filter(|size| **size > 0) {
        let full = |_| OutputError::Space { path: folder.to_path_buf(), bytes: sizes.iter().sum() };
        let Ok(file) = tempfile::tempfile_in(folder) else { continue };
        match allocate(&file, size) {
            Ok(()) => reserve._files.push(file),
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                return Err(full(e));
            }
            Err(_) => {}
        }
    }
    Ok(reserve)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, size: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size)?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &File, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_set_aside_without_a_name() {
        let folder = tempfile::tempdir().expect("temp");
        let reserve = reserve(folder.path(), &[1 << 20, 0, 4096]).expect("room for a megabyte");
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
        let sizes: Vec<u64> = reserve._files.iter().map(|f| f.metadata().expect("is open").len()).collect();
        assert!(sizes.is_empty() || sizes == [1 << 20, 4096], "{sizes:?}");
    }

    #[test]
    fn what_no_disk_has_is_refused() {
        let folder = tempfile::tempdir().expect("temp");
        match reserve(folder.path(), &[1 << 20, 1 << 50]) {
            Err(error) => assert!(error.to_string().contains("1125899907891200 bytes"), "{error}"),
            // File systems with smaller files than that, and those that set nothing aside.
            Ok(reserve) => assert!(reserve._files.len() < 2),
        }
    }
}
