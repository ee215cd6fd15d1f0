//! One folder of the cache: the files of one package version or one hub request.
//!
//! - `index.json` is the only authority: a file counts when the index lists it and its size and time agree, or its
//!   sha256 does. So a killed run leaves nothing that is later taken as good, and damage heals by unpacking again.
//! - Everything is written beside its place, synced and renamed. `.lock` is held while anything changes; readers of
//!   a complete entry need no lock and no write permission.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::progress::{Progress, Work};
use super::{SourceError, hash};

const TEMPORARY: &str = ".tmp-";

/// Where cached files lie by default: `LORAC_CACHE`, else the platform's folder for caches.
/// `env` looks up an environment variable.
pub(super) fn default_cache(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let dir = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    dir("LORAC_CACHE")
        .or_else(|| dir("XDG_CACHE_HOME").map(|path| path.join("lorac")))
        .or_else(|| if cfg!(windows) { dir("LOCALAPPDATA").map(|path| path.join("lorac")) } else { None })
        .or_else(|| dir("HOME").or_else(|| dir("USERPROFILE")).map(|path| path.join(".cache").join("lorac")))
}

/// A folder of the cache.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
}

/// Content that the index vouches for.
#[derive(Debug)]
pub(super) struct Hit {
    /// The file or folder.
    pub(super) path: PathBuf,
    /// Its sum.
    pub(super) sha256: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    /// The package file as downloaded, in the root of the store.
    archive: Option<(String, Entry)>,
    /// Folders of which every file is here.
    folders: BTreeSet<String>,
    /// Files by path below `files/`.
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    size: u64,
    modified_ns: u64,
    sha256: String,
}

impl Store {
    /// The store at `root`; nothing is created yet.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Looks up a complete entry without a lock, trusting size and time.
    pub(super) fn quick(&self, path: &str) -> Option<Hit> {
        self.load().lookup(&self.files(), path, false)
    }

    /// Waits for other processes, then takes the store to change it.
    pub(super) fn lock(&self, progress: Option<&dyn Progress>) -> Result<Locked<'_>, SourceError> {
        fs::create_dir_all(&self.root).map_err(SourceError::io("create", &self.root))?;
        let path = self.root.join(".lock");
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(SourceError::io("create", &path))?;
        let locked = match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                let what = format!("waiting for another process at {}", self.root.display());
                let _waiting = Work::begin(progress, &what);
                file.lock()
            }
            Err(TryLockError::Error(e)) => Err(e),
        };
        match locked {
            // Some network file systems have no locks; renames alone keep every file whole.
            Err(e) if e.kind() != io::ErrorKind::Unsupported => return Err(SourceError::io("lock", &path)(e)),
            _ => {}
        }
        for entry in fs::read_dir(&self.root).map_err(SourceError::io("read", &self.root))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                // Left by a killed run; a failure to remove it harms nobody.
                let path = entry.path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
        Ok(Locked { store: self, index: self.load(), _lock: file })
    }

    fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// A missing or unreadable index is an empty one.
    fn load(&self) -> Index {
        fs::read(self.root.join("index.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }
}

/// A store held for change.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    store: &'a Store,
    index: Index,
    _lock: File,
}

impl Locked<'_> {
    /// Its folder.
    pub(super) fn root(&self) -> &Path {
        &self.store.root
    }

    /// Looks up an entry; a file whose time changed is hashed again.
    pub(super) fn lookup(&mut self, path: &str) -> Option<Hit> {
        self.index.lookup(&self.store.files(), path, true)
    }

    /// The package file, if it is here and whole.
    pub(super) fn archive(&mut self) -> Option<PathBuf> {
        let (name, entry) = self.index.archive.as_mut()?;
        let path = self.store.root.join(name);
        entry.intact(&path, true).then_some(path)
    }

    /// A folder for unfinished work, removed with the guard, or by the next run after a kill.
    pub(super) fn temporary(&self) -> Result<TempDir, SourceError> {
        tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(&self.store.root)
            .map_err(SourceError::io("create a folder in", &self.store.root))
    }

    /// Moves a downloaded package file in.
    pub(super) fn keep_archive(&mut self, from: &Path) -> Result<PathBuf, SourceError> {
        let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let to = self.store.root.join(&name);
        let entry = move_in(from, &to)?;
        self.index.archive = Some((name, entry));
        self.save()?;
        Ok(to)
    }

    /// Moves a downloaded file in as `path`.
    #[cfg(feature = "hub")]
    pub(super) fn keep(&mut self, path: &str, from: &Path) -> Result<(), SourceError> {
        let to = self.place(path)?;
        let entry = move_in(from, &to)?;
        self.index.files.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Writes `content` as `path`, unless a whole copy is here.
    pub(super) fn put(&mut self, path: &str, content: &mut dyn Read) -> Result<(), SourceError> {
        if self.lookup(path).is_some() {
            return Ok(());
        }
        let to = self.place(path)?;
        let mut temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.store.root)
            .map_err(SourceError::io("create a file in", &self.store.root))?;
        let (sha256, _) = hash::copy(content, &mut temporary).map_err(SourceError::io("unpack", &to))?;
        temporary.as_file().sync_all().map_err(SourceError::io("write", &to))?;
        temporary.persist(&to).map_err(|e| SourceError::io("write", &to)(e.error))?;
        let entry = Entry::of(&to, sha256)?;
        self.index.files.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Says that every file below `path` is here.
    pub(super) fn complete(&mut self, path: &str) {
        self.index.folders.insert(path.to_owned());
    }

    /// Makes what was put and kept count.
    pub(super) fn save(&self) -> Result<(), SourceError> {
        let path = self.store.root.join("index.json");
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.store.root)?;
            file.write_all(&serde_json::to_vec_pretty(&self.index)?)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error)?;
            // The renames themselves must survive a power cut; not every system can sync a folder.
            if let Ok(folder) = File::open(&self.store.root) {
                let _ = folder.sync_all();
            }
            Ok(())
        };
        write().map_err(SourceError::io("write", &path))
    }

    fn place(&self, path: &str) -> Result<PathBuf, SourceError> {
        let to = self.store.files().join(path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(SourceError::io("create", parent))?;
        }
        Ok(to)
    }
}

