//! What is made from a source once and kept in the cache: models from folders of weights.

use std::path::Path;

use super::store::{Locked, Store};
use super::{Resolved, Resolver, SourceError};

impl Resolver {
    /// The file `name` that `build` makes, kept in the folder `below` of the cache. One process builds, others wait for it;
    /// what was damaged since is built again. `build` gets an empty folder and leaves there `name` and the files that
    /// belong to it; `what` says to those who wait what it makes.
    ///
    /// # Errors
    /// Those of `build`, and those of the cache.
    pub fn build<E: From<SourceError>>(
        &self,
        below: &Path,
        name: &str,
        what: &str,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Resolved, E> {
        let store = Store::new(&self.cache, below);
        let found = |hit: super::Hit, cached| {
            let (path, sha256, files) = (hit.path.join(name), hit.sha256, hit.files);
            Resolved { path, sha256, cached, source: what.to_owned(), files }
        };
        if let Some(hit) = store.quick("") {
            return Ok(found(hit, true));
        }
        let mut locked = match store.lock(self.task(what)) {
            Ok(locked) => locked,
            Err(error) => return store.reread("").map(|hit| found(hit, true)).ok_or_else(|| error.into()),
        };
        if let Some(hit) = locked.lookup("") {
            locked.save()?;
            return Ok(found(hit, true));
        }
        let folder = locked.temporary()?;
        build(folder.path())?;
        let hit = keep_all(&mut locked, folder.path())?;
        Ok(found(hit, false))
    }
}

/// Moves everything in a folder in.
fn keep_all(locked: &mut Locked<'_>, folder: &Path) -> Result<super::Hit, SourceError> {
    locked.forget();
    for entry in std::fs::read_dir(folder).map_err(SourceError::io("read", folder))? {
        let entry = entry.map_err(SourceError::io("read", folder))?;
        locked.keep(&entry.file_name().to_string_lossy(), &entry.path(), None)?;
    }
    locked.complete("");
    locked.save()?;
    let vanished = || std::io::Error::from(std::io::ErrorKind::NotFound);
    locked.lookup("").ok_or_else(|| SourceError::io("find what was built in", locked.root())(vanished()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn resolver(cache: &Path) -> Resolver {
        Resolver::new(Some(cache.to_owned()), cache).unwrap()
    }

    #[test]
    fn one_builds_and_the_others_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (started, builds) = (Barrier::new(12), AtomicUsize::new(0));
        let all: Vec<Resolved> = std::thread::scope(|scope| {
            let one = || {
                // A resolver each: as processes have.
                let resolver = resolver(dir.path());
                started.wait();
                resolver.build(Path::new("built/a"), "model.onnx", "a model", |folder| {
                    builds.fetch_add(1, Ordering::SeqCst);
                    fs::write(folder.join("model.onnx"), "half").unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    fs::write(folder.join("model.onnx"), "whole").unwrap();
                    fs::write(folder.join("model.onnx.data"), "weights").unwrap();
                    Ok::<_, SourceError>(())
                })
            };
            let threads: Vec<_> = (0..12).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });
        assert_eq!(builds.load(Ordering::SeqCst), 1);
        assert!(all.iter().all(|found| fs::read(&found.path).unwrap() == b"whole" && found.sha256 == all[0].sha256));
    }

    #[test]
    fn damage_and_half_a_build_are_built_again() {
        let dir = tempfile::tempdir().unwrap();
        let resolver = resolver(dir.path());
        let build = |fails: bool| {
            resolver.build(Path::new("built/a"), "m", "a model", |folder| {
                fs::write(folder.join("m"), "right").unwrap();
                if fails { Err(SourceError::NoCacheDir) } else { Ok(()) }
            })
        };
        assert!(build(true).is_err());
        let first = build(false).unwrap();
        assert!(!first.cached && build(true).unwrap().cached);
        fs::write(&first.path, "wrong").unwrap();
        let healed = build(false).unwrap();
        assert_eq!((fs::read_to_string(&healed.path).unwrap().as_str(), healed.cached), ("right", false));
        fs::remove_file(&first.path).unwrap();
        assert!(build(false).unwrap().path.exists());
    }
}
