//! Which files a path of a repository stands for, and their way into the cache.
//!
//! A path that names a file gives that file (for an ONNX model, with the external data beside it); any other path is
//! taken as a folder, of which the files in [`WELL_KNOWN`] are taken as far as they exist.

use super::Request;
use super::http::Client;
use super::partial::Partial;
use super::transfer::{Arrived, Broken, transfer};
use crate::progress::Work;
use crate::store::Locked;
use crate::{EXTERNAL_DATA_SUFFIXES, HubKind, Resolver, SourceError};

/// Where models and data sets are published, unless `HF_ENDPOINT` names another place.
const PUBLIC: &str = "https://huggingface.co";

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
/// Bytes of a list of shards that is read.
const SHARDS_LIMIT: u64 = 64 << 20;
/// Shards of one model.
const MOST_SHARDS: usize = 10_000;

impl Request<'_> {
    /// Downloads into the store.
    pub(crate) fn fetch(&self, resolver: &Resolver, locked: &mut Locked<'_>) -> Result<(), SourceError> {
        if resolver.offline {
            return Err(resolver.not_cached(self.spec, locked.root()));
        }
        let client = Client::new(resolver.hub.token.clone(), resolver.stop);
        let download = Download { request: self, base: self.base(resolver)?, client, resolver };
        download.all(locked)?;
        // What is unfinished is kept on failure, so that the next run goes on where this one stopped.
        let partial = locked.root().join("partial");
        match std::fs::remove_dir_all(&partial) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(SourceError::io("remove", &partial)(e)),
            _ => Ok(()),
        }
    }

    /// The address below which the repository's files are.
    fn base(&self, resolver: &Resolver) -> Result<String, SourceError> {
        let endpoint = resolver.hub.endpoint.as_deref().unwrap_or(PUBLIC).trim_end_matches('/');
        let shown = resolver.hub.endpoint_shown().unwrap_or_default();
        if endpoint.contains(['@', '?', '#']) {
            let reason = "`HF_ENDPOINT` holds more than an address: leave out user name, password and what follows a `?` \
                          or `#`, and give the hub's access token as HF_TOKEN";
            return Err(self.error(shown.to_owned(), reason.to_owned(), None));
        }
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(self.error(shown.to_owned(), "`HF_ENDPOINT` is not an http(s) address".to_owned(), None));
        }
        let kind = match self.kind {
            HubKind::Model => "",
            HubKind::Dataset => "datasets/",
        };
        let revision = escaped(self.revision, false);
        Ok(format!("{endpoint}/{kind}{}/{}/resolve/{revision}", self.org, self.name))
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
    base: String,
    client: Client,
    resolver: &'a Resolver,
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
        let partial = Partial::new(locked.root(), path)?;
        let Some(sha256) = self.download(path, &partial)? else { return Ok(false) };
        locked.keep(path, partial.path(), Some(sha256))?;
        locked.save()?;
        Ok(true)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{}", self.base, escaped(path, true))
    }

    /// Downloads into `partial`, from where an earlier run stopped; the sha256, or none if the server has no such file.
    fn download(&self, path: &str, partial: &Partial) -> Result<Option<String>, SourceError> {
        let work = Work::begin(self.resolver.progress(), &format!("downloading {path}"));
        let url = self.url(path);
        let arrived = transfer(&self.client, &url, partial, &work).map_err(|broken| match broken {
            Broken::Stopped => SourceError::Interrupted { what: format!("the download of {}", self.request.spec) },
            Broken::Answer(reason, status) => self.request.error(url.clone(), reason, status),
            Broken::Disk(error) => error,
        })?;
        let Some(Arrived { sha256, tag }) = arrived else { return Ok(None) };
        match promised(tag.as_deref()) {
            Some(promise) if !promise.eq_ignore_ascii_case(&sha256) => {
                partial.remove()?;
                let reason = format!("what arrived has sha256 {sha256}, and the server promised {promise}");
                Err(self.request.error(url, reason, None))
            }
            _ => Ok(Some(sha256)),
        }
    }

    fn shards(&self, index: &str, locked: &mut Locked<'_>) -> Result<Vec<String>, SourceError> {
        let bad = |why: &str| self.request.error(self.url(index), why.to_owned(), None);
        let hit = locked.lookup(index).ok_or_else(|| bad("it vanished"))?;
        let size = std::fs::metadata(&hit.path).map_err(SourceError::io("read", &hit.path))?.len();
        if size > SHARDS_LIMIT {
            return Err(bad(&format!("it has {size} bytes, and {SHARDS_LIMIT} are the most")));
        }
        let bytes = std::fs::read(&hit.path).map_err(SourceError::io("read", &hit.path))?;
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
        let map = json["weight_map"].as_object().ok_or_else(|| bad("it has no `weight_map`"))?;
        let mut names: Vec<String> = map.values().filter_map(|v| v.as_str().map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        if names.len() > MOST_SHARDS {
            return Err(bad(&format!("it names {} files, and {MOST_SHARDS} are the most", names.len())));
        }
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
        self.request.error(self.url(path), reason.to_owned(), Some(404))
    }
}

/// Large files carry their sha256 as their tag.
fn promised(tag: Option<&str>) -> Option<&str> {
    tag.filter(|tag| tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A part of an address; slashes stay where they part.
fn escaped(text: &str, slashes: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'~' | b'=' | b'@' | b'+' => {
                out.push(byte as char)
            }
            b'/' if slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
