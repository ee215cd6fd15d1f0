//! The base model: an `.onnx` file, or a folder from which one is built once and kept in the cache.

mod pair;

pub use pair::open_pair;

use crate::error::Error;
use crate::source::{Resolved, Resolver, SourceError};
use lorac_ir::Graph;
use lorac_models::{Form, ModelKind, model_types};
use lorac_onnx::{Model, SaveOptions, load, save};
use lorac_passes::untie;
use pair::pair_of;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Models built by another version of the builders are built again.
const BUILDER: &str = concat!("lorac-", env!("CARGO_PKG_VERSION"));

/// The model at a path: the file itself, the only `.onnx` of a folder, its encoder and its decoder as one model, or a model built from `config.json` with
/// safetensors or from a `.gguf` file, kept in the resolver's cache. What is read is what the sum of `resolved` is of.
///
/// # Errors
/// Nothing of all that, or several files.
pub fn open(resolved: &Resolved, resolver: &Resolver) -> Result<Model, Error> {
    open_form(resolved, resolver, Form::Saved, false)
}

/// The same; what is built is of a form, and its head a weight of its own where that is asked for.
///
/// # Errors
/// As [`open`].
pub fn open_form(resolved: &Resolved, resolver: &Resolver, form: Form, untied: bool) -> Result<Model, Error> {
    let model = read(resolved, resolver, form, untied)?;
    resolved.unchanged()?;
    resolved.nothing_else()?;
    Ok(model)
}

fn read(resolved: &Resolved, resolver: &Resolver, form: Form, untied: bool) -> Result<Model, Error> {
    let path = &resolved.path;
    let gguf = gguf_file(resolved);
    if gguf.is_some() || is_folder_of_weights(resolved) {
        let name = match form {
            Form::Saved if untied => "untied.onnx",
            Form::Saved => "model.onnx",
            Form::Base => "base.onnx",
            Form::Pooled => "pooled.onnx",
            Form::Cached => "cached.onnx",
        };
        let file = built(resolved, resolver, name, |file| {
            let weights = gguf.as_deref().unwrap_or(path);
            let mut graph = lorac_models::build_form(weights, form)?.graph;
            if untied && form == Form::Saved {
                untie(&mut graph)?;
            }
            Ok(save(&graph, file, &SaveOptions::default())?)
        })?;
        let mut model = load(&file.path)?;
        model.keep = file.folder.map(|folder| Arc::new(folder) as _);
        return Ok(model);
    }
    if path.is_file() {
        return Ok(load(path)?);
    }
    let files = onnx_files(resolved);
    if let Some([encoder, decoder]) = pair_of(path, &files)? {
        return open_pair(&encoder, &decoder);
    }
    match files.as_slice() {
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

/// The graph of a language model with caches, where it is one that is built: its `.onnx` file has none. It has the weights of that
/// once more.
pub(crate) fn with_caches(resolved: &Resolved) -> Option<Graph> {
    let gguf = gguf_file(resolved);
    if gguf.is_none() && !is_folder_of_weights(resolved) {
        return None;
    }
    let weights = gguf.as_deref().unwrap_or(&resolved.path);
    let graph = lorac_models::build_form(weights, Form::Cached).ok()?.graph;
    resolved.unchanged().ok()?;
    Some(graph)
}

/// A file that is there for as long as this.
#[derive(Debug)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// It was built.
    built: bool,
    /// Where it lies, if it is nobody else's.
    folder: Option<TempDir>,
}

impl Kept {
    /// Whether a file beside it may be read with it, as one of `resolved`.
    pub fn is_of(&self, resolved: &Resolved, beside: &Path) -> bool {
        !self.built && resolved.has(beside)
    }
}

/// The model's tokenizer.json: that of its folder, or the one that its `.gguf` file describes, kept in the resolver's cache.
///
/// # Errors
/// There is none.
pub fn tokenizer(resolved: &Resolved, resolver: &Resolver) -> Result<Kept, Error> {
    let path = &resolved.path;
    if let Some(gguf) = gguf_file(resolved) {
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
    let file = folder.map(|f| f.join("tokenizer.json")).filter(|f| f.is_file() && resolved.has(f));
    file.map(|path| Kept { path, built: false, folder: None }).ok_or_else(|| {
        Error::Usage(format!("there is no tokenizer.json beside {}: name one under `tokenizer`", resolved.source))
    })
}

/// What the model's `.gguf` file says of conversations, by the keys of a `tokenizer_config.json`; none where there is no such file.
///
/// # Errors
/// The file cannot be read, or is damaged.
pub fn chat(resolved: &Resolved) -> Result<Option<Map<String, Value>>, Error> {
    Ok(gguf_file(resolved).map(|gguf| lorac_models::gguf_chat(&gguf)).transpose()?)
}

/// What the configuration of the model says, where it is among the files of its source.
pub fn kind_of(resolved: &Resolved) -> Option<ModelKind> {
    kind_within(&resolved.path, &|file| resolved.has(file))
}

/// What the configuration of the model at a path says: its own `config.json`'s, that of the folder of an `.onnx` file, or of the one
/// above where that is called `onnx`.
pub fn model_kind(path: &Path) -> Option<ModelKind> {
    kind_within(path, &|_| true)
}

/// The config.json of the model, where it is among the files of its source, and the file.
pub fn config_of(resolved: &Resolved) -> Option<(PathBuf, Map<String, Value>)> {
    let path = &resolved.path;
    let folder = if path.is_dir() { path.as_path() } else { path.parent()? };
    let above = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "onnx"));
    let files = [Some(folder), above].into_iter().flatten().map(|folder| folder.join("config.json"));
    let file = files.into_iter().find(|file| resolved.has(file))?;
    Some((file.clone(), json_object(&file)?))
}

