//! Recorded tensors.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A tensor as a weight file has it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) dims: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) type Tensors = BTreeMap<String, Stored>;

/// The tensors of a file below `tests/data`.
pub(crate) fn recorded(file: &str) -> Tensors {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let stored = |t: TensorView| Stored { dtype: t.dtype(), dims: t.shape().to_vec(), bytes: t.data().to_vec() };
    file.iter().map(|(name, t)| (name.to_string(), stored(t))).collect()
}

/// The tensors whose names begin with `prefix`, without it.
pub(crate) fn under(prefix: &str, tensors: &Tensors) -> Tensors {
    let named = tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_string(), t.clone())));
    named.collect()
}
