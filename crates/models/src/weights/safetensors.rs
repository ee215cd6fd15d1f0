//! `model.safetensors`, or the several files that `model.safetensors.index.json` lists.

use super::{Form, Stored, Weights, map};
use crate::{Fault, ModelError};
use ::safetensors::{Dtype, SafeTensors};
use lorac_ir::DType;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path};

const ONE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Maps the weight files of `folder`.
///
/// # Errors
/// One of them cannot be read, or its header does not describe it.
pub(crate) fn open(folder: &Path) -> Result<Weights, ModelError> {
    let (one, index) = (folder.join(ONE), folder.join(INDEX));
    let mut tensors = HashMap::new();
    if one.exists() || !index.exists() {
        add(&one, &mut tensors)?;
        return Ok(Weights::new(&one, tensors));
    }
    for name in shards(&index)? {
        add(&folder.join(name), &mut tensors)?;
    }
    Ok(Weights::new(&index, tensors))
}

/// The names of the files that an index lists.
fn shards(index: &Path) -> Result<BTreeSet<String>, ModelError> {
    let fault = |field: &str, want: &str, got: String| {
        let faults = vec![Fault { field: field.into(), want: want.into(), got }];
        ModelError::Config { file: index.into(), faults }
    };
    let fields = crate::config::fields(index)?;
    let Some(map) = fields.get("weight_map").and_then(Value::as_object) else {
        let got = fields.get("weight_map").map_or_else(|| "absent".into(), Value::to_string);
        return Err(fault("weight_map", "files by tensor", got));
    };
    let name = |(tensor, file): (&String, &Value)| match file.as_str() {
        Some(name) if beside(name) => Ok(name.to_string()),
        _ => Err(fault(&format!("weight_map.{tensor}"), "the name of a file beside it", file.to_string())),
    };
    map.iter().map(name).collect()
}

fn beside(name: &str) -> bool {
    matches!(Path::new(name).components().collect::<Vec<_>>().as_slice(), [Component::Normal(one)] if *one == name)
}

fn add(file: &Path, tensors: &mut HashMap<String, Stored>) -> Result<(), ModelError> {
    let bytes = map(file).map_err(|source| ModelError::Read { file: file.into(), source })?;
    let bad = |source| ModelError::Safetensors { file: file.into(), source };
    let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
    let data = bytes.slice(size_of::<u64>() + header..);
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let form = Form::Plain(dtype(info.dtype));
        tensors.insert(name, Stored { dims: info.shape.clone(), form, paired: None, bytes: data.slice(start..end) });
    }
    Ok(())
}

fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        _ => DType::Opaque,
    }
}
