//! AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019).

use super::moments::Moments;
use super::{Next, Optimizer, Scalar, State, Terms};
use crate::Layout;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam with decoupled weight decay (Loshchilov & Hutter 2019)
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// Highest learning rate
    pub lr: f64,
    /// Decoupled weight decay
    pub weight_decay: f64,
    /// Decay of the first moment
    pub beta1: f64,
    /// Decay of the second moment
    pub beta2: f64,
    /// Added to the root of the second moment
    pub eps: f64,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW { lr: 5e-4, weight_decay: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl Check for AdamW {
    fn check(&self, problems: &mut Problems) {
        problems.positive("lr", self.lr, 1.0);
        problems.range("weight_decay", self.weight_decay, 0.0, 10.0);
        self.moments().check(problems);
    }
}

impl AdamW {
    fn moments(&self) -> Moments {
        Moments { beta1: self.beta1, beta2: self.beta2, eps: self.eps }
    }
}

impl Optimizer for AdamW {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn state(&self, layout: &Layout) -> Vec<State> {
        Moments::state(layout)
    }

    fn scalars(&self) -> Vec<Scalar> {
        self.moments().scalars()
    }

    fn update<'e, 'g>(&self, terms: &Terms<'e, 'g>) -> Next<'e, 'g> {
        let (step, state) = self.moments().step(terms, terms.grad);
        Next { theta: terms.decayed(self.weight_decay) - step, state }
    }
}
