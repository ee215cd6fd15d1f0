//! Sections as the rest of the house has them.

use super::{Pooling, Schedule, Train};
use lorac_passes::{AdamW, Pool};
use lorac_train::Decay;

impl Train {
    /// The optimizer's numbers.
    pub fn passes_adamw(&self) -> AdamW {
        let a = self.optimizer.adamw();
        AdamW {
            beta1: a.beta1,
            beta2: a.beta2,
            eps: a.eps,
            weight_decay: a.weight_decay,
            clip: (self.clip > 0.0).then_some(self.clip),
        }
    }

    /// Steps of the whole training.
    pub fn total_steps(&self, per_epoch: usize) -> usize {
        let all = (self.epochs * per_epoch as f64).round().max(1.0) as usize;
        self.steps.map_or(all, |cap| all.min(cap))
    }

    /// The learning rate over `total` steps.
    pub fn schedule_for(&self, total: u64) -> lorac_train::Schedule {
        let (decay, warmup) = match &self.schedule {
            Schedule::Linear(w) => (Decay::Linear, w.warmup),
            Schedule::Constant(w) => (Decay::Constant, w.warmup),
        };
        let warmup = (warmup * total as f64).round() as u64;
        lorac_train::Schedule { lr: self.optimizer.adamw().lr, warmup, total, decay }
    }
}

impl From<Pooling> for Pool {
    fn from(p: Pooling) -> Pool {
        match p {
            Pooling::Mean => Pool::Mean,
            Pooling::Cls => Pool::Cls,
        }
    }
}
