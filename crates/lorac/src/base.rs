//! The base model: an `.onnx` file, or a folder from which one is built once and kept in the cache.

use crate::error::Error;
use crate::output::write_atomic;
use crate::source::Resolved;
use lorac_models::Form;
use lorac_onnx::{Model, SaveOptions, load, save};
use std::path::{Path, PathBuf};

/// Models built by another version of the builders are built again.
const BUILDER: &str = concat!("lorac-", env!("CARGO_PKG_VERSION"));

/// The model at a path: the file itself, the only `.onnx` of a folder, or a model built from `config.json` with
/// safetensors or from a `.gguf` file, written below `cache`.
///
/// # Errors
/// Nothing of all that, or several files.
pub fn open(resolved: &Resolved, cache: &Path) -> Result<Model, Error> {
    open_form(resolved, cache, Form::Saved)
}

/// The same; what is built is of a form.
///
/// # Errors
/// As [`open`].
pub fn open_form(resolved: &Resolved, cache: &Path, form: Form) -> Result<Model, Error> {
    let path = &resolved.path;
    if lorac_models::gguf_file(path).is_some() || is_folder_of_weights(path) {
        let suffix = match form {
            Form::Saved => "onnx",
            Form::Base => "base.onnx",
            Form::Pooled => "pooled.onnx",
        };
        let file = built(resolved, cache, suffix)?;
        if !file.is_file() {
            save(&lorac_models::build_form(path, form)?.graph, &file, &SaveOptions::default())?;
        }
        return Ok(load(&file)?);
    }
    if path.is_file() {
        return Ok(load(path)?);
    }
    match onnx_files(path).as_slice() {
        [one] => Ok(load(one)?),
        [] => Err(Error::Usage(format!(
            "{} holds neither an .onnx or .gguf file nor config.json with model.safetensors",
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

/// The model's tokenizer.json: that of its folder, or the one that its `.gguf` file describes, written below `cache`.
pub fn tokenizer(resolved: &Resolved, cache: &Path) -> Result<PathBuf, Error> {
    let path = &resolved.path;
    if let Some(gguf) = lorac_models::gguf_file(path) {
        let file = built(resolved, cache, "tokenizer.json")?;
        if !file.is_file() {
            let json = lorac_models::gguf_tokenizer(&gguf)?;
            write_atomic(&file, json.to_string().as_bytes())?;
        }
        return Ok(file);
    }
    let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
    let file = folder.map(|f| f.join("tokenizer.json")).filter(|f| f.is_file());
    file.ok_or_else(|| {
        Error::Usage(format!("there is no tokenizer.json beside {}: name one under `tokenizer`", resolved.source))
    })
}

/// The `model_type` of the model at a path: its own `config.json`'s, that of the folder of an `.onnx` file, or of the one
/// above where that is called `onnx`.
pub fn model_type(path: &Path) -> Option<String> {
    if let found @ Some(_) = lorac_models::model_type(path) {
        return found;
    }
    let folder = if path.is_dir() { path } else { path.parent()? };
    let above = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "onnx"));
    [Some(folder), above].into_iter().flatten().find_map(lorac_models::model_type)
}

fn is_folder_of_weights(path: &Path) -> bool {
    let has = |name: &str| path.join(name).is_file();
    has("config.json") && (has("model.safetensors") || has("model.safetensors.index.json"))
}

/// Where what is built of a model is kept.
fn built(resolved: &Resolved, cache: &Path, suffix: &str) -> Result<PathBuf, Error> {
    let folder = cache.join("built").join(BUILDER);
    std::fs::create_dir_all(&folder)
        .map_err(|e| Error::Usage(format!("the cache {} cannot be written: {e}", folder.display())))?;
    Ok(folder.join(format!("{}.{suffix}", resolved.sha256)))
}

fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    files.sort();
    files
}
