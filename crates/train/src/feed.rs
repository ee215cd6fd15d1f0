//! Examples as tensors, under the names that a graph has for them.

use crate::TrainError;
use lorac_data::{Batch, Encoded, PadTo, collate};
use lorac_ir::{DType, Tensor};

/// Encoded examples with their labels.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Token ids of every example.
    pub encoded: Vec<Encoded>,
    /// One label an example.
    pub labels: Vec<usize>,
    /// Id of the padding token.
    pub pad_id: i64,
    /// Shape to pad batches to.
    pub pad: PadTo,
}

impl Dataset {
    /// The batch of the examples at `rows`, with `pad.rows` overridden.
    pub fn batch(&self, rows: &[usize], fill: usize) -> Result<Batch, TrainError> {
        let items: Vec<&Encoded> = rows.iter().filter_map(|i| self.encoded.get(*i)).collect();
        let labels: Vec<usize> = rows.iter().filter_map(|i| self.labels.get(*i).copied()).collect();
        Ok(collate(&items, &labels, self.pad_id, &PadTo { rows: fill, ..self.pad })?)
    }
}

/// The graph's names for the parts of a batch; `None` where it does not take one.
#[derive(Clone, Debug, Default)]
pub struct Feeds {
    /// `input_ids` with its element type.
    pub ids: Option<(String, DType)>,
    /// `attention_mask` with its element type.
    pub mask: Option<(String, DType)>,
    /// `token_type_ids` with its element type.
    pub types: Option<(String, DType)>,
    /// The labels, i64.
    pub labels: Option<String>,
}

impl Feeds {
    /// The batch's tensors by name.
    pub fn tensors(&self, batch: &Batch) -> Result<Vec<(String, Tensor)>, TrainError> {
        let dims = [batch.rows, batch.len];
        let parts =
            [(&self.ids, &batch.input_ids), (&self.mask, &batch.attention_mask), (&self.types, &batch.token_type_ids)];
        let mut out = Vec::new();
        for (name, data) in parts {
            if let Some((name, dtype)) = name {
                out.push((name.clone(), cast(*dtype, &dims, data)?));
            }
        }
        if let Some(name) = &self.labels {
            out.push((name.clone(), Tensor::from_slice(&[batch.rows], &batch.labels)?));
        }
        Ok(out)
    }
}

fn cast(dtype: DType, dims: &[usize], data: &[i64]) -> Result<Tensor, TrainError> {
    if dtype == DType::I64 {
        return Ok(Tensor::from_slice(dims, data)?);
    }
    let floats: Vec<f64> = data.iter().map(|n| *n as f64).collect();
    let got = DType::I64;
    Ok(Tensor::from_f64(dtype, dims, &floats).ok_or(lorac_ir::TensorError::DType { want: dtype, got })?)
}
