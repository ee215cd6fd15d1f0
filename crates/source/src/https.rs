//! `https:` sources: one file of a web server, which counts by its sum alone.

#[cfg(feature = "hub")]
use super::hub::{
    http::Client,
    partial::Partial,
    transfer::{Broken, transfer},
};
#[cfg(feature = "hub")]
use super::progress::Work;
#[cfg(feature = "hub")]
use super::spec::file_name;
#[cfg(feature = "hub")]
use super::sums;
use super::{Resolved, Resolver, Source, SourceError};

impl Resolver {
    /// The file at an address, which must have this sum.
    ///
    /// # Errors
    /// No sum; offline, or a build without the feature `hub`, where the cache does not have it; a server that does not
    /// deliver, or delivers something else.
    pub(super) fn https(&self, source: &Source, url: &str, pin: Option<&str>) -> Result<Resolved, SourceError> {
        let sha256 = pin.ok_or_else(|| SourceError::NoPin { spec: url.to_owned() })?;
        match self.by_sum(source, sha256)? {
            Some(found) => Ok(found),
            None if self.offline => {
                let folder = self.cache.join("sha256").join(super::checked_sha256(sha256)?);
                Err(self.not_cached(url, &folder))
            }
            None => self.download(source, url, &super::checked_sha256(sha256)?),
        }
    }

    #[cfg(not(feature = "hub"))]
    fn download(&self, _: &Source, url: &str, _: &str) -> Result<Resolved, SourceError> {
        Err(SourceError::NoHub { spec: url.to_owned() })
    }

    #[cfg(feature = "hub")]
    fn download(&self, source: &Source, url: &str, sha256: &str) -> Result<Resolved, SourceError> {
        let name = file_name(url);
        let store = sums::store(&self.cache, sha256);
        let mut locked = store.lock(self.task(url))?;
        // Another process may have it by now.
        if locked.lookup(name).is_none() {
            let partial = Partial::new(locked.root(), name)?;
            let work = Work::begin(self.progress(), &format!("downloading {name}"));
            let arrived = transfer(&Client::new(None, self.stop), url, &partial, &work);
            let arrived = arrived.map_err(|broken| match broken {
                Broken::Stopped => SourceError::Interrupted { what: format!("the download of {url}") },
                Broken::Answer(reason, status) => failed(url, reason, status),
                Broken::Disk(error) => error,
            })?;
            let got = arrived.ok_or_else(|| failed(url, "there is no such file".to_owned(), Some(404)))?.sha256;
            if got != sha256 {
                partial.remove()?;
                let (spec, path, want) = (url.to_owned(), partial.path().to_owned(), sha256.to_owned());
                return Err(SourceError::Sha256Mismatch { spec, path, want, got });
            }
            locked.keep(name, partial.path(), Some(got))?;
            locked.save()?;
            partial.remove()?;
            // What is in it is kept for the next run, and what is empty is in nobody's way.
            let _ = std::fs::remove_dir(locked.root().join("partial"));
        }
        drop(locked);
        let vanished = || SourceError::Changed { spec: url.to_owned(), path: store.root().to_owned() };
        let found = self.by_sum(source, sha256)?.ok_or_else(vanished)?;
        Ok(Resolved { cached: false, ..found })
    }
}

#[cfg(feature = "hub")]
fn failed(url: &str, reason: String, status: Option<u16>) -> SourceError {
    let hint = match status {
        Some(401 | 403) => {
            "the server wants to know who asks: download the file yourself, and add it by `lorac cache add FILE`"
        }
        Some(404) => "check the address",
        _ => {
            "check the network; what arrived is kept and the next run goes on there; or add the file by `lorac cache add FILE`"
        }
    };
    SourceError::Https { spec: url.to_owned(), reason, hint: hint.to_owned() }
}
