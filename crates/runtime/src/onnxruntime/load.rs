//! Loads the library and keeps the one environment of the process.

use crate::RuntimeError;
use ort::environment::Environment;
use ort::logging::LogLevel;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// The oldest ONNX Runtime with the interface that this crate is compiled against.
const OLDEST: &str = "1.20.0";
/// Messages kept for [`take_log`]; older ones are dropped.
const LOG_LINES: usize = 256;

/// The library of this process.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    /// The second number of the version.
    pub(crate) minor: u32,
    pub(crate) environment: Environment,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);
static LOG: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Takes what ONNX Runtime logged since the last call, warnings and worse. It would otherwise write to stderr.
pub fn take_log() -> Vec<String> {
    lock(&LOG).drain(..).collect()
}

fn log(level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    if level < LogLevel::Warning {
        return;
    }
    let mut log = lock(&LOG);
    if log.len() == LOG_LINES {
        log.pop_front();
    }
    log.push_back(format!("{level:?}: {message} [{location}]"));
}

/// Loads a library, once for the process.
pub(crate) fn load(library: &Path) -> Result<Loaded, RuntimeError> {
    let refuse = |why: String| RuntimeError::NotALibrary { path: library.to_path_buf(), why };
    let path = std::fs::canonicalize(library).map_err(|e| refuse(e.to_string()))?;
    if !path.is_file() {
        return Err(refuse("not a file".to_string()));
    }
    let mut slot = lock(&LOADED);
    if let Some(loaded) = slot.as_ref() {
        if loaded.path == path {
            return Ok(loaded.clone());
        }
        return Err(RuntimeError::AnotherLibrary { loaded: loaded.path.clone(), asked: path });
    }
    let version = probe(&path)?;
    let environment = ort::init_from(&path)
        .map_err(|e| refuse(e.to_string()))?
        .with_name("lorac")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|e| refuse(e.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    let minor = version.split('.').nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
    let loaded = Loaded { path, version, minor, environment };
    *slot = Some(loaded.clone());
    Ok(loaded)
}

/// The version of a library file, asked before `ort` sees it: `ort` panics on a library that is too old.
#[allow(unsafe_code, reason = "a library that is loaded at run time")]
fn probe(path: &Path) -> Result<String, RuntimeError> {
    let refuse = |why: String| RuntimeError::NotALibrary { path: path.to_path_buf(), why };
    // SAFETY: loading runs the library's initializers. The user named this file as a library, and ONNX Runtime's
    // initializers have no preconditions.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| refuse(e.to_string()))?;
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: a library that exports this name is ONNX Runtime, where it has this signature in every version.
    let base = unsafe { library.get::<GetApiBase>(b"OrtGetApiBase\0") };
    let base = base.map_err(|_| refuse("it does not export OrtGetApiBase".to_string()))?;
    // SAFETY: the function takes nothing and returns a pointer to a static structure or null.
    let base = unsafe { base().as_ref() }.ok_or_else(|| refuse("OrtGetApiBase returned nothing".to_string()))?;
    // SAFETY: GetVersionString returns a static, terminated string.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
    // SAFETY: GetApi returns null for a version that the library does not know.
    let api = unsafe { (base.GetApi)(ort::sys::ORT_API_VERSION) };
    // Not unloaded: `ort` is about to load the same file, and ONNX Runtime's threads do not survive unloading.
    std::mem::forget(library);
    if api.is_null() {
        return Err(RuntimeError::TooOld { path: path.to_path_buf(), version, need: OLDEST });
    }
    Ok(version)
}
