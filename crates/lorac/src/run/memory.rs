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
    /// The most rows as long as the longest example, from `least` to `most`, that `graph` computes at once within the limit, by
    /// an estimate of sizes and order: the same in every process of a training.
    ///
    /// # Errors
    /// A limit that the fewest exceed, at its key.
    pub(super) fn rows(&self, graph: &Graph, data: &Dataset, least: usize, most: usize) -> Result<usize, Error> {
        let Some(longest) = data.longest(1).first().copied() else { return Ok(most) };
        let inputs: Vec<String> = graph.inputs().iter().map(|v| graph.name_of(*v)).collect();
        let bytes = |rows: usize| -> Result<u64, Error> {
            let batch = data.batch(&vec![longest; rows], 0)?;
            let tensors = self.feeds.for_inputs(&inputs, &batch)?;
            let shapes: Vec<(String, Vec<usize>)> =
                tensors.into_iter().map(|(name, t)| (name, t.dims().to_vec())).collect();
            Ok(peak_bytes(graph, &shapes)? as u64)
        };
        if bytes(most)? <= self.limit.bytes {
            return Ok(most);
        }
        let needed = bytes(least)?;
        if needed > self.limit.bytes {
            let length = data.pad.length(data.examples[longest].length());
            return Err(self.exceeded(needed, least, length));
        }
        let (mut fits, mut exceeds) = (least, most);
        while exceeds - fits > 1 {
            let middle = fits + (exceeds - fits) / 2;
            if bytes(middle)? <= self.limit.bytes { fits = middle } else { exceeds = middle }
        }
        Ok(fits)
    }

    fn exceeded(&self, needed: u64, rows: usize, length: usize) -> Error {
        let limit = self.limit;
        let size = match needed >> 20 {
            0..10 => format!("{} KiB", needed.div_ceil(1 << 10)),
            _ => format!("{} MiB", needed.div_ceil(1 << 20)),
        };
        let (what, take, fewer) = match rows {
            1 => ("one row".to_string(), "takes", ""),
            rows => (format!("{rows} rows, which are computed at once,"), "take", "train.batch and train.eval_batch, "),
        };
        let message = format!("{what} of {length} tokens {take} about {size}, and the limit is {limit}");
        let help = Some(format!("raise train.memory, lower {fewer}data.max_length, or choose a smaller model"));
        let problem = Problem { path: "train.memory".into(), code: "pipeline::memory", message, help };
        Box::new(self.loaded.errors_at(vec![problem])).into()
    }
}
