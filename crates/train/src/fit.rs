//! Epochs of steps.

use crate::schedule::LearningRate;
use crate::{Checkpoint, Feeds, Step, TrainError, number};
use lorac_data::{Dataset, Sampler};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What is trained on, and how long.
pub struct Fit<'a> {
    /// The examples.
    pub data: &'a Dataset,
    /// The model's names for a batch.
    pub feeds: &'a Feeds,
    /// Order of the examples; its batches are one step each.
    pub sampler: &'a Sampler,
    /// Rows that every batch is filled up to.
    pub rows: usize,
    /// The learning rate; its `total` is the number of steps.
    pub rate: LearningRate,
    /// Folder of checkpoints.
    pub checkpoints: PathBuf,
    /// Steps between checkpoints; `None` for none but the necessary.
    pub every: Option<u64>,
    /// Set when the user wants to stop: the step under way is finished and a checkpoint saved.
    pub stop: &'a AtomicBool,
}

/// One finished step, as a line of metrics.jsonl has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The step, from 1.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// The loss before the step's update.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Its learning rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    #[serde(deserialize_with = "number")]
    pub grad_norm: f64,
    /// Tokens of the batch, padding excluded.
    pub tokens: u64,
    /// Seconds since the first step began.
    pub seconds: f64,
}

/// A finished training.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Steps taken.
    pub steps: u64,
    /// Loss of the first step.
    pub loss_first: f64,
    /// Mean loss of the last tenth of the steps: one batch alone says little.
    pub loss_last: f64,
    /// Seconds from first to last step.
    pub seconds: f64,
    /// Tokens, padding excluded.
    pub tokens: u64,
    /// The checkpoint of a training that was stopped.
    pub interrupted_at: Option<PathBuf>,
}

/// Steps between copies of the state that leave the device, to go back to.
const COPIED_EVERY: u64 = 32;

/// Trains until the schedule's end, telling `observe` of every step.
///
/// # Errors
/// A loss that is NaN or infinite: parameters that gave one, at most 32 steps old, are saved first.
pub fn fit(
    step: &mut Step,
    fit: &Fit,
    mut observe: impl FnMut(&Event) -> Result<(), TrainError>,
) -> Result<Summary, TrainError> {
    let start = Instant::now();
    let (mut losses, mut tokens) = (Vec::new(), 0u64);
    let per_epoch = fit.sampler.batches_per_epoch().max(1) as u64;
    let mut interrupted_at = None;
    let mut good: Option<Checkpoint> = None;
    'epochs: for epoch in step.taken / per_epoch.. {
        let skip = (step.taken - epoch * per_epoch) as usize;
        for rows in fit.sampler.epoch(epoch).skip(skip) {
            if step.taken >= fit.rate.total {
                break 'epochs;
            }
            if fit.stop.load(Ordering::Relaxed) {
                interrupted_at = Some(Checkpoint::of(step)?.save(&fit.checkpoints)?);
                break 'epochs;
            }
            let batch = fit.data.batch(&rows, fit.rows)?;
            let lr = fit.rate.at(step.taken);
            // Whether parameters are good shows in the step that is computed with them.
            let copied = match step.taken.is_multiple_of(COPIED_EVERY) {
                true => Some(Checkpoint::of(step)?),
                false => None,
            };
            let result = step.run(&fit.feeds.for_program(step.program.as_ref(), &batch)?, lr)?;
            if !result.is_finite() {
                let (loss, norm) = (result.loss, result.norm);
                // A step that is not finite has changed nothing.
                let (kept, good) = match good {
                    _ if loss.is_finite() => (Checkpoint::of(step)?, true),
                    Some(earlier) => (earlier, true),
                    None => (Checkpoint::of(step)?, false),
                };
                let checkpoint = kept.save(&fit.checkpoints)?;
                return Err(TrainError::Diverged { step: step.taken + 1, loss, norm, good, checkpoint });
            }
            good = copied.or(good);
            losses.push(result.loss);
            tokens += batch.tokens as u64;
            observe(&Event {
                step: step.taken,
                epoch: epoch + 1,
                loss: result.loss,
                lr,
                grad_norm: result.norm,
                tokens: batch.tokens as u64,
                seconds: start.elapsed().as_secs_f64(),
            })?;
            if fit.every.is_some_and(|n| n > 0 && step.taken.is_multiple_of(n)) {
                Checkpoint::of(step)?.save(&fit.checkpoints)?;
            }
        }
    }
    let tail = &losses[losses.len() - losses.len().div_ceil(10)..];
    Ok(Summary {
        steps: step.taken,
        loss_first: losses.first().copied().unwrap_or(f64::NAN),
        loss_last: tail.iter().sum::<f64>() / tail.len() as f64,
        seconds: start.elapsed().as_secs_f64(),
        tokens,
        interrupted_at,
    })
}
