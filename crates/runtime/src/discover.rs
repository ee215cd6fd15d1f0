//! Finds the engines a machine offers and opens the first that works.

use crate::library::{find_libraries, libraries_in};
use crate::{Backend, Options, RuntimeError, open_onnxruntime};
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where to look beyond what the environment says.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Folders that may hold unpacked packages, best first; searched in depth.
    pub caches: Vec<PathBuf>,
    /// Pythons to ask for an installed package, by absolute paths; the first that has one.
    pub pythons: Vec<PathBuf>,
}

/// An engine that may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it is.
    pub engine: Engine,
    /// Where it was found.
    pub found: Found,
}

/// What a candidate is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// A library file of ONNX Runtime.
    OnnxRuntime(PathBuf),
    /// The engine compiled in.
    Embedded,
}

/// Where a candidate was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Named by the environment variable `ORT_DYLIB_PATH`.
    Environment,
    /// In a cache folder.
    Cache,
    /// In an installed Python package.
    Python,
    /// In a folder that the system's loader searches.
    System,
    /// Part of this program.
    Embedded,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.found {
            Found::Environment => "named by ORT_DYLIB_PATH",
            Found::Cache => "in the cache",
            Found::Python => "in the installed Python package",
            Found::System => "in the system's libraries",
            Found::Embedded => "part of this program",
        };
        match &self.engine {
            Engine::OnnxRuntime(path) => write!(f, "{} ({place})", path.display()),
            Engine::Embedded => write!(f, "the embedded engine ({place})"),
        }
    }
}

/// Lists the engines that this machine may offer, in the order to try them: `ORT_DYLIB_PATH`, the caches, an installed
/// Python package, the system, and the embedded engine last. Opens none of them.
pub fn discover(search: &Search) -> Vec<Candidate> {
    let named = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()).map(PathBuf::from);
    let cached = search.caches.iter().flat_map(|folder| find_libraries(folder));
    let python = python_package(&search.pythons).into_iter().flat_map(|folder| libraries_in(&folder.join("capi")));
    let system = system_folders().into_iter().flat_map(|folder| libraries_in(&folder));
    let found = (named.into_iter().map(|p| (p, Found::Environment)))
        .chain(cached.map(|p| (p, Found::Cache)))
        .chain(python.map(|p| (p, Found::Python)))
        .chain(system.map(|p| (p, Found::System)));
    let mut seen = HashSet::new();
    let mut candidates: Vec<Candidate> = found
        .filter(|(path, _)| seen.insert(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())))
        .map(|(path, found)| Candidate { engine: Engine::OnnxRuntime(path), found })
        .collect();
    if cfg!(feature = "embedded") {
        candidates.push(Candidate { engine: Engine::Embedded, found: Found::Embedded });
    }
    candidates
}

/// The folder of the Python package `onnxruntime`, found without importing it. Python runs isolated and not in the folder
/// of this process: nothing that lies there is taken for a package, or run.
fn python_package(pythons: &[PathBuf]) -> Option<PathBuf> {
    const ASK: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
                       print(*(s.submodule_search_locations or ()) if s else ())";
    pythons.iter().filter(|python| python.is_absolute()).find_map(|python| {
        // With `-E` packages of the user alone are found too.
        ["-I", "-E"].iter().find_map(|mode| {
            let home = python.parent()?;
            let ask = Command::new(python).args([mode, "-c", ASK]).current_dir(home).stdin(Stdio::null()).output();
            let answer = ask.ok().filter(|o| o.status.success())?;
            let folder = PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim());
            folder.is_absolute().then_some(folder)
        })
    })
}

fn system_folders() -> Vec<PathBuf> {
    let (variable, fixed): (&str, &[&str]) = if cfg!(windows) {
        ("PATH", &[])
    } else if cfg!(target_vendor = "apple") {
        ("DYLD_LIBRARY_PATH", &["/opt/homebrew/lib", "/usr/local/lib"])
    } else {
        ("LD_LIBRARY_PATH", &["/usr/local/lib", "/usr/lib64", "/usr/lib", "/opt/onnxruntime/lib"])
    };
    let listed = std::env::var_os(variable).unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&listed).filter(|p| p.is_absolute()).collect();
    folders.extend(fixed.iter().map(PathBuf::from));
    if cfg!(target_os = "linux") {
        let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
        folders.push(Path::new("/usr/lib").join(triple));
    }
    folders
}

/// Opens one candidate.
///
/// # Errors
/// Those of [`open_onnxruntime`]; an embedded engine that is to run on a GPU, or that is not compiled in.
pub fn open(candidate: &Candidate, options: &Options) -> Result<Box<dyn Backend>, RuntimeError> {
    match &candidate.engine {
        Engine::OnnxRuntime(path) => open_onnxruntime(path, options),
        #[cfg(feature = "embedded")]
        Engine::Embedded => match options.device {
            crate::DeviceChoice::Auto | crate::DeviceChoice::Cpu => Ok(crate::embedded(options)),
            device => Err(RuntimeError::WrongDevice { backend: "the embedded engine".to_string(), device }),
        },
        #[cfg(not(feature = "embedded"))]
        Engine::Embedded => Err(RuntimeError::NotBuiltIn),
    }
}

/// An engine that was opened, and why it and no other.
#[derive(Debug)]
pub struct Opened {
    /// The engine.
    pub backend: Box<dyn Backend>,
    /// The candidate that it is.
    pub candidate: Candidate,
    /// The candidates tried before, and why each was refused.
    pub refused: Vec<(Candidate, RuntimeError)>,
}

/// Opens the first candidate that works. A process can load only one ONNX Runtime: once one is loaded, another
/// library is refused and the search goes on.
pub fn open_first(candidates: &[Candidate], options: &Options) -> Result<Opened, RuntimeError> {
    let mut refused = Vec::new();
    for candidate in candidates {
        match open(candidate, options) {
            Ok(backend) => return Ok(Opened { backend, candidate: candidate.clone(), refused }),
            Err(why) => refused.push((candidate.clone(), why)),
        }
    }
    Err(RuntimeError::NoEngine { tried: refused.iter().map(|(c, why)| format!("{c}: {why}")).collect() })
}
