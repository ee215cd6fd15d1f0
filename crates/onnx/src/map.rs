//! Files mapped into memory, or copied where they are small.

use bytes::Bytes;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file in memory, and what tells whether the path still holds the same one.
#[derive(Debug, Clone)]
pub(crate) struct Mapped {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Bytes,
    pub(crate) stamp: Stamp,
    pub(crate) links: u64,
    /// The file that `bytes` are a map of; none where they are a copy.
    file: Option<Arc<File>>,
}

impl Mapped {
    /// Whether the bytes are a copy, which nothing that happens to the file changes.
    pub(crate) fn is_copy(&self) -> bool {
        self.file.is_none()
    }

    /// Whether the file is as it was when it was mapped. Bytes behind the end of a file that was shortened must not be
    /// touched.
    pub(crate) fn is_unchanged(&self) -> bool {
        let meta = self.file.as_ref().map(|file| file.metadata());
        meta.is_none_or(|meta| meta.is_ok_and(|meta| Stamp::of(&meta) == self.stamp))
    }
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

/// The kind of the error for what is no regular file.
pub(crate) const NOT_REGULAR: io::ErrorKind = io::ErrorKind::InvalidInput;

/// Opens a regular file for reading; pipes and devices are refused without waiting for them.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(NOT_REGULAR, "not a regular file, but a folder, a pipe or a device"));
    }
    Ok((file, meta))
}

/// Files of at most this many bytes are copied into memory, so that nobody can shorten or change them there.
const SMALL: u64 = 16 << 20;

/// Maps a regular file, or copies a small one.
pub(crate) fn map(path: &Path) -> io::Result<Mapped> {
    let (file, meta) = open(path)?;
    let (stamp, links, path) = (Stamp::of(&meta), meta.nlink(), path.to_path_buf());
    if meta.len() > SMALL {
        let (bytes, file) = (mapped(&file)?, Some(Arc::new(file)));
        return Ok(Mapped { path, bytes, stamp, links, file });
    }
    let bytes = copied(&file, meta.len() as usize)?;
    if Stamp::of(&file.metadata()?) != stamp {
        return Err(io::Error::other("the file changes while it is read"));
    }
    Ok(Mapped { path, bytes, stamp, links, file: None })
}

/// A copy of the first `len` bytes that is aligned like a map.
fn copied(mut file: &File, len: usize) -> io::Result<Bytes> {
    if len == 0 {
        return Ok(Bytes::new());
    }
    let mut copy = memmap2::MmapMut::map_anon(len)?;
    file.read_exact(&mut copy)?;
    Ok(Bytes::from_owner(copy.make_read_only()?))
}

#[allow(unsafe_code, reason = "a memory map")]
fn mapped(file: &File) -> io::Result<Bytes> {
    // SAFETY: the map is private and only read. Another process that writes to the file can change the bytes, and one
    // that shortens it ends this process; no pointer or length is ever taken from the bytes unchecked.
    Ok(Bytes::from_owner(unsafe { memmap2::Mmap::map(file)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_copies_and_large_ones_tell_when_they_change() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("f");
        std::fs::write(&path, [7; 100]).expect("written");
        let small = map(&path).expect("reads");
        std::fs::write(&path, [1; 10]).expect("shortened");
        assert_eq!((small.is_copy(), small.is_unchanged(), &small.bytes[..]), (true, true, &[7; 100][..]));

        File::create(&path).and_then(|f| f.set_len(SMALL + 1)).expect("a hole");
        let large = map(&path).expect("maps");
        assert_eq!((large.is_copy(), large.is_unchanged(), large.bytes.len() as u64), (false, true, SMALL + 1));
        File::options().write(true).open(&path).and_then(|f| f.set_len(5)).expect("shortened");
        assert!(!large.is_unchanged());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().expect("folder");
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().is_ok_and(|s| s.success()));
        for path in [&fifo, Path::new("/dev/zero"), Path::new("/dev/null"), folder.path()] {
            let error = map(path).expect_err("refused");
            assert!(error.kind() == NOT_REGULAR && error.to_string().contains("not a regular file"), "{error}");
        }
    }
}
