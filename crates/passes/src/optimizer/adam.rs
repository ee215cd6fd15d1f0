//! Adam (Kingma & Ba 2015), with weight decay as a part of the gradient.

use super::moments::Moments;
use super::{Next, Optimizer, Scalar, State, Terms};
use crate::Layout;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam with weight decay in the gradient (Kingma & Ba 2015; PyTorch's Adam): where there is decay, AdamW is the usual choice
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Adam {
    /// Highest learning rate
    pub lr: f64,
    /// L2 penalty, added to the gradient before the moments
    pub weight_decay: f64,
    /// Decay of the first moment
    pub beta1: f64,
    /// Decay of the second moment
    pub beta2: f64,
    /// Added to the root of the second moment
    pub eps: f64,
}

impl Default for Adam {
    fn default() -> Adam {
        Adam { lr: 5e-4, weight_decay: 0.0, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl Check for Adam {
    fn check(&self, problems: &mut Problems) {
        problems.positive("lr", self.lr, 1.0);
        problems.range("weight_decay", self.weight_decay, 0.0, 10.0);
        self.moments().check(problems);
    }
}

impl Adam {
    fn moments(&self) -> Moments {
        Moments { beta1: self.beta1, beta2: self.beta2, eps: self.eps }
    }
}

impl Optimizer for Adam {
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
        let (step, state) = self.moments().step(terms, terms.penalized(self.weight_decay));
        Next { theta: terms.theta - step, state }
    }
}
