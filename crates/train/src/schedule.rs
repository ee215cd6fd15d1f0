//! Learning rates.

/// What becomes of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// It stays.
    Constant,
    /// It falls to zero at the end of the training.
    Linear,
}

/// The learning rate of every step: up from zero during the warm-up, then down again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub lr: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps of the whole training.
    pub total: u64,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// The rate of the step `step`, from 0. The warm-up's first step has a rate above zero.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / self.warmup as f64;
        }
        match self.decay {
            Decay::Constant => self.lr,
            Decay::Linear => {
                let left = self.total.saturating_sub(step) as f64;
                self.lr * left / self.total.saturating_sub(self.warmup).max(1) as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_evenly_and_falls_to_zero() {
        let s = Schedule { lr: 1.0, warmup: 4, total: 12, decay: Decay::Linear };
        let rates: Vec<f64> = (0..13).map(|i| s.at(i)).collect();
        assert_eq!(&rates[..5], &[0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!((rates[8], rates[12]), (0.5, 0.0));
        assert!(rates[..12].iter().all(|r| *r > 0.0));
    }

    #[test]
    fn no_warmup_starts_at_the_top() {
        let s = Schedule { lr: 2.0, warmup: 0, total: 4, decay: Decay::Constant };
        assert_eq!((s.at(0), s.at(99)), (2.0, 2.0));
    }
}
