//! Accuracy, F1 and loss of a classifier.

use crate::{Dataset, Feeds, TrainError, number};
use lorac_data::{Classification, Sampler};
use lorac_ir::{DType, Tensor};
use lorac_runtime::Program;
use serde::{Deserialize, Serialize};

/// How good a classifier is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Part of the examples whose largest logit is their label's.
    #[serde(deserialize_with = "number")]
    pub accuracy: f64,
    /// F1 of the last class where there are two, else the mean over classes.
    #[serde(deserialize_with = "number")]
    pub f1: f64,
    /// Mean cross-entropy.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Examples.
    pub rows: u64,
}

/// Runs the program, whose output `logits` is `[batch, classes]`, over the whole set in order.
pub fn evaluate_classes(
    program: &mut dyn Program,
    feeds: &Feeds,
    data: &Dataset,
    batch: usize,
    classes: usize,
    mut seen: impl FnMut(usize),
) -> Result<ClassScores, TrainError> {
    let mut totals = Classification::new(classes);
    for rows in Sampler::sequential(data.labels.len(), batch)?.epoch(0) {
        let b = data.batch(&rows, batch)?;
        let tensors = feeds.for_program(program, &b)?;
        let refs: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let out = program.run(&refs, &["logits"])?;
        let logits: Vec<f32> = match out.first() {
            Some(t) if t.dtype() == DType::F32 => t.to_vec()?,
            Some(t) => t.to_f64().unwrap_or_default().into_iter().map(|x| x as f32).collect(),
            None => Vec::new(),
        };
        let real = logits.get(..b.real_rows * classes).unwrap_or(&logits);
        totals.add(real, &b.labels[..b.real_rows])?;
        seen(b.real_rows);
    }
    Ok(ClassScores { accuracy: totals.accuracy(), f1: totals.f1(), loss: totals.loss(), rows: totals.rows() })
}
