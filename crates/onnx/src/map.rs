//! Files mapped into memory.

use bytes::Bytes;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A mapped file, and what tells whether the path still holds the same one.
#[derive(Debug, Clone)]
pub(crate) struct Mapped {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Bytes,
    pub(crate) stamp: Stamp,
    pub(crate) links: u64,
}

/// Identity and last change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Stamp {
        Stamp { file: (meta.dev(), meta.ino()), len: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }

    /// Whether both are one file, changed or not.
    pub(crate) fn same_file(&self, other: &Stamp) -> bool {
        self.file == other.file
    }
}

/// The stamp of whatever `path` leads to, if it exists.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|m| Stamp::of(&m))
}

/// Opens a regular file for reading; pipes and devices are refused without waiting for them.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, meta))
}

/// Maps a regular file.
#[allow(unsafe_code, reason = "a memory map")]
pub(crate) fn map(path: &Path) -> io::Result<Mapped> {
    let (file, meta) = open(path)?;
    let bytes = if meta.len() == 0 {
        Bytes::new()
    } else {
        // SAFETY: the map is private and only read. Another process that writes to the file can change the bytes, and
        // one that shortens it ends this process; no pointer or length is ever taken from the bytes unchecked.
        Bytes::from_owner(unsafe { memmap2::Mmap::map(&file)? })
    };
    Ok(Mapped { path: path.to_path_buf(), bytes, stamp: Stamp::of(&meta), links: meta.nlink() })
}
