//! One folder of the cache: the files of one package version or one hub request.
//!
//! - `index.json` is the only authority: a file counts when the index lists it and its size and time agree, or its
//!   sha256 does. So a killed run leaves nothing that is later taken as good, and damage heals by unpacking again.
//! - Everything is written beside its place, synced and renamed. `.lock` is held while anything changes; readers of
//!   a complete entry need no lock and no write permission.
//! - No link is followed below the cache's root, and what is written has the modes that the user's umask leaves.

mod index;
mod lock;
mod place;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Files, SourceError, hash};
use index::{Entry, Index, Look};
pub(super) use lock::Task;
pub(super) use place::{folder, temporary_file, temporary_folder};

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
    cache: PathBuf,
    root: PathBuf,
    /// Sizes and times prove nothing.
    distrusted: bool,
}

/// Content that the index vouches for.
#[derive(Debug)]
pub(super) struct Hit {
    /// The file or folder.
    pub(super) path: PathBuf,
    /// Its sum.
    pub(super) sha256: String,
    /// What it is of.
    pub(super) files: Files,
}

impl Store {
    /// The store at `below` the cache's root; nothing is created yet.
    pub(super) fn new(cache: &Path, below: impl AsRef<Path>) -> Self {
        Self { cache: cache.to_owned(), root: cache.join(below), distrusted: false }
    }

    /// The same; with `distrusted`, every file is read whenever it is looked up, as a pin asks.
    pub(super) fn distrusted(self, distrusted: bool) -> Self {
        Self { distrusted, ..self }
    }

    fn look(&self, otherwise: Look) -> Look {
        if self.distrusted { Look::Bytes } else { otherwise }
    }

    /// Its folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Looks up a complete entry without a lock, trusting sizes and times.
    pub(super) fn quick(&self, path: &str) -> Option<Hit> {
        self.load().lookup(&self.files(), path, self.look(Look::Times))
    }

    /// Looks up a complete entry without a lock; files whose times differ are read. For caches that cannot be written.
    pub(super) fn reread(&self, path: &str) -> Option<Hit> {
        self.load().lookup(&self.files(), path, self.look(Look::TimesOrBytes))
    }

    /// Waits for other processes, then takes the store to change it.
    pub(super) fn lock(&self, task: Task<'_>) -> Result<Locked<'_>, SourceError> {
        fs::create_dir_all(&self.cache).map_err(SourceError::io("create", &self.cache))?;
        folder(&self.cache, &self.root)?;
        let lock = lock::acquire(&self.root, task)?;
        if lock.is_some() {
            place::sweep(&self.root);
        }
        Ok(Locked { store: self, index: self.load(), _lock: lock })
    }

    /// Names of the files that the index lists.
    pub(super) fn names(&self) -> Vec<String> {
        self.load().files.into_keys().collect()
    }

    fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    fn load(&self) -> Index {
        Index::load(&self.root.join("index.json"))
    }
}

/// A store held for change.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    store: &'a Store,
    index: Index,
    _lock: Option<File>,
}

