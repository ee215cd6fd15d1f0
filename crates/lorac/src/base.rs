//! The base model: an `.onnx` file, or a folder from which one is built once and kept in the cache.

use crate::error::Error;
use crate::source::{Resolved, Resolver, SourceError};
use lorac_models::{Form, ModelKind};
use lorac_onnx::{Model, SaveOptions, load, save};
use std::path::{Path, PathBuf};

/// Models built by another version of the builders are built again.
const BUILDER: &str = concat!("lorac-", env!("CARGO_PKG_VERSION"));

/// The model at a path: the file itself, the only `.onnx` of a folder, or a model built from `config.json` with
/// safetensors or from a `.gguf` file, kept in the resolver's cache. What is read is what the sum of `resolved` is of.
///
/// # Errors
/// Nothing of all that, or several files.
pub fn open(resolved: &Resolved, resolver: &Resolver) -> Result<Model, Error> {
    open_form(resolved, resolver, Form::Saved)
}

/// The same; what is built is of a form.
///
/// # Errors
/// As [`open`].
pub fn open_form(resolved: &Resolved, resolver: &Resolver, form: Form) -> Result<Model, Error> {
    let model = read(resolved, resolver, form)?;
    resolved.unchanged()?;
    Ok(model)
}

fn read(resolved: &Resolved, resolver: &Resolver, form: Form) -> Result<Model, Error> {
    let path = &resolved.path;
    if lorac_models::gguf_file(path).is_some() || is_folder_of_weights(path) {
        let name = match form {
            Form::Saved => "model.onnx",
            Form::Base => "base.onnx",
            Form::Pooled => "pooled.onnx",
        };
        let file = built(resolved, resolver, name, |file| {
            Ok(save(&lorac_models::build_form(path, form)?.graph, file, &SaveOptions::default())?)
        })?;
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

/// The model's tokenizer.json: that of its folder, or the one that its `.gguf` file describes, kept in the resolver's cache.
pub fn tokenizer(resolved: &Resolved, resolver: &Resolver) -> Result<PathBuf, Error> {
    let path = &resolved.path;
    if let Some(gguf) = lorac_models::gguf_file(path) {
        return built(resolved, resolver, "tokenizer.json", |file| {
            let json = lorac_models::gguf_tokenizer(&gguf)?;
            Ok(std::fs::write(file, json.to_string()).map_err(|error| SourceError::Io {
                action: "write",
                path: file.to_path_buf(),
                error,
            })?)
        });
    }
    let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
    let file = folder.map(|f| f.join("tokenizer.json")).filter(|f| f.is_file());
    file.ok_or_else(|| {
        Error::Usage(format!("there is no tokenizer.json beside {}: name one under `tokenizer`", resolved.source))
    })
}

/// What the configuration of the model at a path says: its own `config.json`'s, that of the folder of an `.onnx` file, or of the one
/// above where that is called `onnx`.
pub fn model_kind(path: &Path) -> Option<ModelKind> {
    if let found @ Some(_) = lorac_models::model_kind(path) {
        return found;
    }
    let folder = if path.is_dir() { path } else { path.parent()? };
    let above = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "onnx"));
    [Some(folder), above].into_iter().flatten().find_map(lorac_models::model_kind)
}

fn is_folder_of_weights(path: &Path) -> bool {
    let has = |name: &str| path.join(name).is_file();
    has("config.json") && (has("model.safetensors") || has("model.safetensors.index.json"))
}

/// A file that is built of a model's content, once for each content.
fn built(
    resolved: &Resolved,
    resolver: &Resolver,
    name: &str,
    build: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let below = Path::new("built").join(BUILDER).join(&resolved.sha256).join(name);
    let what = format!("{name} of {}", resolved.source);
    let file = resolver.build(&below, name, &what, |folder| {
        build(&folder.join(name))?;
        resolved.unchanged()?;
        Ok::<_, Error>(())
    })?;
    Ok(file.path)
}

fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    files.sort();
    files
}
