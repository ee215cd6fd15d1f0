//! The learning rate over time. One file each.

mod final_rate;
mod warmup;

use lorac_config::Problems;

pub use final_rate::FinalRate;
pub use warmup::Warmup;

lorac_config::choices! {
    /// The learning rate over time.
    pub enum ScheduleChoice: Schedule {
        linear: Linear,
        constant: Constant,
        cosine: Cosine,
        polynomial: Polynomial,
        inverse_sqrt: InverseSqrt,
    }
}

/// A learning rate over time: up from zero during a warm-up, then as the schedule says.
pub trait Schedule {
    /// The steps that are warm-up.
    fn warmup(&self) -> Warmup;

    /// The rate after the warm-up, of the highest rate `lr`.
    fn after_warmup(&self, lr: f64, at: Place) -> f64;

    /// The key of the rate that it ends at, and that rate, where it can be chosen.
    fn final_rate(&self) -> Option<(&'static str, FinalRate)> {
        None
    }
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

    /// The part of the steps behind the warm-up that are done, at most 1.
    pub fn part(&self) -> f64 {
        (self.step.saturating_sub(self.warmup) as f64 / self.span() as f64).min(1.0)
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
    /// The rate of a step, from 0. The warm-up's first step has a rate above zero: step i of a warm-up of w steps has
    /// `lr (i + 1) / w`, where transformers has `lr i / w` and does nothing in its first step.
    pub fn at(&self, step: u64) -> f64 {
        let warmup = self.schedule.warmup().steps(self.total);
        if step < warmup {
            return self.lr * (step + 1) as f64 / warmup as f64;
        }
        self.schedule.after_warmup(self.lr, Place { step, warmup, total: self.total })
    }
}

/// What every schedule checks.
fn check_warmup(warmup: Warmup, problems: &mut Problems) {
    warmup.check("warmup", problems);
}

/// The warm-up of a schedule that does not say.
fn usual_warmup() -> Warmup {
    Warmup::Share(0.06)
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
        for warmup in [Warmup::Share(1.0 / 3.0), Warmup::Steps(4)] {
            assert_eq!(&rates(Constant { warmup }, 1.0, 12)[..5], &[0.25, 0.5, 0.75, 1.0, 1.0]);
        }
    }

    /// tests/truth/schedules.py: transformers' rates for 30 steps with a warm-up of 5 and without one. In the warm-up they
    /// are those of the step before.
    #[test]
    fn rates_are_those_of_transformers() {
        let truth: Vec<(String, Vec<f64>)> = include_str!("../../../../tests/data/truth/schedules/rates.txt")
            .lines()
            .map(|line| {
                let mut words = line.split_whitespace();
                let name = words.next().expect("a name").to_string();
                (name, words.map(|w| w.parse().expect("a number")).collect())
            })
            .collect();
        let (lr, total) = (1e-3, 30);
        for warmup in [0u64, 5] {
            let w = Warmup::Steps(warmup);
            let (tenth, rate) = (FinalRate::Share(0.1), FinalRate::Rate(1e-5));
            let schedules: [(&str, ScheduleChoice); 9] = [
                ("linear", Linear { warmup: w }.into()),
                ("constant", Constant { warmup: w }.into()),
                ("cosine", Cosine { warmup: w, ..Cosine::default() }.into()),
                ("cosine_min", Cosine { warmup: w, min: tenth, restarts: 0 }.into()),
                ("cosine_restarts", Cosine { warmup: w, restarts: 2, ..Cosine::default() }.into()),
                ("polynomial", Polynomial { warmup: w, power: 2.0, end: rate }.into()),
                ("polynomial_root", Polynomial { warmup: w, power: 0.5, end: rate }.into()),
                ("inverse_sqrt", InverseSqrt { warmup: w, timescale: None }.into()),
                ("inverse_sqrt_3", InverseSqrt { warmup: w, timescale: Some(3) }.into()),
            ];
            for (name, schedule) in schedules {
                let key = format!("{name}_{warmup}");
                let (_, want) = truth.iter().find(|(n, _)| *n == key).unwrap_or_else(|| panic!("no {key}"));
                let rate = LearningRate { lr, total, schedule };
                for (i, want) in want.iter().enumerate().skip(usize::from(warmup > 0)) {
                    let step = if i as u64 <= warmup && warmup > 0 { i - 1 } else { i };
                    let got = rate.at(step as u64);
                    assert!((got - want).abs() <= 1e-12, "{key}, step {i}: {got}, expected {want}");
                }
                assert_eq!(want.len(), 31, "{key}");
            }
        }
    }
}
