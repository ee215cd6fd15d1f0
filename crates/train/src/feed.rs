//! Examples as tensors, under the names that a graph has for them.

use crate::TrainError;
use lorac_data::old::{Batch, collate};
use lorac_data::{Encoded, IGNORE, PadTo};
use lorac_ir::{DType, Dim, Tensor, TensorError};
use lorac_runtime::Program;

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
    /// `position_ids` with its element type.
    pub positions: Option<(String, DType)>,
    /// The labels, i64.
    pub labels: Option<Labels>,
    /// Inputs that take the same in every batch.
    pub constants: Vec<Constant>,
}

/// What is labelled, with the name of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// A class for every row.
    OfRows(String),
    /// Every token is its own label, padding has none: the graph compares it with the logits of the token before.
    OfTokens(String),
}

/// An input of zeros: a cache without an entry, or a switch that is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape, in terms of the batch at most.
    pub dims: Vec<Dim>,
    /// The symbol of the batch in `dims`.
    pub batch: Option<String>,
}

impl Constant {
    /// The tensor for a batch of so many rows.
    pub fn tensor(&self, rows: usize) -> Result<Tensor, TrainError> {
        let size = |name: &str| (Some(name) == self.batch.as_deref()).then_some(rows as i64);
        let dims = self.dims.iter().map(|d| d.eval(&size).and_then(|n| usize::try_from(n).ok()).unwrap_or(0));
        Ok(Tensor::zeros(self.dtype, &dims.collect::<Vec<_>>())?)
    }
}

impl Feeds {
    /// The batch's tensors by name, those that `program` takes.
    pub fn for_program(&self, program: &dyn Program, batch: &Batch) -> Result<Vec<(String, Tensor)>, TrainError> {
        let mut all = self.tensors(batch)?;
        all.retain(|(name, _)| program.inputs().iter().any(|p| p.name == *name));
        Ok(all)
    }

    /// The batch's tensors by name.
    pub fn tensors(&self, batch: &Batch) -> Result<Vec<(String, Tensor)>, TrainError> {
        let dims = [batch.rows, batch.len];
        let positions = self.positions.as_ref().map(|_| positions(batch)).unwrap_or_default();
        let parts = [
            (&self.ids, &batch.input_ids),
            (&self.mask, &batch.attention_mask),
            (&self.types, &batch.token_type_ids),
            (&self.positions, &positions),
        ];
        let mut out = Vec::new();
        for (name, data) in parts {
            if let Some((name, dtype)) = name {
                out.push((name.clone(), cast(*dtype, &dims, data)?));
            }
        }
        match &self.labels {
            Some(Labels::OfRows(name)) => {
                out.push((name.clone(), Tensor::from_slice(&[batch.rows], &batch.labels)?));
            }
            Some(Labels::OfTokens(name)) => out.push((name.clone(), Tensor::from_slice(&dims, &tokens(batch))?)),
            None => {}
        }
        for constant in &self.constants {
            out.push((constant.name.clone(), constant.tensor(batch.rows)?));
        }
        Ok(out)
    }

    /// Inputs that are empty in every batch.
    pub fn caches(&self) -> impl Iterator<Item = &str> {
        let empty = |c: &&Constant| c.dims.contains(&Dim::Known(0));
        self.constants.iter().filter(empty).map(|c| c.name.as_str())
    }
}

/// Places of the tokens in their rows; padding keeps the last one.
fn positions(batch: &Batch) -> Vec<i64> {
    let row = |mask: &[i64]| {
        let mut seen = 0;
        let place = |m: &i64| {
            seen += m;
            (seen - 1).max(0)
        };
        mask.iter().map(place).collect::<Vec<i64>>()
    };
    batch.attention_mask.chunks(batch.len.max(1)).flat_map(row).collect()
}

/// The tokens of rows that stand for an example; [`IGNORE`] for all else.
fn tokens(batch: &Batch) -> Vec<i64> {
    let real = batch.real_rows * batch.len;
    let counted = batch.attention_mask.iter().enumerate().map(|(i, m)| i < real && *m != 0);
    batch.input_ids.iter().zip(counted).map(|(id, counted)| if counted { *id } else { IGNORE }).collect()
}

fn cast(dtype: DType, dims: &[usize], data: &[i64]) -> Result<Tensor, TrainError> {
    if dtype == DType::I64 {
        return Ok(Tensor::from_slice(dims, data)?);
    }
    let floats: Vec<f64> = data.iter().map(|n| *n as f64).collect();
    let got = DType::I64;
    Ok(Tensor::from_f64(dtype, dims, &floats).ok_or(TensorError::DType { want: dtype, got })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_labels_and_padding_is_none() {
        let encoded = [vec![5, 6, 7], vec![8]].map(|ids| Encoded { type_ids: vec![0; ids.len()], ids });
        let pad = PadTo { multiple: 1, ..PadTo::default() };
        let data = Dataset { encoded: encoded.to_vec(), labels: vec![0, 0], pad_id: 9, pad };
        let name = |n: &str| Some((n.to_string(), DType::I64));
        let cache = Constant {
            name: "past".into(),
            dtype: DType::F32,
            dims: vec![Dim::named("N"), Dim::Known(2), Dim::Known(0)],
            batch: Some("N".into()),
        };
        let feeds = Feeds {
            ids: name("input_ids"),
            positions: name("position_ids"),
            labels: Some(Labels::OfTokens("labels".into())),
            constants: vec![cache],
            ..Feeds::default()
        };
        let tensors = feeds.tensors(&data.batch(&[0, 1], 3).expect("fits")).expect("tensors");
        let ints = |i: usize| tensors[i].1.to_vec::<i64>().expect("i64");
        assert_eq!(ints(0), [5, 6, 7, 8, 9, 9, 9, 9, 9]);
        assert_eq!(ints(1), [0, 1, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ints(2), [5, 6, 7, 8, -100, -100, -100, -100, -100]);
        assert_eq!(tensors[3].1.dims(), [3, 2, 0]);
    }
}