impl Index {
    fn lookup(&mut self, files: &Path, path: &str, rehash: bool) -> Option<Hit> {
        let on_disk = files.join(path);
        if let Some(entry) = self.files.get_mut(path) {
            return entry.intact(&on_disk, rehash).then(|| Hit { path: on_disk, sha256: entry.sha256.clone() });
        }
        if !self.folders.contains(path) {
            return None;
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut sums = Vec::new();
        for (name, entry) in &mut self.files {
            let Some(relative) = name.strip_prefix(&prefix) else { continue };
            if !entry.intact(&files.join(name), rehash) {
                return None;
            }
            sums.push((relative, entry.sha256.as_str()));
        }
        Some(Hit { path: on_disk, sha256: hash::folder_of(sums) })
    }
}

impl Entry {
    fn of(path: &Path, sha256: String) -> Result<Entry, SourceError> {
        let meta = fs::metadata(path).map_err(SourceError::io("read", path))?;
        Ok(Entry { size: meta.len(), modified_ns: modified_ns(&meta), sha256 })
    }

    /// Whether the file is what it was. With `rehash`, another time alone is forgiven where the sum still holds.
    fn intact(&mut self, path: &Path, rehash: bool) -> bool {
        let Ok(meta) = fs::symlink_metadata(path) else { return false };
        if !meta.is_file() || meta.len() != self.size {
            return false;
        }
        if modified_ns(&meta) == self.modified_ns {
            return true;
        }
        let same = rehash && hash::file(path).is_ok_and(|sum| sum == self.sha256);
        if same {
            self.modified_ns = modified_ns(&meta);
        }
        same
    }
}

fn modified_ns(meta: &Metadata) -> u64 {
    meta.modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Syncs, hashes and renames; `from` is on the same file system.
fn move_in(from: &Path, to: &Path) -> Result<Entry, SourceError> {
    let sha256 = hash::file(from)?;
    // Windows syncs only files open for writing.
    let file = OpenOptions::new().write(true).open(from).map_err(SourceError::io("write", from))?;
    file.sync_all().map_err(SourceError::io("write", from))?;
    drop(file);
    fs::rename(from, to).map_err(SourceError::io("write", to))?;
    Entry::of(to, sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_follows_the_environment() {
        let with = |vars: &'static [(&str, &str)]| {
            default_cache(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()))
        };
        assert_eq!(with(&[("LORAC_CACHE", "/c"), ("HOME", "/h")]), Some("/c".into()));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Some("/x/lorac".into()));
        assert_eq!(with(&[("LORAC_CACHE", ""), ("HOME", "/h")]), Some("/h/.cache/lorac".into()));
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn only_saved_and_unchanged_files_count() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("s"));
        assert!(store.quick("a/x").is_none());
        {
            let mut locked = store.lock(None).unwrap();
            locked.put("a/x", &mut "one".as_bytes()).unwrap();
            locked.complete("a");
            // Not saved: as if the run had been killed here.
        }
        assert!(store.root().join("files/a/x").exists());
        assert!(store.quick("a/x").is_none());
        {
            let mut locked = store.lock(None).unwrap();
            locked.put("a/x", &mut "one".as_bytes()).unwrap();
            locked.complete("a");
            locked.save().unwrap();
        }
        assert!(store.quick("a/x").is_some() && store.quick("a").is_some());
        assert!(store.quick("").is_none(), "the whole was never completed");

        let file = store.root().join("files/a/x");
        let old = File::options().write(true).open(&file).unwrap();
        old.set_modified(UNIX_EPOCH).unwrap();
        assert!(store.quick("a").is_none(), "another time needs a look");
        assert!(store.lock(None).unwrap().lookup("a").is_some(), "and the sum still holds");
        fs::write(&file, "two").unwrap();
        assert!(store.lock(None).unwrap().lookup("a").is_none(), "and now it does not");
    }

    #[test]
    fn what_a_killed_run_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        fs::create_dir(dir.path().join(".tmp-old")).unwrap();
        fs::write(dir.path().join(".tmp-old/half.whl"), "half").unwrap();
        fs::write(dir.path().join("index.json"), "{ half").unwrap();
        let mut locked = store.lock(None).unwrap();
        assert!(!dir.path().join(".tmp-old").exists());
        assert!(locked.archive().is_none());
    }
}
