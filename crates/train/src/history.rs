//! How a training went so far: what its summary needs, of all processes that it took.

use crate::{Kept, Summary, number};
use serde::{Deserialize, Serialize};

/// How a training went, from its first step on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Loss of the first step.
    pub loss_first: Option<f64>,
    /// Losses of the last steps, the newest last: at least the last tenth of all.
    #[serde(skip)]
    pub losses: Vec<f64>,
    /// Tokens, padding excluded.
    pub tokens: u64,
    /// Seconds that the steps took, in all processes.
    pub seconds: f64,
    /// The best evaluation on the way.
    pub best: Option<Best>,
    /// The step behind which the last evaluation on the way was; 0 for none.
    pub evaluated: u64,
    /// What an early end is decided by.
    pub waiting: Option<Waiting>,
    /// The step whose parameters are deployed, where those are not the last.
    pub deployed: Option<u64>,
}

/// Evaluations that got no better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// The score that they are held against; null, in JSON, for NaN.
    #[serde(deserialize_with = "number")]
    pub score: f64,
    /// How many, in a row.
    pub evaluations: u64,
}

/// An evaluation on the way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The step behind which it was.
    pub step: u64,
    /// The score.
    #[serde(deserialize_with = "number")]
    pub score: f64,
}

impl History {
    /// Adds a step of a training of `total` steps.
    pub fn push(&mut self, loss: f64, tokens: u64, total: u64) {
        self.loss_first.get_or_insert(loss);
        self.losses.push(loss);
        self.tokens += tokens;
        let needed = usize::try_from(total.div_ceil(10)).unwrap_or(usize::MAX);
        // Not one by one: dropping the first moves all others.
        if self.losses.len() >= needed.saturating_mul(2) {
            self.losses.drain(..self.losses.len() - needed);
        }
    }

    /// The summary of a training behind so many steps.
    pub fn summary(&self, steps: u64, interrupted: Option<Kept>) -> Summary {
        let tenth = usize::try_from(steps.div_ceil(10)).unwrap_or(usize::MAX);
        let tail = &self.losses[self.losses.len().saturating_sub(tenth)..];
        Summary {
            steps,
            loss_first: self.loss_first.unwrap_or(f64::NAN),
            loss_last: tail.iter().sum::<f64>() / tail.len() as f64,
            seconds: self.seconds,
            tokens: self.tokens,
            interrupted,
            deployed: self.deployed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tenth_is_there_however_long_the_training_is() {
        for total in [1u64, 7, 10, 95, 1000] {
            let mut history = History::default();
            for step in 1..=total {
                history.push(step as f64, 3, total);
                let tenth = step.div_ceil(10);
                let mean = (step - tenth + 1 + step) as f64 / 2.0;
                let summary = history.summary(step, None);
                assert_eq!((summary.loss_first, summary.loss_last, summary.tokens), (1.0, mean, 3 * step), "{step}");
            }
            assert!(history.losses.len() <= 2 * (total as usize).div_ceil(10));
        }
    }
}
