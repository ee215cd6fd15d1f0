//! The learning rate over time. One file each.

use lorac_config::Problems;

lorac_config::choices! {
    /// The learning rate over time.
    pub enum ScheduleChoice: Schedule {
        linear: Linear,
        constant: Constant,
        cosine: Cosine,
    }
}

/// A learning rate over time: up from zero during a warm-up, then as the schedule says.
pub trait Schedule {
    /// The part of all steps that is warm-up, from 0 to 1.
    fn warmup(&self) -> f64;

    /// The rate after the warm-up, of the highest rate `lr`.
    fn after_warmup(&self, lr: f64, at: Place) -> f64;
}

/// Where a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The step, from 0.
    pub step: u64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps of the whole training.
    pub total: u64,
}

impl Place {
    /// Steps behind the warm-up, at least 1.
    pub fn span(&self) -> u64 {
        self.total.saturating_sub(self.warmup).max(1)
    }
}

/// A schedule for a training of a known length.
#[derive(Clone, Debug, PartialEq)]
pub struct LearningRate {
    /// The highest rate.
    pub lr: f64,
    /// Steps of the whole training.
    pub total: u64,
    /// How it changes.
    pub schedule: ScheduleChoice,
}

impl LearningRate {
    /// The rate of a step, from 0. The warm-up's first step has a rate above zero.
    pub fn at(&self, step: u64) -> f64 {
        let warmup = (self.schedule.warmup() * self.total as f64).round() as u64;
        if step < warmup {
            return self.lr * (step + 1) as f64 / warmup as f64;
        }
        self.schedule.after_warmup(self.lr, Place { step, warmup, total: self.total })
    }
}

/// What every schedule checks.
fn check_warmup(warmup: f64, problems: &mut Problems) {
    problems.range("warmup", warmup, 0.0, 1.0);
}

/// The warm-up of a schedule that does not say.
fn usual_warmup() -> f64 {
    0.06
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates of a training of so many steps, and the one after.
    pub(crate) fn rates(schedule: impl Into<ScheduleChoice>, lr: f64, total: u64) -> Vec<f64> {
        let rate = LearningRate { lr, total, schedule: schedule.into() };
        (0..=total).map(|i| rate.at(i)).collect()
    }

    #[test]
    fn the_warm_up_rises_evenly_to_the_highest_rate() {
        let rates = rates(Constant { warmup: 1.0 / 3.0 }, 1.0, 12);
        assert_eq!(&rates[..5], &[0.25, 0.5, 0.75, 1.0, 1.0]);
    }
}
