//! Downloads through the `hf-hub` client.
//!
//! A path that names a file gives that file (for an ONNX model, with the external data beside it); any other path is
//! taken as a folder, of which the files in [`WELL_KNOWN`] are taken as far as they exist.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Repo, RepoType};

use super::Request;
use crate::progress::Work;
use crate::store::Locked;
use crate::{EXTERNAL_DATA_SUFFIXES, HubKind, Resolver, SourceError, hash};

/// What makes up a model folder; at least one of them must exist.
const WELL_KNOWN: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
];

/// Lists the parts of weights that are too large for one file.
const SHARDS: &str = "model.safetensors.index.json";

impl Request<'_> {
    /// Downloads into the store.
    pub(crate) fn fetch(&self, resolver: &Resolver, locked: &mut Locked<'_>) -> Result<(), SourceError> {
        if resolver.offline {
            return Err(resolver.not_cached(self.spec, locked.root()));
        }
        // Kept on failure, so that the next run goes on where this one stopped.
        let partial = locked.root().join("partial");
        let download = Download { request: self, repo: self.open(resolver, &partial)?, resolver, partial: &partial };
        download.all(locked)?;
        std::fs::remove_dir_all(&partial).map_err(SourceError::io("remove", &partial))
    }

    fn open(&self, resolver: &Resolver, partial: &Path) -> Result<ApiRepo, SourceError> {
        let mut builder = ApiBuilder::new()
            .with_cache_dir(partial.to_owned())
            .with_token(resolver.hub.token.clone())
            .with_user_agent("lorac", env!("CARGO_PKG_VERSION"))
            .with_progress(false);
        if let Some(endpoint) = &resolver.hub.endpoint {
            let url = endpoint.trim_end_matches('/');
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(self.error(url.to_owned(), "`HF_ENDPOINT` is not an http(s) address".to_owned(), None));
            }
            builder = builder.with_endpoint(url.to_owned());
        }
        let api = builder.build().map_err(|e| self.error(self.spec.to_owned(), e.to_string(), None))?;
        let kind = match self.kind {
            HubKind::Model => RepoType::Model,
            HubKind::Dataset => RepoType::Dataset,
        };
        Ok(api.repo(Repo::with_revision(format!("{}/{}", self.org, self.name), kind, self.revision.to_owned())))
    }

    fn error(&self, url: String, reason: String, status: Option<u16>) -> SourceError {
        let hint = match status {
            Some(401 | 403) => {
                "the repository is private, gated or misspelt: accept its terms on its page and set HF_TOKEN"
            }
            Some(404) => "check owner, name, revision and path",
            Some(429) => "the server asks for patience: try later, or set HF_TOKEN",
            _ => {
                "check the network, or set HF_ENDPOINT to a mirror; what arrived is kept and the next run goes on there"
            }
        };
        SourceError::Hub { spec: self.spec.to_owned(), url, reason, hint: hint.to_owned() }
    }
}

struct Download<'a> {
    request: &'a Request<'a>,
    repo: ApiRepo,
    resolver: &'a Resolver,
    partial: &'a Path,
}

