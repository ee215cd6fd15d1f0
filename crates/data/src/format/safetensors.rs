//! Arrays as models store them.

use super::arrays::{Named, rows_of};
use super::{Format, Rows, Written};
use crate::error::DataError;
use crate::file;
use ::safetensors::{Dtype, SafeTensors as Read};
use bytes::Bytes;
use lorac_ir::{DType, Tensor};
use std::path::Path;

/// A [safetensors](https://huggingface.co/docs/safetensors) file of arrays: the first dimension of each is that of the rows, their
/// names are the columns. Errors: `Io`, `NotRegular`, `BadFile`, `ArrayRows`.
pub struct SafeTensors;

/// What it is called in messages.
const NAME: &str = "a safetensors file";

/// Larger files are not read.
const MOST_BYTES: u64 = 64 << 30;

impl Format for SafeTensors {
    fn about(&self) -> &'static str {
        "Arrays of a safetensors file, which are columns and have a row for each example"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["safetensors"]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn has_texts(&self) -> bool {
        false
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        let bytes = Bytes::from(file::read(path, MOST_BYTES)?);
        let bad = |what: String| DataError::BadFile { path: path.to_owned(), format: NAME, what };
        let read = Read::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
        let mut all = Vec::new();
        for (name, view) in read.iter() {
            let dtype = dtype(view.dtype()).ok_or_else(|| {
                bad(format!("its array `{name}` has elements of {:?}, which are not read", view.dtype()))
            });
            let tensor = match written.wants(name) {
                true => {
                    let data = bytes.slice_ref(view.data());
                    let tensor = Tensor::new(dtype?, view.shape().to_vec(), data);
                    Some(tensor.map_err(|e| bad(format!("its array `{name}`: {e}")))?)
                }
                false => None,
            };
            all.push(Named { name: name.to_owned(), tensor });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        rows_of(path, all)
    }
}

fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        Dtype::U16 => DType::U16,
        Dtype::U32 => DType::U32,
        Dtype::U64 => DType::U64,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Cell;
    use ::safetensors::tensor::{TensorView, serialize};

    #[test]
    fn arrays_are_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let (x, y): (Vec<u8>, Vec<u8>) = ((0..6).collect(), vec![3, 4]);
        let view = |dims: &[usize], data: &'static [u8]| TensorView::new(Dtype::U8, dims.to_vec(), data).unwrap();
        let (x, y): (&'static [u8], &'static [u8]) = (x.leak(), y.leak());
        let bytes = serialize([("x", view(&[2, 3], x)), ("y", view(&[2], y))], None).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let rows = SafeTensors.open(&path, &Written::default()).unwrap();
        assert_eq!(rows.columns.as_deref(), Some(&["x", "y"].map(String::from)[..]));
        let second = rows.rows.last().unwrap().unwrap();
        assert_eq!(second.cell("x"), Some(&Cell::Array(Tensor::vector(&[3u8, 4, 5]))));
        assert_eq!((second.cell("y"), second.position), (Some(&Cell::Integer("4".into())), 2));
        std::fs::write(&path, b"\x01\0\0\0\0\0\0\0x").unwrap();
        assert!(matches!(SafeTensors.open(&path, &Written::default()).err(), Some(DataError::BadFile { .. })));
    }
}
