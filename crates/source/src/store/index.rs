//! What a store says of its files: their sizes, times and sums.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::Read;
use std::path::{Component, Path};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::Hit;
use crate::hash::{Stamp, Sum};
use crate::{Files, SourceError, hash};

/// The index of one store.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Index {
    /// The package file as downloaded, in the root of the store.
    pub(super) archive: Option<(String, Entry)>,
    /// Folders of which every file is here.
    pub(super) folders: BTreeSet<String>,
    /// Files by path below `files/`.
    pub(super) files: BTreeMap<String, Entry>,
}

/// A file as it was when it was hashed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    size: u64,
    modified_ns: u64,
    /// When the system last saw the file change, which no program can set back. None where it does not tell.
    #[serde(default)]
    changed_ns: Option<i128>,
    sha256: String,
}

/// What tells that a file is what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Its size and times.
    Times,
    /// Those, or its bytes.
    TimesOrBytes,
    /// Its bytes alone: who can write to the cache can write the times of any file into the index.
    Bytes,
}

/// Larger than any index: what is larger is none.
const INDEX_LIMIT: u64 = 256 << 20;

impl Index {
    /// Reads an index; a missing or unreadable one, or one that leads out of its store, is empty.
    pub(super) fn load(path: &Path) -> Index {
        let read = || -> Option<Index> {
            let meta = fs::symlink_metadata(path).ok()?;
            if !meta.is_file() || meta.len() > INDEX_LIMIT {
                return None;
            }
            let mut bytes = Vec::new();
            fs::File::open(path).ok()?.take(INDEX_LIMIT).read_to_end(&mut bytes).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let inside = |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        let names = |index: &Index| {
            index.files.keys().chain(index.archive.iter().map(|(name, _)| name)).all(|name| inside(name))
        };
        read().filter(names).unwrap_or_default()
    }

    /// What the index vouches for under `path`.
    pub(super) fn lookup(&mut self, files: &Path, path: &str, look: Look) -> Option<Hit> {
        let on_disk = files.join(path);
        if let Some(entry) = self.files.get_mut(path) {
            let sum = entry.intact(&on_disk, look)?;
            let (sha256, files) =
                (entry.sha256.clone(), Files { sums: [(on_disk.clone(), sum)].into(), cached: true, pinned: false });
            return Some(Hit { path: on_disk, sha256, files });
        }
        if !self.folders.contains(path) {
            return None;
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let (mut sums, mut found) = (Vec::new(), Files { cached: true, ..Files::default() });
        for (name, entry) in &mut self.files {
            let Some(relative) = name.strip_prefix(&prefix) else { continue };
            let file = files.join(name);
            let sum = entry.intact(&file, look)?;
            if !hash::hidden(relative) {
                found.sums.insert(file, sum);
            }
            sums.push((relative, entry.sha256.as_str()));
        }
        Some(Hit { path: on_disk, sha256: hash::folder_of(sums), files: found })
    }
}

impl Entry {
    /// The entry of a file whose sum is known.
    pub(super) fn of(path: &Path, sha256: String) -> Result<Entry, SourceError> {
        let meta = fs::symlink_metadata(path).map_err(SourceError::io("read", path))?;
        Ok(Entry { size: meta.len(), modified_ns: modified_ns(&meta), changed_ns: changed_ns(&meta), sha256 })
    }

    /// The file, where it is what it was.
    pub(super) fn intact(&mut self, path: &Path, look: Look) -> Option<Sum> {
        let meta = fs::symlink_metadata(path).ok()?;
        if !meta.is_file() || meta.len() != self.size {
            return None;
        }
        let times = (modified_ns(&meta), changed_ns(&meta));
        if look != Look::Bytes && times == (self.modified_ns, self.changed_ns) {
            return Some(Sum::new(self.sha256.clone(), Stamp::of(&meta)));
        }
        let sum =
            (look != Look::Times).then(|| hash::sum(path).ok()).flatten().filter(|sum| sum.sha256 == self.sha256)?;
        (self.modified_ns, self.changed_ns) = times;
        Some(sum)
    }
}

fn modified_ns(meta: &Metadata) -> u64 {
    meta.modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(unix)]
fn changed_ns(meta: &Metadata) -> Option<i128> {
    use std::os::unix::fs::MetadataExt;
    Some(i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()))
}

#[cfg(not(unix))]
fn changed_ns(_: &Metadata) -> Option<i128> {
    None
}
