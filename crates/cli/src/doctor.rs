//! What this machine offers.

use lorac::engine::{DEFAULT, LIBRARY_VARIABLE};
use lorac::runtime::{Candidate, Engine, Found, Options, RuntimeError, Search, discover, library_among, open};
use lorac::source::Resolver;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::{Command, Stdio};

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Finding {
    /// What.
    pub(super) what: String,
    /// Whether it can be used.
    pub(super) ok: bool,
    /// What was found, or what to do.
    pub(super) detail: String,
}

/// Looks at the cache, pip, what `auto` means, every other runtime and the memory.
pub(super) fn examine(resolver: &Resolver) -> Vec<Finding> {
    let mut found = vec![cache(resolver), pip(resolver), auto(resolver)];
    let search = Search { caches: vec![resolver.cache.join("pypi")], pythons: resolver.python_programs() };
    for candidate in discover(&search) {
        found.push(runtime(&candidate));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    found.push(Finding { what: "processor".into(), ok: true, detail: format!("{cores} cores for this process") });
    found
}

/// Looks at one library: what a process says of it that has loaded no other.
pub(super) fn library(path: &Path) -> Finding {
    let named = Candidate { engine: Engine::OnnxRuntime(path.to_path_buf()), found: Found::Environment };
    Finding { what: format!("runtime {}", path.display()), ..runtime(&named) }
}

fn runtime(candidate: &Candidate) -> Finding {
    let (ok, detail) = match open(candidate, &Options::default()) {
        Ok(backend) => (true, format!("{} on {}: {}", backend.name(), backend.device(), backend.reason())),
        Err(RuntimeError::AnotherLibrary { asked, .. }) => elsewhere(&asked),
        Err(e) => (false, e.to_string()),
    };
    Finding { what: format!("runtime {candidate}"), ok, detail }
}

/// Whether a process of its own can use a library, and what it says of it: one process loads one.
fn elsewhere(library: &Path) -> (bool, String) {
    let ask = || -> std::io::Result<Option<Finding>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--format", "json", "doctor", "--library"]).arg(library);
        let said = command.stdin(Stdio::null()).stderr(Stdio::null()).output()?.stdout;
        Ok(serde_json::from_slice::<Vec<Finding>>(&said).ok().and_then(|found| found.into_iter().next()))
    };
    match ask() {
        Ok(Some(Finding { ok, detail, .. })) => (ok, detail),
        Ok(None) => (false, "a process that loaded it ended without a word".into()),
        Err(e) => (false, format!("it could not be looked at: {e}")),
    }
}

/// What `runtime.source: auto` means here, without a download.
fn auto(resolver: &Resolver) -> Finding {
    let what = "runtime auto".to_string();
    if let Some(library) = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        let named = Candidate { engine: Engine::OnnxRuntime(library.into()), found: Found::Environment };
        let Finding { ok, detail, .. } = runtime(&named);
        return Finding { what, ok, detail: format!("{named}: {detail}") };
    }
    let mut here = resolver.clone();
    here.offline = true;
    let cached = DEFAULT.parse().and_then(|source| here.resolve(&source, None));
    match cached {
        Ok(found) => match library_among(found.listed()) {
            Some(library) => {
                let Finding { ok, detail, .. } =
                    runtime(&Candidate { engine: Engine::OnnxRuntime(library), found: Found::Cache });
                Finding { what, ok, detail: format!("{DEFAULT}, in the cache: {detail}") }
            }
            None => Finding { what, ok: false, detail: format!("{} holds no library", found.path.display()) },
        },
        Err(_) => {
            let detail = format!("{DEFAULT}, which the first run downloads; without it the embedded engine is used");
            Finding { what, ok: !resolver.offline, detail }
        }
    }
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
    let (ok, detail) = match resolver.pip_version() {
        Some(version) => (true, version),
        None => (false, "no Python with pip: sources of `pypi:` work only once they are cached".to_string()),
    };
    Finding { what: "pip".into(), ok, detail }
}
