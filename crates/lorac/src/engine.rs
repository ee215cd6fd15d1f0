//! The engine that a pipeline asks for.

use crate::error::Error;
use crate::source::{Resolved, Resolver, Source, SourceError};
use lorac_runtime::{Backend, Candidate, DeviceChoice, Found, Options, RuntimeError, library_among, open_onnxruntime};
use std::path::PathBuf;

/// The ONNX Runtime that `auto` means.
pub const DEFAULT: &str = "pypi:onnxruntime==1.31.1";

/// The ONNX Runtime that `auto` means where a GPU is asked for.
pub const DEFAULT_CUDA: &str = "pypi:onnxruntime-gpu==1.31.1";

/// Names a library of ONNX Runtime that `auto` takes in place of the default.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// An engine, and where it comes from.
pub struct Engine {
    /// The engine.
    pub backend: Box<dyn Backend>,
    /// What was asked for, or what `auto` means.
    pub source: String,
    /// sha256 of what was resolved; empty where nothing was.
    pub sha256: String,
    /// Why this is the embedded engine and not what `auto` means; results may differ in their last digits.
    pub fallback: Option<String>,
}

impl Engine {
    /// Why programs run on this engine and there, in a sentence.
    pub fn reason(&self) -> String {
        let fallback = self.fallback.iter().map(|why| format!("{why}; "));
        fallback.chain([self.backend.reason().to_string()]).collect()
    }
}

/// What an engine is opened from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineChoice<'a> {
    /// The library that the variable `ORT_DYLIB_PATH` names, else [`DEFAULT`] ([`DEFAULT_CUDA`] where a GPU is asked for),
    /// else the one compiled in, and then [`Engine::fallback`] says why.
    Auto,
    /// The one compiled in.
    Embedded,
    /// A library, a folder that holds one, or a package.
    Source(&'a Source, Option<&'a str>),
}

/// Opens an engine.
pub fn open(from: &EngineChoice, options: &Options, resolver: &Resolver) -> Result<Engine, Error> {
    match from {
        EngineChoice::Embedded => embedded(options, None),
        EngineChoice::Auto => {
            let named = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
            auto(named, options, resolver)
        }
        EngineChoice::Source(source, sha256) => from_source(source, *sha256, options, resolver),
    }
}

/// `named` is a library that the user has set up for all that load one.
fn auto(named: Option<PathBuf>, options: &Options, resolver: &Resolver) -> Result<Engine, Error> {
    if let Some(library) = named {
        return from_source(&Source::Path(library), None, options, resolver);
    }
    let cuda = options.device == DeviceChoice::Cuda;
    let default = if cuda { DEFAULT_CUDA } else { DEFAULT };
    match default.parse().map_err(Error::from).and_then(|source| from_source(&source, None, options, resolver)) {
        Err(error) if !cuda && !matches!(error, Error::Source(SourceError::Interrupted { .. })) => {
            let error = error.to_string();
            let why =
                format!("{default}, which `auto` means, cannot be used: {}", error.lines().next().unwrap_or_default());
            match embedded(options, Some(why.clone())) {
                Err(Error::Runtime(RuntimeError::NotBuiltIn)) => {
                    Err(RuntimeError::NoEngine { tried: vec![why] }.into())
                }
                opened => opened,
            }
        }
        opened => opened,
    }
}

fn embedded(options: &Options, fallback: Option<String>) -> Result<Engine, Error> {
    let candidate = Candidate { engine: lorac_runtime::Engine::Embedded, found: Found::Embedded };
    let backend = lorac_runtime::open(&candidate, options)?;
    Ok(Engine { backend, source: "embedded".into(), sha256: String::new(), fallback })
}

fn from_source(source: &Source, sha256: Option<&str>, options: &Options, resolver: &Resolver) -> Result<Engine, Error> {
    let resolved = resolver.resolve(source, sha256)?;
    let library = library(&resolved)?;
    resolved.unchanged()?;
    // The loader looks for the libraries that a library needs in its folder first.
    if resolved.is_pinned() {
        resolved.nothing_else()?;
    }
    let backend = open_onnxruntime(&library, options)?;
    Ok(Engine { backend, source: resolved.source, sha256: resolved.sha256, fallback: None })
}

/// The library among the files that were hashed: what else lies in the folder is not of the source.
fn library(resolved: &Resolved) -> Result<PathBuf, Error> {
    let path = &resolved.path;
    if path.is_file() {
        return Ok(path.clone());
    }
    library_among(resolved.listed())
        .ok_or_else(|| Error::Usage(format!("{} holds no library of ONNX Runtime (libonnxruntime)", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn offline(cache: &Path) -> Resolver {
        let mut resolver = Resolver::new(Some(cache.to_path_buf()), cache).expect("a resolver");
        resolver.offline = true;
        resolver
    }

    #[cfg(feature = "embedded")]
    #[test]
    fn auto_is_the_default_or_says_why_not_whatever_else_is_there() {
        let cache = tempfile::tempdir().expect("temp");
        // Another version in the cache changes nothing.
        let other = cache.path().join("pypi/onnxruntime/9.9.9/files/onnxruntime/capi");
        std::fs::create_dir_all(&other).expect("a folder");
        std::fs::write(other.join("libonnxruntime.so.9.9.9"), "no library").expect("a file");
        let engine = auto(None, &Options::default(), &offline(cache.path())).expect("embedded");
        assert_eq!(engine.source, "embedded");
        let why = engine.fallback.clone().expect("a fallback");
        assert!(why.contains(DEFAULT) && why.contains("offline") && engine.reason().starts_with(&why), "{why}");
        let asked = open(&EngineChoice::Embedded, &Options::default(), &offline(cache.path())).expect("embedded");
        assert_eq!(asked.fallback, None);
    }

    #[test]
    fn what_the_user_asks_for_has_no_substitute() {
        let cache = tempfile::tempdir().expect("temp");
        let resolver = offline(cache.path());
        let library = cache.path().join("libonnxruntime.so");
        std::fs::write(&library, "no library").expect("a file");
        let named = auto(Some(library), &Options::default(), &resolver).err().expect("no library");
        assert_eq!(named.code(), "runtime::not_a_library");
        let gpu = Options { device: DeviceChoice::Cuda, ..Options::default() };
        let text = auto(None, &gpu, &resolver).err().expect("not cached").to_string();
        assert!(text.contains(DEFAULT_CUDA), "{text}");
    }
}
