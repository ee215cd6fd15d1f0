//! What this machine offers.

use lorac::runtime::{Options, Search, discover, open};
use lorac::source::Resolver;
use serde::Serialize;
use std::process::Command;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// What.
    pub(super) what: String,
    /// Whether it can be used.
    pub(super) ok: bool,
    /// What was found, or what to do.
    pub(super) detail: String,
}

/// Looks at the cache, pip, every runtime and the memory.
pub(super) fn examine(resolver: &Resolver) -> Vec<Finding> {
    let mut found = vec![cache(resolver), pip(resolver)];
    for candidate in discover(&Search { caches: vec![resolver.cache.join("pypi")] }) {
        let (ok, detail) = match open(&candidate, &Options::default()) {
            Ok(backend) => (true, format!("{} on {}: {}", backend.name(), backend.device(), backend.reason())),
            Err(e) => (false, e.to_string()),
        };
        found.push(Finding { what: format!("runtime {candidate}"), ok, detail });
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    found.push(Finding { what: "processor".into(), ok: true, detail: format!("{cores} cores for this process") });
    found
}

fn cache(resolver: &Resolver) -> Finding {
    let path = &resolver.cache;
    let writable = std::fs::create_dir_all(path).and_then(|()| tempfile::NamedTempFile::new_in(path).map(drop));
    let detail = match &writable {
        Ok(()) => format!("{} (LORAC_CACHE chooses another)", path.display()),
        Err(e) => format!("{} cannot be written: {e}; set LORAC_CACHE", path.display()),
    };
    Finding { what: "cache".into(), ok: writable.is_ok(), detail }
}

fn pip(resolver: &Resolver) -> Finding {
    let try_one = |python: &std::path::PathBuf| {
        let out = Command::new(python).args(["-m", "pip", "--version"]).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
    };
    match resolver.pythons.iter().find_map(try_one) {
        Some(version) => Finding { what: "pip".into(), ok: true, detail: version },
        None => {
            let detail = "no Python with pip: sources of `pypi:` work only once they are cached".to_string();
            Finding { what: "pip".into(), ok: false, detail }
        }
    }
}
