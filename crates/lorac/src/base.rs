//! The base model: an `.onnx` file, or a folder from which one is built once and kept in the cache.

use crate::error::Error;
use crate::source::Resolved;
use lorac_onnx::{Model, SaveOptions, load, save};
use std::path::{Path, PathBuf};

/// Models built by another version of the builders are built again.
const BUILDER: &str = concat!("lorac-", env!("CARGO_PKG_VERSION"));

/// The model at a path: the file itself, the only `.onnx` of a folder, or the model of `config.json` and
/// `model.safetensors`, written below `cache`.
pub fn open(resolved: &Resolved, cache: &Path) -> Result<Model, Error> {
    let path = &resolved.path;
    if path.is_file() {
        return Ok(load(path)?);
    }
    if path.join("config.json").is_file() && path.join("model.safetensors").is_file() {
        let folder = cache.join("built").join(BUILDER);
        let file = folder.join(format!("{}.onnx", resolved.sha256));
        if !file.is_file() {
            let built = lorac_models::build(path)?;
            std::fs::create_dir_all(&folder)
                .map_err(|e| Error::Usage(format!("the cache {} cannot be written: {e}", folder.display())))?;
            save(&built.graph, &file, &SaveOptions::default())?;
        }
        return Ok(load(&file)?);
    }
    match onnx_files(path).as_slice() {
        [one] => Ok(load(one)?),
        [] => Err(Error::Usage(format!(
            "{} holds neither an .onnx file nor config.json with model.safetensors",
            path.display()
        ))),
        many => {
            let names: Vec<String> =
                many.iter().filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect();
            let list = names.join(", ");
            Err(Error::Usage(format!("{} holds several models ({list}): name one of them", path.display())))
        }
    }
}

fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    files.sort();
    files
}