impl Download<'_> {
    fn all(&self, locked: &mut Locked<'_>) -> Result<(), SourceError> {
        let path = self.request.path;
        if !path.is_empty() && self.file(path, locked)? {
            if path.ends_with(".onnx") {
                for suffix in EXTERNAL_DATA_SUFFIXES {
                    self.file(&format!("{path}{suffix}"), locked)?;
                }
            }
            return Ok(());
        }
        let within = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        let mut found = 0;
        for name in WELL_KNOWN {
            found += usize::from(self.file(&within(name), locked)?);
        }
        if locked.lookup(&within("model.safetensors")).is_none() && self.file(&within(SHARDS), locked)? {
            found += 1;
            for shard in self.shards(&within(SHARDS), locked)? {
                if !self.file(&within(&shard), locked)? {
                    return Err(self.missing(&within(&shard)));
                }
            }
        }
        if found == 0 {
            return Err(self.missing(path));
        }
        locked.complete(path);
        Ok(())
    }

    /// Downloads one file, unless it is here; false if the server has none of that name.
    fn file(&self, path: &str, locked: &mut Locked<'_>) -> Result<bool, SourceError> {
        if locked.lookup(path).is_some() {
            return Ok(true);
        }
        let blob = match self.blob(path) {
            // What an earlier run left does not fit what the server has now.
            Err(ApiError::InvalidResume) => self.afresh(path),
            Err(ApiError::RequestError(e)) if matches!(*e, ureq::Error::StatusCode(416)) => self.afresh(path),
            other => other,
        };
        let blob = match blob {
            Ok(blob) => blob,
            Err(e) => {
                let status = match &e {
                    ApiError::RequestError(e) => match **e {
                        ureq::Error::StatusCode(status) => Some(status),
                        _ => None,
                    },
                    _ => None,
                };
                return match status {
                    Some(404) => Ok(false),
                    _ => Err(self.request.error(self.repo.url(path), e.to_string(), status)),
                };
            }
        };
        self.check(path, &blob)?;
        locked.keep(path, &blob)?;
        // hf-hub's own links would now lead nowhere.
        for folder in ["snapshots", "refs"] {
            let folder = blob.parent().and_then(Path::parent).map(|repo| repo.join(folder));
            if let Some(folder) = folder {
                let _ = std::fs::remove_dir_all(folder);
            }
        }
        locked.save()?;
        Ok(true)
    }

    fn blob(&self, path: &str) -> Result<PathBuf, ApiError> {
        let work = Work::begin(self.resolver.progress(), &format!("downloading {path}"));
        let blob = self.repo.download_with_progress(path, Bar { work, done: 0, total: 0 })?.canonicalize()?;
        // The names in hf-hub's cache come from the server.
        if !blob.starts_with(self.partial.canonicalize()?) {
            return Err(ApiError::InvalidHeader("etag"));
        }
        Ok(blob)
    }

    fn afresh(&self, path: &str) -> Result<PathBuf, ApiError> {
        std::fs::remove_dir_all(self.partial)?;
        self.blob(path)
    }

    /// Large files carry their sha256 as ETag, which hf-hub makes the blob's name.
    fn check(&self, path: &str, blob: &Path) -> Result<(), SourceError> {
        let name = blob.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.len() != 64 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(());
        }
        let got = hash::file(blob)?;
        if got.eq_ignore_ascii_case(&name) {
            return Ok(());
        }
        std::fs::remove_file(blob).map_err(SourceError::io("remove", blob))?;
        let reason = format!("what arrived has sha256 {got}, and the server promised {name}");
        Err(self.request.error(self.repo.url(path), reason, None))
    }

    fn shards(&self, index: &str, locked: &mut Locked<'_>) -> Result<Vec<String>, SourceError> {
        let bad = |why: &str| self.request.error(self.repo.url(index), why.to_owned(), None);
        let hit = locked.lookup(index).ok_or_else(|| bad("it vanished"))?;
        let bytes = std::fs::read(&hit.path).map_err(SourceError::io("read", &hit.path))?;
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
        let map = json["weight_map"].as_object().ok_or_else(|| bad("it has no `weight_map`"))?;
        let mut names: Vec<String> = map.values().filter_map(|v| v.as_str().map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        let plain = |name: &String| {
            !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if names.iter().all(plain) { Ok(names) } else { Err(bad("it names a file outside its folder")) }
    }

    fn missing(&self, path: &str) -> SourceError {
        let reason = if path.is_empty() {
            "it has none of the files of a model"
        } else {
            "there is no such file or model folder"
        };
        self.request.error(self.repo.url(path), reason.to_owned(), Some(404))
    }
}

/// A download as hf-hub tells of it: in pieces.
struct Bar {
    work: Work,
    done: u64,
    total: u64,
}

impl hf_hub::api::Progress for Bar {
    fn init(&mut self, size: usize, _filename: &str) {
        self.total = size as u64;
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.work.at(self.done, Some(self.total));
    }

    fn finish(&mut self) {}
}
