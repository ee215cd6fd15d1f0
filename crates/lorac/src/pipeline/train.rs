//! `train:`: how long and how fast the model learns.

use lorac_config::{Check, Problems};
use lorac_passes::{AdamW, OptimizerChoice};
use lorac_train::{LearningRate, Linear, ScheduleChoice};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long and how fast the model learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Passes over the examples, where steps are not given
    pub epochs: f64,
    /// Steps of the whole training: where they are given, they alone decide
    pub steps: Option<usize>,
    /// Batch size: examples of a step
    pub batch: usize,
    /// The optimizer
    pub optimizer: OptimizerChoice,
    /// The learning rate over time
    pub schedule: ScheduleChoice,
    /// Longest gradient (global norm); 0 for any
    pub clip: f64,
    /// Seed of the first parameters and of the order of examples
    pub seed: u64,
    /// Batches of texts of similar length: less padding
    pub by_length: bool,
    /// Examples at once in evaluation
    pub eval_batch: usize,
    /// Steps between checkpoints
    pub checkpoint_every: Option<usize>,
}

impl Default for Train {
    fn default() -> Train {
        Train {
            epochs: 1.0,
            steps: None,
            batch: 16,
            optimizer: AdamW::default().into(),
            schedule: Linear::default().into(),
            clip: 1.0,
            seed: 0,
            by_length: true,
            eval_batch: 32,
            checkpoint_every: None,
        }
    }
}

impl Train {
    /// The longest gradient, where there is a limit.
    pub fn clip(&self) -> Option<f64> {
        (self.clip > 0.0).then_some(self.clip)
    }

    /// Steps of the whole training.
    pub fn total_steps(&self, per_epoch: usize) -> usize {
        self.steps.unwrap_or((self.epochs * per_epoch as f64).round().max(1.0) as usize)
    }

    /// The learning rate over so many steps.
    pub fn learning_rate(&self, total: u64) -> LearningRate {
        LearningRate { lr: self.optimizer.lr(), total, schedule: self.schedule.clone() }
    }
}

impl Check for Train {
    fn check(&self, problems: &mut Problems) {
        problems.positive("epochs", self.epochs, 1e6);
        problems.range("batch", self.batch as f64, 1.0, 1e5);
        problems.range("eval_batch", self.eval_batch as f64, 1.0, 1e5);
        problems.range("clip", self.clip, 0.0, f64::MAX);
        for (key, steps) in [("steps", self.steps), ("checkpoint_every", self.checkpoint_every)] {
            problems.range(key, steps.unwrap_or(1) as f64, 1.0, 1e9);
        }
        problems.within("optimizer", |p| self.optimizer.check(p));
        problems.within("schedule", |p| self.schedule.check(p));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_alone_decide_where_they_are_given() {
        let steps = |epochs, steps| Train { epochs, steps, ..Train::default() }.total_steps(8);
        assert_eq!((steps(1.0, Some(100)), steps(50.0, Some(6))), (100, 6));
        assert_eq!((steps(2.5, None), steps(0.01, None)), (20, 1));
    }
}
