//! Files of the cache by their sums: what a pin names needs no network, wherever it is said to come from.

use std::path::Path;

use super::spec::file_name;
use super::store::{Hit, Store};
use super::{Resolved, Resolver, Source, SourceError, checked_sha256, hash};

/// The store of the files with a sum, which is checked.
pub(super) fn store(cache: &Path, sha256: &str) -> Store {
    Store::new(cache, Path::new("sha256").join(sha256)).distrusted(true)
}

/// The name that a source gives its file; none where it is a folder, or nothing that could be a name.
fn name(source: &Source) -> Option<String> {
    let name = match source {
        Source::Pypi { path, .. } | Source::Hf { path, .. } => file_name(path).to_owned(),
        Source::Https { url } => file_name(url).to_owned(),
        Source::Path(path) => path.file_name()?.to_str()?.to_owned(),
    };
    (!name.is_empty() && !name.starts_with('.')).then_some(name)
}

impl Resolver {
    /// Puts a file into the cache under its sum. Whatever source is pinned by it is then found there, without a network, where
    /// it is not found where it is said to be.
    ///
    /// # Errors
    /// A file that is none, that has another sum than `expect`, or that changes meanwhile; those of the cache.
    pub fn add(&self, file: &Path, expect: Option<&str>) -> Result<Resolved, SourceError> {
        let sum = hash::sum(file)?;
        let want = expect.map(checked_sha256).transpose()?;
        if let Some(want) = want.filter(|want| *want != sum.sha256) {
            let (spec, path, got) = (file.display().to_string(), file.to_owned(), sum.sha256);
            return Err(SourceError::Sha256Mismatch { spec, path, want, got });
        }
        let (spec, source) = (file.display().to_string(), Source::Path(file.to_owned()));
        let name = name(&source).unwrap_or_else(|| "file".to_owned());
        let changed = || SourceError::Changed { spec: spec.clone(), path: file.to_owned() };
        let store = store(&self.cache, &sum.sha256);
        let mut locked = store.lock(self.task(&spec))?;
        locked.put(&name, &mut hash::open(file)?)?;
        let hit = locked.lookup(&name).filter(|hit| hit.sha256 == sum.sha256).ok_or_else(changed)?;
        locked.save()?;
        Ok(resolved(hit, spec))
    }

    /// The file with this sum, by the name that the source gives it.
    pub(super) fn by_sum(&self, source: &Source, sha256: &str) -> Result<Option<Resolved>, SourceError> {
        let (Some(name), Ok(sha256)) = (name(source), checked_sha256(sha256)) else { return Ok(None) };
        let (store, spec) = (store(&self.cache, &sha256), source.to_string());
        let right = |hit: &Hit| hit.sha256 == sha256;
        if let Some(hit) = store.quick(&name).filter(right) {
            return Ok(Some(resolved(hit, spec)));
        }
        let Some(other) = store.names().into_iter().find_map(|name| store.quick(&name).filter(right)) else {
            return Ok(None);
        };
        // The end of a name says how a file is to be read: it is put there under this name as well.
        let Ok(mut locked) = store.lock(self.task(&spec)) else { return Ok(Some(resolved(other, spec))) };
        locked.put(&name, &mut hash::open(&other.path)?)?;
        let hit = locked.lookup(&name).filter(right);
        locked.save()?;
        Ok(hit.map(|hit| resolved(hit, spec)))
    }
}

fn resolved(hit: Hit, source: String) -> Resolved {
    let Hit { path, sha256, files } = hit;
    Resolved { path, sha256, cached: true, source, files }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn offline(folder: &Path) -> Resolver {
        let mut resolver = Resolver::new(Some(folder.join("cache")), folder).unwrap();
        resolver.offline = true;
        resolver
    }

    #[test]
    fn what_is_pinned_is_found_by_its_sum_wherever_it_is_said_to_come_from() {
        let dir = tempfile::tempdir().unwrap();
        let resolver = offline(dir.path());
        let file = dir.path().join("a.csv.gz");
        fs::write(&file, "content").unwrap();
        let added = resolver.add(&file, None).unwrap();
        assert_eq!(resolver.add(&file, Some(&added.sha256.to_uppercase())).unwrap(), added);
        fs::remove_file(&file).unwrap();
        for source in [
            "pypi:name==1.0/data/a.csv.gz",
            "hf:datasets/o/n@v1/b.csv.gz",
            "https://host/c.csv.gz?x=1",
            "a.csv.gz",
            "gone/d.gz",
        ] {
            let source: Source = source.parse().unwrap();
            let found = resolver.resolve(&source, Some(&added.sha256)).unwrap();
            assert_eq!(fs::read_to_string(&found.path).unwrap(), "content", "{source}");
            assert_eq!((found.path.file_name().unwrap().to_str(), found.is_pinned()), (name(&source).as_deref(), true));
            assert!(found.unchanged().is_ok() && found.source == source.to_string());
            assert!(resolver.resolve(&source, None).is_err(), "{source}: without a sum, nobody knows");
        }
        let other = resolver.resolve(&"hf:o/n/a.csv.gz".parse().unwrap(), Some(&"0".repeat(64)));
        assert_eq!(other.unwrap_err().code(), "source::not_cached");
    }

    #[test]
    fn what_is_no_file_or_another_is_not_added() {
        let dir = tempfile::tempdir().unwrap();
        let resolver = offline(dir.path());
        assert_eq!(resolver.add(dir.path(), None).unwrap_err().code(), "source::not_regular");
        assert_eq!(resolver.add(&dir.path().join("none"), None).unwrap_err().code(), "source::io");
        let file = dir.path().join("a");
        fs::write(&file, "content").unwrap();
        assert_eq!(resolver.add(&file, Some(&"0".repeat(64))).unwrap_err().code(), "source::sha256");
        assert_eq!(resolver.add(&file, Some("0")).unwrap_err().code(), "source::bad_sha256");
        assert!(!dir.path().join("cache").exists());
    }

    #[test]
    fn what_was_damaged_in_the_cache_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let resolver = offline(dir.path());
        let file = dir.path().join("a");
        fs::write(&file, "content").unwrap();
        let added = resolver.add(&file, None).unwrap();
        fs::remove_file(&file).unwrap();
        let old = fs::metadata(&added.path).unwrap().modified().unwrap();
        fs::write(&added.path, "another").unwrap();
        fs::File::options().write(true).open(&added.path).unwrap().set_modified(old).unwrap();
        let source: Source = "https://host/a".parse().unwrap();
        let damaged = resolver.resolve(&source, Some(&added.sha256));
        assert_eq!(damaged.unwrap_err().code(), "source::not_cached");
        fs::write(&file, "content").unwrap();
        assert!(resolver.add(&file, None).is_ok());
        assert!(resolver.resolve(&source, Some(&added.sha256)).is_ok());
    }
}
