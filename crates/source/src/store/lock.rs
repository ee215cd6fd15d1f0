//! The lock of a store. It is the system's, on an open file: it dies with its process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::progress::{Progress, Work};
use crate::{SourceError, Stop};

/// What a process that holds a store, or waits for it, is about to do there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Task<'a> {
    /// The source, or what is built, as people know it.
    pub(crate) what: &'a str,
    /// Hears of a wait.
    pub(crate) progress: Option<&'a dyn Progress>,
    /// Ends a wait.
    pub(crate) stop: Stop,
}

const PATIENCE: Duration = Duration::from_millis(50);

/// Waits for the lock of the folder. None on file systems that have no locks.
pub(super) fn acquire(folder: &Path, task: Task<'_>) -> Result<Option<File>, SourceError> {
    let path = folder.join(".lock");
    if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
        return Err(SourceError::CacheLink { path });
    }
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    let file = file.map_err(SourceError::io("create", &path))?;
    let mut waiting = None;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(SourceError::io("lock", &path)(e)),
        }
        task.stop.check(task.what)?;
        waiting.get_or_insert_with(|| {
            let what = format!("waiting for another process that prepares {} in {}", task.what, folder.display());
            Work::begin(task.progress, &what)
        });
        std::thread::sleep(PATIENCE);
    }
}