/// The object that a file of JSON holds, where it is one.
pub(crate) fn json_object(file: &Path) -> Option<Map<String, Value>> {
    const MOST_BYTES: u64 = 64 << 20;
    let small = std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST_BYTES);
    small.then(|| serde_json::from_slice(&std::fs::read(file).ok()?).ok()).flatten()
}

fn kind_within(path: &Path, may_read: &dyn Fn(&Path) -> bool) -> Option<ModelKind> {
    let may_read_of = |path: &Path| match lorac_models::gguf_file(path) {
        Some(file) => may_read(&file),
        None => may_read(&path.join("config.json")),
    };
    let kind = |path: &Path| lorac_models::model_kind(path).filter(|_| may_read_of(path));
    if let found @ Some(_) = kind(path) {
        return found;
    }
    let folder = if path.is_dir() { path } else { path.parent()? };
    let above = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "onnx"));
    [Some(folder), above].into_iter().flatten().find_map(kind)
}

fn gguf_file(resolved: &Resolved) -> Option<PathBuf> {
    lorac_models::gguf_file(&resolved.path).filter(|file| resolved.has(file))
}

fn is_folder_of_weights(resolved: &Resolved) -> bool {
    let has = |name: &str| resolved.has(&resolved.path.join(name));
    let has_weights = has("config.json") && (has("model.safetensors") || has("model.safetensors.index.json"));
    // What cannot be built may lie there as it was exported.
    let is_built = || kind_of(resolved).is_some_and(|kind| model_types().any(|known| known == kind.model_type));
    has_weights && (onnx_files(resolved).is_empty() || is_built())
}

/// A file that is built of a model's content, once for each content; of what is pinned, each time in a folder that nobody
/// else can write to.
fn built(
    resolved: &Resolved,
    resolver: &Resolver,
    name: &str,
    build: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<Kept, Error> {
    if resolved.is_pinned() {
        let named = |error| SourceError::Io { action: "create a folder in", path: std::env::temp_dir(), error };
        let made = tempfile::Builder::new().prefix("lorac-").tempdir().map_err(|e| e.kind().into());
        let folder = made.map_err(named)?;
        let path = folder.path().join(name);
        build(&path)?;
        return Ok(Kept { path, built: true, folder: Some(folder) });
    }
    let below = Path::new("built").join(BUILDER).join(&resolved.sha256).join(name);
    let what = format!("{name} of {}", resolved.source);
    let file = resolver.build(&below, name, &what, |folder| {
        build(&folder.join(name)).map_err(|e| e.placed(folder, folder.parent().unwrap_or(folder)))?;
        resolved.unchanged()?;
        Ok::<_, Error>(())
    })?;
    Ok(Kept { path: file.path, built: true, folder: None })
}

/// The models directly in a folder.
fn onnx_files(resolved: &Resolved) -> Vec<PathBuf> {
    let named = |p: &&Path| p.extension().is_some_and(|e| e == "onnx") && p.parent() == Some(&resolved.path);
    resolved.listed().filter(named).map(Path::to_path_buf).collect()
}
