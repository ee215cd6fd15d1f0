//! `train.memory`: how many rows are computed at once within a limit.

use crate::error::Error;
use crate::pipeline::{Loaded, MemoryLimit};
use lorac_config::Problem;
use lorac_data::Dataset;
use lorac_ir::Graph;
use lorac_passes::peak_bytes;
use lorac_train::Feeds;

/// What a limit is held against.
pub(super) struct Within<'a> {
    /// The pipeline.
    pub(super) loaded: &'a Loaded,
    /// The limit.
    pub(super) limit: MemoryLimit,
    /// The model's names for a batch.
    pub(super) feeds: &'a Feeds,
}

impl Within<'_> {
    /// The most rows like the only one of `row`, from `least` to `most`, that `graph` computes at once within the limit, by an
    /// estimate of sizes and order: the same in every process of a training.
    ///
    /// # Errors
    /// A limit that the fewest exceed, at its key.
    pub(super) fn rows(&self, graph: &Graph, row: &Dataset, least: usize, most: usize) -> Result<usize, Error> {
        match self.fitting(graph, row, most)? {
            fits if fits >= least => Ok(fits),
            _ => Err(self.exceeded(self.bytes(graph, row, least)?, least, padded(row))),
        }
    }

    /// The most rows, up to `most`, that fit, 0 where not even one does.
    ///
    /// # Errors
    /// A row that is none of the graph's.
    pub(super) fn fitting(&self, graph: &Graph, row: &Dataset, most: usize) -> Result<usize, Error> {
        if row.is_empty() || self.bytes(graph, row, most)? <= self.limit.bytes {
            return Ok(most);
        }
        let (mut fits, mut exceeds) = (0, most);
        while exceeds - fits > 1 {
            let middle = fits + (exceeds - fits) / 2;
            if self.bytes(graph, row, middle)? <= self.limit.bytes { fits = middle } else { exceeds = middle }
        }
        Ok(fits)
    }

    /// What so many rows take.
    ///
    /// # Errors
    /// A row that is none of the graph's.
    pub(super) fn bytes(&self, graph: &Graph, row: &Dataset, rows: usize) -> Result<u64, Error> {
        let inputs: Vec<String> = graph.inputs().iter().map(|v| graph.name_of(*v)).collect();
        let batch = row.batch(&vec![0; rows], 0)?;
        let tensors = self.feeds.for_inputs(&inputs, &batch)?;
        let shapes: Vec<(String, Vec<usize>)> =
            tensors.into_iter().map(|(name, t)| (name, t.dims().to_vec())).collect();
        Ok(peak_bytes(graph, &shapes)? as u64)
    }

    /// The error of so many rows, the fewest that may be computed at once.
    pub(super) fn exceeded(&self, needed: u64, rows: usize, tokens: usize) -> Error {
        let limit = self.limit;
        let size = match needed >> 20 {
            0..10 => format!("{} KiB", needed.div_ceil(1 << 10)),
            _ => format!("{} MiB", needed.div_ceil(1 << 20)),
        };
        let of = of_tokens(tokens);
        let what = match rows {
            1 => format!("one row{of} takes"),
            rows => format!("{rows} rows{of}, which are computed at once, take"),
        };
        let message = format!("{what} about {size}, and the limit is {limit}");
        let batches = if rows > 1 { "train.batch and train.eval_batch, " } else { "" };
        let length = if tokens > 0 { "data.max_length, " } else { "" };
        let lower = if rows > 1 || tokens > 0 { "lower " } else { "" };
        let help = Some(format!("raise train.memory, {lower}{batches}{length}or choose a smaller model"));
        let problem = Problem { path: "train.memory".into(), code: "pipeline::memory", message, help };
        Box::new(self.loaded.errors_at(vec![problem])).into()
    }
}

/// Tokens of a row, padding included: 0 where it has none, whatever it would be padded to.
pub(super) fn padded(row: &Dataset) -> usize {
    match row.lengths().into_iter().max() {
        None | Some(0) => 0,
        Some(longest) => row.pad.length(longest),
    }
}

/// How long rows are, in words; nothing where they have no tokens.
pub(super) fn of_tokens(tokens: usize) -> String {
    if tokens > 0 { format!(" of {tokens} tokens") } else { String::new() }
}
