//! Epochs of steps.

use crate::ahead::{Maker, StepBatch, Stream, ahead};
use crate::checkpoint::Keeper;
use crate::evaluations::Evaluated;
use crate::schedule::LearningRate;
use crate::{Checkpoint, Checkpoints, Evaluations, Feeds, History, Kept, State, Step, TrainError, number};
use lorac_data::{Dataset, Sampler, Slicing};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is trained on, and how long.
pub struct Fit<'a> {
    /// The examples; of a stream, some of them, whose padding is that of all.
    pub data: &'a Dataset,
    /// Where batches come from, where the examples are not all there: then the sampler draws none.
    pub stream: Option<&'a dyn Stream>,
    /// The model's names for a batch.
    pub feeds: &'a Feeds,
    /// Order of the examples; its batches are one step each.
    pub sampler: &'a Sampler,
    /// The most of a batch that is computed at once.
    pub slicing: Slicing,
    /// Rows that what is computed at once is filled up to.
    pub rows: usize,
    /// The learning rate; its `total` is the number of steps.
    pub rate: LearningRate,
    /// Where checkpoints go, and when.
    pub checkpoints: &'a Checkpoints,
    /// Hears of a checkpoint that could not be saved: the training goes on without it.
    pub unsaved: &'a dyn Fn(&TrainError),
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
    /// Seconds since the first step began; those between the processes of a resumed training do not count.
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
    pub interrupted: Option<Kept>,
    /// The step whose parameters are deployed, where those are not the last.
    pub deployed: Option<u64>,
}

/// Steps between copies of the state that leave the device, to go back to.
const COPIED_EVERY: u64 = 32;

/// Trains until the schedule's end, or until more steps are in vain, from the step on that `step` is at, telling `observe` of
/// every step. `history` is that of the steps before. Batches are made while the engine computes those before.
///
/// # Errors
/// A loss that is NaN or infinite: parameters that gave one, at most 32 steps old, are saved first.
pub fn fit(
    step: &mut Step,
    history: &mut History,
    fit: &Fit,
    mut evaluations: Option<&mut Evaluations>,
    mut observe: impl FnMut(&Event) -> Result<(), TrainError>,
) -> Result<Summary, TrainError> {
    let inputs = step.program.inputs().iter().map(|port| port.name.clone()).collect();
    let (data, feeds, sampler) = (fit.data, fit.feeds, fit.sampler);
    let maker = Maker { data, stream: fit.stream, feeds, sampler, slicing: fit.slicing, rows: fit.rows, inputs };
    let per_epoch = fit.stream.map_or(sampler.batches_per_epoch() as u64, Stream::batches_per_epoch).max(1);
    let total = fit.rate.total;
    let mut clock = Clock::begin(history.seconds);
    let mut keeper = Keeper::new(fit.checkpoints);
    let mut good: Option<(State, History)> = None;
    let mut has_moved = false;
    let interrupted = ahead(&maker, step.taken, total, |batches| {
        loop {
            let evaluated = match evaluations.as_deref_mut() {
                Some(evaluations) => clock.halted(|| evaluations.behind(step, history, per_epoch, total))?,
                None => Evaluated::NotDue,
            };
            // What is known behind a step is in its checkpoint, which comes last.
            let best = evaluated == Evaluated::Done { best: true };
            if (has_moved || best)
                && evaluated != Evaluated::Interrupted
                && let Err(error) = keeper.behind(step, history, per_epoch, best)
            {
                (fit.unsaved)(&error);
            }
            let over = step.taken >= total || evaluations.as_ref().is_some_and(|e| e.is_over(history));
            if evaluated == Evaluated::Interrupted || (!over && fit.stop.load(Ordering::Relaxed)) {
                let checkpoint = Checkpoint::of(step, history, &fit.checkpoints.about)?;
                return Ok::<_, TrainError>(Some(checkpoint.keep(&fit.checkpoints.folder)));
            }
            let batch = match over {
                true => return Ok(None),
                false => batches.recv(),
            };
            let Ok(batch) = batch else { return Ok(None) };
            // A stream that ends because the user wants to stop is not at fault.
            if batch.is_err() && fit.stop.load(Ordering::Relaxed) {
                continue;
            }
            observe(&one(step, history, fit, &batch?, &mut good, &clock)?)?;
            has_moved = true;
        }
    })?;
    Ok(history.summary(step.taken, interrupted))
}

/// Takes a step. `good` is a state that gave a finite loss, with its history.
fn one(
    step: &mut Step,
    history: &mut History,
    fit: &Fit,
    batch: &StepBatch,
    good: &mut Option<(State, History)>,
    clock: &Clock,
) -> Result<Event, TrainError> {
    let lr = fit.rate.at(step.taken);
    // Whether parameters are good shows in the step that is computed with them.
    let copied = match step.taken.is_multiple_of(COPIED_EVERY) {
        true => Some((State::of(step)?, history.clone())),
        false => None,
    };
    let result = step.run_slices(&batch.slices, lr)?;
    if !result.is_finite() {
        let (loss, norm) = (result.loss, result.norm);
        // A step that is not finite has changed nothing.
        let ((state, history), good) = match good.take() {
            _ if loss.is_finite() => ((State::of(step)?, history.clone()), true),
            Some(earlier) => (earlier, true),
            None => ((State::of(step)?, history.clone()), false),
        };
        let checkpoint = Checkpoint::behind(&state, step, &history, &fit.checkpoints.about)?;
        let checkpoint = checkpoint.keep(&fit.checkpoints.folder);
        return Err(TrainError::Diverged { step: step.taken + 1, loss, norm, good, checkpoint });
    }
    if copied.is_some() {
        *good = copied;
    }
    let tokens = batch.tokens as u64;
    history.push(result.loss, tokens, fit.rate.total);
    history.seconds = clock.seconds();
    let (epoch, seconds) = (batch.epoch + 1, history.seconds);
    Ok(Event { step: step.taken, epoch, loss: result.loss, lr, grad_norm: result.norm, tokens, seconds })
}

/// Seconds of training: those of evaluations on the way do not count.
struct Clock {
    since: Instant,
    before: f64,
    halted: Duration,
}

impl Clock {
    fn begin(before: f64) -> Clock {
        Clock { since: Instant::now(), before, halted: Duration::ZERO }
    }

    fn halted<T>(&mut self, meanwhile: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = meanwhile();
        self.halted += start.elapsed();
        result
    }

    fn seconds(&self) -> f64 {
        self.before + self.since.elapsed().saturating_sub(self.halted).as_secs_f64()
    }
}

#[cfg(test)]
mod tests;
