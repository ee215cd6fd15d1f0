//! A program over a whole set of held-out examples.

use crate::metric::{Evaluation, Prediction};
use crate::{Feeds, TrainError};
use lorac_data::{Dataset, LABELS, Sampler};
use lorac_ir::{DType, Tensor};
use lorac_passes::{LOSS_COUNT, LOSS_SUM};
use lorac_runtime::Program;

/// What an evaluation reads.
pub struct Evaluate<'a> {
    /// The examples, in order.
    pub data: &'a Dataset,
    /// The model's names for a batch.
    pub feeds: &'a Feeds,
    /// Rows of a batch, filled up.
    pub batch: usize,
    /// What is predicted.
    pub kind: Prediction,
    /// The output that holds it; not read for [`Prediction::Tokens`].
    pub prediction: &'a str,
}

/// Runs a program with the outputs [`LOSS_SUM`], [`LOSS_COUNT`] and the prediction over all examples. `on_batch` is told
/// how many were in each batch.
///
/// # Errors
/// What the engine says.
pub fn evaluate(
    program: &mut dyn Program,
    job: &Evaluate,
    mut on_batch: impl FnMut(usize),
) -> Result<Evaluation, TrainError> {
    let mut found = Evaluation::new(job.kind);
    let predicts = job.kind != Prediction::Tokens;
    let mut fetch = vec![LOSS_SUM, LOSS_COUNT];
    fetch.extend(predicts.then_some(job.prediction));
    for rows in Sampler::sequential(job.data.len(), job.batch)?.epoch(0) {
        let batch = job.data.batch(&rows, job.batch)?;
        let tensors = job.feeds.for_program(program, &batch)?;
        let refs: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let out = program.run(&refs, &fetch)?;
        let number = |i: usize| out.get(i).and_then(|t| t.to_f64()?.first().copied()).unwrap_or(f64::NAN);
        found.loss_sum += number(0);
        found.loss_count += number(1);
        if let Some(prediction) = out.get(2).filter(|_| predicts) {
            let width = prediction.len() / batch.rows.max(1);
            let real = batch.real_rows * width;
            found.width = width;
            found.predictions.extend(reals(prediction)?.into_iter().take(real));
            let targets = batch.get(LABELS).and_then(Tensor::to_f64).unwrap_or_default();
            found.targets.extend(targets.into_iter().take(batch.real_rows));
        }
        on_batch(batch.real_rows);
    }
    Ok(found)
}

fn reals(tensor: &Tensor) -> Result<Vec<f32>, TrainError> {
    Ok(match tensor.dtype() {
        DType::F32 => tensor.to_vec()?,
        _ => tensor.to_f64().unwrap_or_default().into_iter().map(|x| x as f32).collect(),
    })
}
