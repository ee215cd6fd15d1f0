//! The engine that a pipeline asks for.

use crate::error::Error;
use crate::source::Resolver;
use lorac_runtime::{
    Backend, Candidate, Found, Options, Search, discover, open_first, open_onnxruntime, wheel_library,
};
use std::path::Path;

/// An engine, and where it comes from.
pub struct Engine {
    /// The engine.
    pub backend: Box<dyn Backend>,
    /// What was asked for, or where it was found.
    pub source: String,
    /// sha256 of what was resolved; empty where nothing was.
    pub sha256: String,
}

/// What an engine is opened from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineChoice<'a> {
    /// The first that works.
    Auto,
    /// The one compiled in.
    Embedded,
    /// A library, a folder that holds one, or a package.
    Source(&'a crate::source::Source, Option<&'a str>),
}

/// Opens an engine.
pub fn open(from: &EngineChoice, options: &Options, resolver: &Resolver) -> Result<Engine, Error> {
    match from {
        EngineChoice::Embedded => {
            let candidate = Candidate { engine: lorac_runtime::Engine::Embedded, found: Found::Embedded };
            let backend = lorac_runtime::open(&candidate, options)?;
            Ok(Engine { backend, source: "embedded".into(), sha256: String::new() })
        }
        EngineChoice::Auto => {
            let found = discover(&Search { caches: vec![resolver.cache.join("pypi")] });
            let opened = open_first(&found, options)?;
            let source = opened.candidate.to_string();
            Ok(Engine { backend: opened.backend, source, sha256: String::new() })
        }
        EngineChoice::Source(source, sha256) => {
            let resolved = resolver.resolve(source, *sha256)?;
            let library = library(&resolved.path)?;
            let backend = open_onnxruntime(&library, options)?;
            Ok(Engine { backend, source: resolved.source, sha256: resolved.sha256 })
        }
    }
}

fn library(path: &Path) -> Result<std::path::PathBuf, Error> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    wheel_library(path)
        .ok_or_else(|| Error::Usage(format!("{} holds no library of ONNX Runtime (libonnxruntime)", path.display())))
}
