//! What is told of work that takes long. Nothing is drawn here.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

/// Hears of downloads, of unpacking and of waits, of several at once where several threads resolve.
pub trait Progress: fmt::Debug + Send + Sync {
    /// Work has begun; `what` says which, for people. It has ended when the meter is dropped.
    fn begin(&self, what: &str) -> Box<dyn Meter>;
}

/// Hears how far one piece of work has come.
pub trait Meter {
    /// `bytes` are done, of `total` where that is known.
    fn at(&self, bytes: u64, total: Option<u64>);
}

/// A piece of work that someone may hear of. Its end is its drop.
pub(super) struct Work {
    meter: Option<Box<dyn Meter>>,
}

impl Work {
    /// Tells `progress`, where there is one, that work begins.
    pub(super) fn begin(progress: Option<&dyn Progress>, what: &str) -> Self {
        Self { meter: progress.map(|progress| progress.begin(what)) }
    }

    /// Whether anyone hears.
    pub(super) fn is_heard(&self) -> bool {
        self.meter.is_some()
    }

    /// `bytes` are done, of `total` where that is known.
    pub(super) fn at(&self, bytes: u64, total: Option<u64>) {
        if let Some(meter) = &self.meter {
            meter.at(bytes, total);
        }
    }
}

/// A reader whose bytes are added to `done` and told of.
pub(super) struct Counted<'a> {
    pub(super) content: &'a mut dyn Read,
    pub(super) work: &'a Work,
    pub(super) done: &'a mut u64,
    pub(super) total: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buffer)?;
        *self.done += n as u64;
        self.work.at(*self.done, Some(self.total));
        Ok(n)
    }
}

/// The bytes in all files below `folder`.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
