//! Whether there is an NVIDIA GPU, and loading the CUDA libraries a provider needs.

use crate::RuntimeError;
use std::path::{Path, PathBuf};

/// CUDA libraries in the order that their dependencies need; those that a version of the provider does without are
/// simply not there.
const CUDA: [&str; 10] =
    ["cudart", "nvrtc", "nvJitLink", "cublasLt", "cublas", "curand", "cufft", "cusparse", "cudnn_graph", "cudnn"];

/// Why no GPU can be used here; `Ok` where a driver and a device are present.
pub(crate) fn check_gpu() -> Result<(), RuntimeError> {
    let driver = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
    let missing = |why: String, help: &str| Err(RuntimeError::NoGpu { why, help: help.to_string() });
    if let Err(why) = ort::util::preload_dylib(driver) {
        return missing(
            format!("the NVIDIA driver is not installed: {why}"),
            "install the driver, or run on the CPU instead",
        );
    }
    // In a container the driver's library can be there without the device.
    let devices = ["/dev/nvidiactl", "/dev/dxg"];
    if cfg!(target_os = "linux") && !devices.iter().any(|d| Path::new(d).exists()) {
        return missing(
            "the NVIDIA driver is installed but no device is visible".to_string(),
            "start the container with access to the GPU, or run on the CPU instead",
        );
    }
    Ok(())
}

/// Loads the CUDA libraries found in these folders, so that the provider finds them loaded. Returns what failed.
pub(crate) fn preload(folders: &[PathBuf]) -> Vec<String> {
    let files: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|e| e.path()))
        .collect();
    let called = |path: &Path, library: &str| {
        path.file_name().and_then(|n| n.to_str()).is_some_and(|name| {
            let unix =
                name.strip_prefix("lib").and_then(|n| n.strip_prefix(library)).is_some_and(|n| n.starts_with(".so"));
            let windows = name.strip_prefix(library).is_some_and(|n| n.starts_with("64_") && n.ends_with(".dll"));
            unix || windows
        })
    };
    CUDA.iter()
        .flat_map(|library| files.iter().filter(move |path| called(path, library)))
        .filter_map(|path| ort::util::preload_dylib(path).err().map(|why| format!("{}: {why}", path.display())))
        .collect()
}