impl Locked<'_> {
    /// Its folder.
    pub(super) fn root(&self) -> &Path {
        &self.store.root
    }

    /// Looks up an entry; a file whose time changed is hashed again.
    pub(super) fn lookup(&mut self, path: &str) -> Option<Hit> {
        self.index.lookup(&self.store.files(), path, self.store.look(Look::TimesOrBytes))
    }

    /// The package file, if it is here and whole.
    pub(super) fn archive(&mut self) -> Option<PathBuf> {
        let (name, entry) = self.index.archive.as_mut()?;
        let path = self.store.root.join(name);
        entry.intact(&path, self.store.look(Look::TimesOrBytes)).map(|_| path)
    }

    /// A folder for unfinished work, removed with the guard, or by the next run after a kill.
    pub(super) fn temporary(&self) -> Result<TempDir, SourceError> {
        temporary_folder(&self.store.root)
    }

    /// Moves a downloaded package file in.
    pub(super) fn keep_archive(&mut self, from: &Path) -> Result<PathBuf, SourceError> {
        let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let to = self.store.root.join(&name);
        let entry = move_in(from, &to, hash::file(from)?)?;
        self.index.archive = Some((name, entry));
        self.save()?;
        Ok(to)
    }

    /// Moves a finished file in as `path`; its sum is taken where none is given.
    pub(super) fn keep(&mut self, path: &str, from: &Path, sha256: Option<String>) -> Result<(), SourceError> {
        let to = self.place(path)?;
        let sha256 = sha256.map_or_else(|| hash::file(from), Ok)?;
        let entry = move_in(from, &to, sha256)?;
        self.index.files.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Writes `content` as `path`, unless a whole copy is here.
    pub(super) fn put(&mut self, path: &str, content: &mut dyn Read) -> Result<(), SourceError> {
        if self.lookup(path).is_some() {
            return Ok(());
        }
        let to = self.place(path)?;
        let mut temporary = temporary_file(&self.store.root)?;
        let (sha256, _) = hash::copy(content, temporary.as_file_mut()).map_err(SourceError::io("unpack", &to))?;
        temporary.as_file().sync_all().map_err(SourceError::io("write", &to))?;
        temporary.persist(&to).map_err(|e| SourceError::io("write", &to)(e.error))?;
        let entry = Entry::of(&to, sha256)?;
        self.index.files.insert(path.to_owned(), entry);
        Ok(())
    }

    /// What the index says counts no more.
    pub(super) fn forget(&mut self) {
        self.index = Index::default();
    }

    /// Says that every file below `path` is here.
    pub(super) fn complete(&mut self, path: &str) {
        self.index.folders.insert(path.to_owned());
    }

    /// Makes what was put and kept count.
    pub(super) fn save(&self) -> Result<(), SourceError> {
        let path = self.store.root.join("index.json");
        let mut file = temporary_file(&self.store.root)?;
        let mut write = || -> io::Result<()> {
            file.as_file_mut().write_all(&serde_json::to_vec_pretty(&self.index)?)?;
            file.as_file().sync_all()
        };
        write().map_err(SourceError::io("write", &path))?;
        file.persist(&path).map_err(|e| SourceError::io("write", &path)(e.error))?;
        // The renames themselves must survive a power cut; not every system can sync a folder.
        if let Ok(folder) = File::open(&self.store.root) {
            let _ = folder.sync_all();
        }
        Ok(())
    }

    /// Where `path` belongs, in a folder that is there.
    fn place(&self, path: &str) -> Result<PathBuf, SourceError> {
        let to = self.store.files().join(path);
        if let Some(parent) = to.parent() {
            folder(&self.store.root, parent)?;
        }
        Ok(to)
    }
}

