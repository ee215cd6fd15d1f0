//! [GGUF](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3: metadata and named tensors,
//! quantized or not, in one little-endian file.

mod blocks;
mod chat;
mod layout;
mod parse;
mod tokenizer;
mod value;

pub(crate) use blocks::Blocks;
pub use chat::gguf_chat;
pub use tokenizer::gguf_tokenizer;

use crate::ModelError;
use crate::weights::{Stored, map};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use value::Value;

/// A mapped GGUF file.
pub(crate) struct Gguf {
    pub(crate) file: PathBuf,
    values: HashMap<String, Value>,
    /// Dimensions with the one that changes fastest last.
    tensors: HashMap<String, Stored>,
}

/// The GGUF file that `path` stands for: itself by its ending, or the only one of a folder without a `config.json`.
pub fn gguf_file(path: &Path) -> Option<PathBuf> {
    let named = |p: &Path| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    if !path.is_dir() {
        return named(path).then(|| path.into());
    }
    if path.join("config.json").exists() {
        return None;
    }
    let mut files = std::fs::read_dir(path).ok()?.flatten().map(|e| e.path()).filter(|p| named(p) && p.is_file());
    files.next().filter(|_| files.next().is_none())
}

/// Maps `file` and reads all of it but the elements of the tensors.
///
/// # Errors
/// It cannot be read, or it is damaged.
pub(crate) fn open(file: &Path) -> Result<Gguf, ModelError> {
    let bytes = map(file).map_err(|source| ModelError::Read { file: file.into(), source })?;
    let bad = |what| ModelError::Gguf { file: file.into(), what };
    let (values, tensors) = parse::parse(&bytes).map_err(bad)?;
    Ok(Gguf { file: file.into(), values, tensors })
}