/// Syncs and renames; `from` is on the same file system.
fn move_in(from: &Path, to: &Path, sha256: String) -> Result<Entry, SourceError> {
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
    use std::time::UNIX_EPOCH;

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
        let store = Store::new(dir.path(), "s");
        assert!(store.quick("a/x").is_none());
        {
            let mut locked = store.lock(Task::default()).unwrap();
            locked.put("a/x", &mut "one".as_bytes()).unwrap();
            locked.complete("a");
            // Not saved: as if the run had been killed here.
        }
        assert!(store.root().join("files/a/x").exists());
        assert!(store.quick("a/x").is_none());
        {
            let mut locked = store.lock(Task::default()).unwrap();
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
        assert!(store.lock(Task::default()).unwrap().lookup("a").is_some(), "and the sum still holds");
        fs::write(&file, "two").unwrap();
        assert!(store.lock(Task::default()).unwrap().lookup("a").is_none(), "and now it does not");
    }

    #[test]
    fn an_index_that_leads_out_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "mine").unwrap();
        let store = Store::new(dir.path(), "s");
        let mut locked = store.lock(Task::default()).unwrap();
        locked.put("x", &mut "mine".as_bytes()).unwrap();
        locked.complete("");
        locked.save().unwrap();
        assert!(store.reread("").is_some());
        let index = store.root().join("index.json");
        let text = fs::read_to_string(&index).unwrap();
        for name in ["../../outside", outside.to_str().unwrap()] {
            fs::write(&index, text.replace("\"x\"", &format!("\"{name}\""))).unwrap();
            assert!(store.reread("").is_none(), "{name}");
        }
    }

    #[test]
    fn what_a_killed_run_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "");
        fs::create_dir(dir.path().join(".tmp-old")).unwrap();
        fs::write(dir.path().join(".tmp-old/half.whl"), "half").unwrap();
        fs::write(dir.path().join("index.json"), "{ half").unwrap();
        let mut locked = store.lock(Task::default()).unwrap();
        assert!(!dir.path().join(".tmp-old").exists());
        assert!(locked.archive().is_none());
    }

    #[test]
    fn a_change_is_noticed_though_size_and_time_are_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "s");
        let mut locked = store.lock(Task::default()).unwrap();
        locked.put("x", &mut "one".as_bytes()).unwrap();
        locked.save().unwrap();
        let file = store.root().join("files/x");
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "two").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
        assert!(store.quick("x").is_none() || cfg!(not(unix)));
        assert!(locked.lookup("x").is_none() || cfg!(not(unix)));
    }

    #[cfg(unix)]
    #[test]
    fn links_in_the_cache_are_not_followed() {
        let (dir, victim) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let link = |place: &str| {
            let place = dir.path().join(place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(victim.path(), &place).unwrap();
            place
        };
        for place in ["pypi", "pypi/a/files", "pypi/a/files/sub", "pypi/a/.lock"] {
            let place = link(place);
            let store = Store::new(dir.path(), "pypi/a");
            let written = store.lock(Task::default()).and_then(|mut l| l.put("sub/x", &mut "one".as_bytes()));
            assert!(matches!(&written, Err(SourceError::CacheLink { path }) if *path == place), "{written:?}");
            fs::remove_file(place).unwrap();
            let _ = fs::remove_file(dir.path().join("pypi/a/.lock"));
        }
        assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);

        // A link in the place of a file is replaced.
        let place = victim.path().join("file");
        fs::write(&place, "mine").unwrap();
        let store = Store::new(dir.path(), "pypi/a");
        for name in ["files/x", "index.json"] {
            fs::create_dir_all(store.root().join("files")).unwrap();
            std::os::unix::fs::symlink(&place, store.root().join(name)).unwrap();
        }
        let mut locked = store.lock(Task::default()).unwrap();
        locked.put("x", &mut "one".as_bytes()).unwrap();
        locked.save().unwrap();
        assert_eq!(fs::read_to_string(place).unwrap(), "mine");
        assert!(store.quick("x").is_some());
    }

    #[cfg(unix)]
    #[test]
    fn files_have_the_modes_that_the_umask_leaves() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        File::create(&plain).unwrap();
        let store = Store::new(dir.path(), "s");
        let mut locked = store.lock(Task::default()).unwrap();
        locked.put("x", &mut "one".as_bytes()).unwrap();
        locked.save().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for name in ["files/x", "index.json"] {
            assert_eq!(mode(&store.root().join(name)), mode(&plain), "{name}");
        }
    }

    #[test]
    fn the_lock_is_waited_for_and_a_wait_can_be_ended() {
        use std::sync::atomic::{AtomicBool, Ordering};
        static STOP: AtomicBool = AtomicBool::new(false);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "s");
        let held = store.lock(Task::default()).unwrap();
        let task = Task { what: "a model", stop: crate::Stop(Some(&STOP)), ..Task::default() };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| store.lock(task).map(drop));
            STOP.store(true, Ordering::Relaxed);
            assert!(matches!(waiting.join().unwrap(), Err(SourceError::Interrupted { what }) if what == "a model"));
        });
        STOP.store(false, Ordering::Relaxed);
        drop(held);
        assert!(store.lock(task).is_ok());
    }
}
